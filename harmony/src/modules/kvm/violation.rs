//! Broken rules, collected.

/// One rule that is broken: the field, the value, what is expected and how to get there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is '{value}' (expected {expected})")]
pub struct Violation {
    /// The field's path in the spec, for example `disks[2].tag`.
    pub field: String,
    /// The value that was given.
    pub value: String,
    /// What is allowed.
    pub expected: String,
    /// What to do.
    pub fix: String,
}

impl Violation {
    /// A violation whose fix is to give the field what is expected.
    pub fn new(
        field: impl Into<String>,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        let (field, expected) = (field.into(), expected.into());
        Self {
            fix: format!("set {field} to {expected}"),
            value: value.to_string(),
            field,
            expected,
        }
    }

    /// The same with a better fix.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// The same below another field: `tag` becomes `disks[2].tag`.
    #[must_use]
    pub(super) fn below(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

/// Collects violations, so that all are reported at once.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    /// Keeps the value, or the violation.
    pub(super) fn keep<T>(&mut self, result: Result<T, Violation>) -> Option<T> {
        result.map_err(|violation| self.0.push(violation)).ok()
    }

    /// Notes a violation unless the rule holds.
    pub(super) fn require(&mut self, holds: bool, violation: impl FnOnce() -> Violation) {
        if !holds {
            self.0.push(violation());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}
