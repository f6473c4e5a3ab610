//! Whether anything had to be done.

use serde::Serialize;

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The target was as declared.
    Unchanged,
    /// The target was brought to the declared state.
    Changed,
}

impl Change {
    /// `Changed` when either is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unchanged, Self::Unchanged) => Self::Unchanged,
            _ => Self::Changed,
        }
    }
}
