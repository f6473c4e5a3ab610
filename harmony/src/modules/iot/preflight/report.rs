//! What a preflight found.

use std::fmt;

use serde::Serialize;

use crate::domain::error::{ErrorKind, ExecutorError, HintedError};

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum CheckResult {
    /// As it should be.
    Ok {
        /// What was found.
        detail: String,
    },
    /// It will work, but not well.
    Warn {
        /// What was found.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// It cannot work.
    Fail {
        /// What was found.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// It was not looked at.
    Skipped {
        /// Why not.
        reason: String,
    },
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A short name.
    pub name: &'static str,
    /// What it is needed for.
    pub why: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub result: CheckResult,
}

/// All checks, in the order in which a run needs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreflightReport {
    /// The checks.
    pub checks: Vec<Check>,
}

impl PreflightReport {
    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| matches!(check.result, CheckResult::Fail { .. }))
    }

    /// The report, unless a check failed.
    ///
    /// # Errors
    /// [`PreflightFailed`] with the whole report.
    pub fn into_result(self) -> Result<Self, ExecutorError> {
        if self.failures().next().is_none() {
            Ok(self)
        } else {
            Err(PreflightFailed { report: self }.into())
        }
    }
}

impl fmt::Display for PreflightReport {
    /// A table: one line a check, and a line for each remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let (mark, text, hint) = match &check.result {
                CheckResult::Ok { detail } => ("ok  ", detail, None),
                CheckResult::Warn { cause, hint } => ("warn", cause, Some(hint)),
                CheckResult::Fail { cause, hint } => ("FAIL", cause, Some(hint)),
                CheckResult::Skipped { reason } => ("skip", reason, None),
            };
            writeln!(f, "{mark}  {:<12} {text}", check.name)?;
            if let Some(hint) = hint {
                writeln!(f, "      {:<12} needed for {}; {hint}", "", check.why)?;
            }
        }
        Ok(())
    }
}

/// At least one check failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host cannot run the device yet: {}", failed_names(report))]
pub struct PreflightFailed {
    /// Every check, also those that passed.
    pub report: PreflightReport,
}

fn failed_names(report: &PreflightReport) -> String {
    let causes: Vec<String> = report
        .failures()
        .map(|check| match &check.result {
            CheckResult::Fail { cause, .. } => format!("{} ({cause})", check.name),
            _ => check.name.to_owned(),
        })
        .collect();
    causes.join("; ")
}

impl HintedError for PreflightFailed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    fn hint(&self) -> Option<String> {
        let hints: Vec<&str> = self
            .report
            .failures()
            .filter_map(|check| match &check.result {
                CheckResult::Fail { hint, .. } => Some(hint.as_str()),
                _ => None,
            })
            .collect();
        Some(hints.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, CheckResult, PreflightFailed, PreflightReport};
    use crate::domain::error::{ErrorKind, ExecutorError};

    fn report() -> PreflightReport {
        let check = |name, result| Check {
            name,
            why: "testing",
            result,
        };
        PreflightReport {
            checks: vec![
                check(
                    "one",
                    CheckResult::Ok {
                        detail: "here".to_owned(),
                    },
                ),
                check(
                    "two",
                    CheckResult::Fail {
                        cause: "gone".to_owned(),
                        hint: "bring it".to_owned(),
                    },
                ),
                check(
                    "three",
                    CheckResult::Warn {
                        cause: "old".to_owned(),
                        hint: "renew it".to_owned(),
                    },
                ),
                check(
                    "four",
                    CheckResult::Skipped {
                        reason: "not asked".to_owned(),
                    },
                ),
            ],
        }
    }

    #[test]
    fn a_failure_carries_every_finding() {
        let error: ExecutorError = report().into_result().expect_err("two failed");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.hint(), Some("bring it"));
        let failed = error
            .downcast_ref::<PreflightFailed>()
            .expect("its own type");
        assert_eq!(failed.report.checks.len(), 4);
        assert_eq!(
            error.to_string(),
            "this host cannot run the device yet: two (gone)"
        );
    }

    #[test]
    fn warnings_and_skips_do_not_fail() {
        let mut report = report();
        report.checks.remove(1);
        assert_eq!(report.clone().into_result().expect("no failure"), report);
    }

    #[test]
    fn the_table_and_the_json() {
        assert_eq!(
            report().to_string(),
            "ok    one          here\n\
             FAIL  two          gone\n\
            \x20                  needed for testing; bring it\n\
             warn  three        old\n\
            \x20                  needed for testing; renew it\n\
             skip  four         not asked\n"
        );
        let json = serde_json::to_value(report()).expect("serialisable");
        assert_eq!(json["checks"][1]["result"], "fail");
        assert_eq!(json["checks"][1]["hint"], "bring it");
    }
}
