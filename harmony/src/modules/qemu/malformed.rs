//! A text or a value that is not what it should be.

/// A text or a value that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} '{value}' (expected {expected})")]
pub struct Malformed {
    /// What was to be given.
    pub what: &'static str,
    /// What was given, shortened.
    pub value: String,
    /// What it must look like.
    pub expected: &'static str,
}

impl Malformed {
    /// With the value cut to what a reader needs.
    pub(super) fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        Self {
            what,
            value: value.chars().take(120).collect(),
            expected,
        }
    }
}
