//! What can be wrong with a recipe.

use std::fmt;
use std::io;
use std::path::PathBuf;

use harmony_base::words::NulInWord;

use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::VmArchitecture;

/// A recipe could not be read, is not valid, or cannot be planned as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A recipe that cannot be read.
    #[error("cannot read the recipe {path}")]
    Read {
        /// The recipe.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A recipe that is no TOML.
    #[error("{path}:{line}:{column}: {message}")]
    Syntax {
        /// The recipe.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A recipe that breaks rules: all of them.
    #[error("{path}: {}", join(violations))]
    Invalid {
        /// The recipe.
        path: PathBuf,
        /// The broken rules, in the order of their lines.
        violations: Vec<RecipeViolation>,
    },
    /// A recipe without a base image for the architecture.
    #[error(
        "the recipe has no base image for {architecture} (expected base.catalog or base.{architecture})"
    )]
    NoBase {
        /// What was asked for.
        architecture: VmArchitecture,
    },
    /// A profile that the recipe does not have for the architecture.
    #[error(
        "the recipe has no profile '{profile}' for {architecture} (expected {})",
        one_of(known)
    )]
    UnknownProfile {
        /// What was asked for.
        profile: String,
        /// For which architecture.
        architecture: VmArchitecture,
        /// The profiles that it has.
        known: Vec<String>,
        /// The one that is written most alike.
        nearest: Option<String>,
    },
    /// A build input that names no file.
    #[error("build input '{pattern}' matches no file below {root}")]
    NoInput {
        /// The glob.
        pattern: String,
        /// The directory that it is relative to.
        root: PathBuf,
    },
    /// A build input that leads out of its directory.
    #[error("build input {path} is outside of {root}")]
    InputOutside {
        /// The file.
        path: PathBuf,
        /// The directory that inputs are in.
        root: PathBuf,
    },
    /// Build inputs that are too many.
    #[error("build input '{pattern}' matches more than {bound} files")]
    TooManyInputs {
        /// The glob.
        pattern: String,
        /// The bound.
        bound: usize,
    },
    /// A build input that cannot be read.
    #[error("cannot read the build input {path}")]
    Input {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A value that no script can have.
    #[error(transparent)]
    Word(#[from] NulInWord),
}

/// A rule that a recipe breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeViolation {
    /// The line, counted from 1; none for a recipe that was not read from text.
    pub line: Option<usize>,
    /// The field's path, for example `services.mask[2]`.
    pub field: String,
    /// The value that was given; none where the key itself is wrong.
    pub value: Option<String>,
    /// What is allowed.
    pub expected: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for RecipeViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match &self.value {
            Some(value) => write!(f, "{} is '{value}'", self.field)?,
            None => write!(f, "unknown key {}", self.field)?,
        }
        write!(f, " (expected {})", self.expected)
    }
}

fn join(violations: &[RecipeViolation]) -> String {
    let all: Vec<_> = violations.iter().map(ToString::to_string).collect();
    all.join("; ")
}

fn one_of(known: &[String]) -> String {
    if known.is_empty() {
        return "no profile".to_owned();
    }
    known.join(", ")
}

impl HintedError for RecipeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Input { .. } => ErrorKind::Failed,
            _ => ErrorKind::InvalidRequest,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { violations, .. } => {
                let mut fixes: Vec<&str> = violations.iter().map(|v| v.fix.as_str()).collect();
                fixes.dedup();
                Some(fixes.join("; "))
            }
            Self::UnknownProfile {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean '{nearest}'?")),
            Self::NoInput { .. } => Some(
                "globs are relative to the recipe's directory; remove the ones that are not needed"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
