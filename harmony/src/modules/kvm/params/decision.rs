//! What was decided, and why.

use std::fmt;

use serde::Serialize;

/// One knob of a machine: its value and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The knob's name.
    pub knob: &'static str,
    /// Its value.
    pub value: String,
    /// Why it has that value.
    pub reason: String,
}

/// Every decision of a resolution, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Decisions(Vec<Decision>);

impl Decisions {
    /// Notes a decision, and gives its value on.
    pub(super) fn note<T: fmt::Display>(
        &mut self,
        knob: &'static str,
        value: T,
        reason: impl Into<String>,
    ) -> T {
        self.0.push(Decision {
            knob,
            value: value.to_string(),
            reason: reason.into(),
        });
        value
    }

    /// The decisions.
    pub fn iter(&self) -> std::slice::Iter<'_, Decision> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Decisions {
    type Item = &'a Decision;
    type IntoIter = std::slice::Iter<'a, Decision>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Decisions {
    /// A table: knob, value, reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Decision) -> &str| {
            let widths = self.0.iter().map(|d| text(d).chars().count());
            widths.max().unwrap_or(0)
        };
        let (knobs, values) = (width(|d| d.knob), width(|d| &d.value));
        for Decision {
            knob,
            value,
            reason,
        } in self
        {
            writeln!(f, "{knob:<knobs$}  {value:<values$}  {reason}")?;
        }
        Ok(())
    }
}
