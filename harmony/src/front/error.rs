//! The error of the front door.

use std::error::Error as StdError;
use std::fmt;

use crate::domain::error::{ErrorKind, ExecutorError, HintedError, error_chain};

/// What went wrong, with whose move it is and the remedy.
///
/// It wraps the error of the module that failed, whichever that is: see [`Error::downcast_ref`]. Any such error
/// becomes one by `?`. `Debug` is for people: it has the causes and the remedy, as a program shows them whose `main`
/// returns a [`Result`], and a test.
pub struct Error(ExecutorError);

/// A result of the front door.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whose move it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// What the reader should do, when there is something to do.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint()
    }

    /// The module's own error, when it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// The process exit code for this error: 2 for a wrong request, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        self.0.exit_code()
    }
}

impl<E: HintedError> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<ExecutorError> for Error {
    fn from(error: ExecutorError) -> Self {
        Self(error)
    }
}

impl From<Error> for ExecutorError {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error_chain(&self.0))?;
        match self.hint() {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Result};
    use crate::domain::error::{ErrorKind, ExecutorError};
    use crate::modules::iot::assets::NoUserDirectory;

    fn failed() -> Result<()> {
        Err(NoUserDirectory {
            purpose: "data",
            variables: "HOME",
        })?
    }

    #[test]
    fn a_modules_error_keeps_its_kind_its_hint_and_itself() {
        let error = failed().expect_err("failed");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.exit_code(), 1);
        let hint = "set HOME, or HARMONY_DATA_DIR and XDG_CACHE_HOME";
        assert_eq!(error.hint(), Some(hint));
        let itself = error.downcast_ref::<NoUserDirectory>();
        assert_eq!(itself.map(|error| error.purpose), Some("data"));
        let text = "no data directory: none of HOME is set to an absolute path";
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), format!("{text}\nhint: {hint}"));
    }

    #[test]
    fn the_capabilities_error_and_it_are_one_another() {
        let error = ExecutorError::from(failed().expect_err("failed"));
        let error = Error::from(error);
        assert!(error.downcast_ref::<NoUserDirectory>().is_some());
    }
}
