//! Programs of the host that images are built with.

use std::path::Path;

use harmony_base::process::{ProcessError, Program};

use super::error::ImageError;
use super::store::io_error;

pub use super::host_program::HostProgram;

/// A program that is asked to end when the build is given up: mmdebstrap removes its own temporary directory then.
pub(crate) fn tool(program: &'static str) -> Program {
    Program::new(program).ended_by_asking()
}

impl From<ProcessError> for ImageError {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Run { program, source } => io_error("run", Path::new(program), source),
            ProcessError::Failed {
                program,
                status,
                said,
            } => Self::Tool {
                program,
                status,
                stderr_tail: said.tail,
            },
            ProcessError::TimedOut {
                program,
                bound,
                said,
            } => Self::Tool {
                program,
                status: format!("no end within {bound:?}"),
                stderr_tail: said.tail,
            },
            ProcessError::TooMuch {
                program,
                bound_bytes,
            } => Self::Tool {
                program,
                status: format!("more than {bound_bytes} bytes of output"),
                stderr_tail: String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tool;
    use crate::modules::image::error::ImageError;

    #[tokio::test]
    async fn a_failure_keeps_how_it_ended_and_what_was_said_last() {
        let script = "echo first >&2; echo last >&2; exit 3";
        let failed = tool("sh").args(["-c", script]).run().await;
        match failed.map_err(ImageError::from) {
            Err(ImageError::Tool {
                program: "sh",
                status,
                stderr_tail,
            }) => assert_eq!(
                (status.as_str(), stderr_tail.as_str()),
                ("exit status 3", "first\nlast")
            ),
            other => panic!("{other:?}"),
        }
        let missing = tool("no-such-program-of-harmony").run().await;
        let missing = missing.map_err(ImageError::from);
        assert!(
            matches!(&missing, Err(ImageError::Io { action: "run", .. })),
            "{missing:?}"
        );
    }
}
