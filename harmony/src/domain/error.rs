//! The error that capabilities return across module borders.
//!
//! Each module has its own typed enum. At the border of a capability trait it is boxed here
//! together with a [`ErrorKind`], which decides the exit code, and a hint, which says what to do. The
//! original is still there: see [`ExecutorError::downcast_ref`].

use std::error::Error;
use std::fmt;

/// Whose move it is after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong; the same request will never succeed.
    InvalidRequest,
    /// The host lacks something: a program, a file, a service, a permission, space.
    Unavailable,
    /// What exists contradicts the request, and nothing was touched.
    Conflict,
    /// An awaited event did not come within its bound.
    TimedOut,
    /// Anything else that went wrong while acting.
    Failed,
}

/// An error of some module, with its kind and the remedy.
pub trait HintedError: Error + Send + Sync + 'static {
    /// Whose move it is.
    fn kind(&self) -> ErrorKind;

    /// What the reader should do, when there is something to do.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An error that crossed a capability border. Displays as the module's error does.
pub struct ExecutorError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    hint: Option<String>,
    error: Box<dyn Error + Send + Sync + 'static>,
}

impl ExecutorError {
    /// Whose move it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the reader should do, when there is something to do.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The module's own error, when it is an `E`.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.error.downcast_ref()
    }

    /// The process exit code for this error: 2 for a wrong request, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self.kind() {
            ErrorKind::InvalidRequest => 2,
            ErrorKind::Unavailable
            | ErrorKind::Conflict
            | ErrorKind::TimedOut
            | ErrorKind::Failed => 1,
        }
    }
}

impl<E: HintedError> From<E> for ExecutorError {
    fn from(error: E) -> Self {
        Self(Box::new(Inner {
            kind: error.kind(),
            hint: error.hint(),
            error: Box::new(error),
        }))
    }
}

impl fmt::Debug for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorError")
            .field("kind", &self.0.kind)
            .field("error", &self.0.error)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(f)
    }
}

impl Error for ExecutorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.error.source()
    }
}

/// An error and its causes, one a line, numbered from the second on: for the one place in a binary
/// that prints.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    let mut level = 1;
    while let Some(cause) = source {
        text.push_str(&format!("\n  {level}: {cause}"));
        source = cause.source();
        level += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ErrorKind, ExecutorError, HintedError, error_chain};

    #[derive(Debug, thiserror::Error, PartialEq)]
    #[error("cannot open {path}")]
    struct Outer {
        path: &'static str,
        #[source]
        cause: Inner,
    }

    #[derive(Debug, thiserror::Error, PartialEq)]
    #[error("permission denied")]
    struct Inner;

    impl HintedError for Outer {
        fn kind(&self) -> ErrorKind {
            ErrorKind::InvalidRequest
        }
        fn hint(&self) -> Option<String> {
            Some("run as root".to_owned())
        }
    }

    #[test]
    fn keeps_the_module_error_its_kind_and_its_hint() {
        let outer = Outer {
            path: "/x",
            cause: Inner,
        };
        let error = ExecutorError::from(outer);
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.hint(), Some("run as root"));
        assert_eq!(error.downcast_ref::<Outer>().map(|o| o.path), Some("/x"));
        assert_eq!(
            error_chain(&error),
            "cannot open /x\n  1: permission denied"
        );
    }
}
