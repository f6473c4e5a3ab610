//! What can go wrong while an image is built from a plan.

use std::time::Duration;

use super::BuilderKind;
use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
use crate::modules::image::error::ImageError;

/// An image could not be built. Nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Its base could not be had, a program failed, a file could not be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A base that this builder does not know how to make.
    #[error("base '{base}' cannot be built {builder} (expected {expected})")]
    UnsupportedBase {
        /// The base.
        base: String,
        /// The builder.
        builder: BuilderKind,
        /// What it can build.
        expected: &'static str,
    },
    /// A step of the set-up script failed.
    #[error(
        "the set-up failed in {place}, which said:\n{output}{}",
        console_part(console)
    )]
    StepFailed {
        /// Which step.
        place: String,
        /// Its last lines.
        output: String,
        /// The last lines of the guest's console.
        console: Option<String>,
    },
    /// The set-up ended without saying that it was done.
    #[error("the set-up ended in {place}: {how}{}", console_part(console))]
    Unfinished {
        /// Which step.
        place: String,
        /// How it ended.
        how: String,
        /// The last lines of the guest's console.
        console: Option<String>,
    },
    /// The set-up took too long.
    #[error(
        "the guest was in {place} when {awaited} did not come within {} s{}",
        bound.as_secs(),
        console_part(console)
    )]
    TimedOut {
        /// What was awaited.
        awaited: &'static str,
        /// The bound.
        bound: Duration,
        /// Which step.
        place: String,
        /// The last lines of the guest's console.
        console: Option<String>,
    },
    /// The guest could not be made, started, or removed.
    #[error("the build's virtual machine failed")]
    Machine {
        /// Why.
        #[source]
        source: ExecutorError,
    },
}

fn console_part(console: &Option<String>) -> String {
    match console {
        Some(tail) => format!("\nserial console, last lines:\n{tail}"),
        None => String::new(),
    }
}

impl HintedError for BuildError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Image(error) => error.kind(),
            Self::Machine { source } => source.kind(),
            Self::UnsupportedBase { .. } => ErrorKind::InvalidRequest,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::StepFailed { .. } | Self::Unfinished { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Image(error) => error.hint(),
            Self::Machine { source } => source.hint().map(str::to_owned),
            Self::UnsupportedBase { .. } => Some("build it in a guest: --builder guest".to_owned()),
            Self::StepFailed { .. } => {
                Some("nothing is left of it; change the recipe and build again".to_owned())
            }
            Self::Unfinished { .. } | Self::TimedOut { .. } => None,
        }
    }
}
