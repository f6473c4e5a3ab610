//! What errors of the floor are to this module.

use std::io::ErrorKind;
use std::path::Path;

use harmony_base::blocking::WorkerEnded;
use harmony_base::process::ProcessError;

use super::error::KvmError;

impl From<WorkerEnded> for KvmError {
    fn from(ended: WorkerEnded) -> Self {
        let what = format!("{ended}: {}", ended.source);
        Self::Internal { what }
    }
}

impl KvmError {
    /// The error of a program that should do something with the file at `path`.
    pub(super) fn program(program: &'static str, path: &Path) -> impl FnOnce(ProcessError) -> Self {
        let path = path.to_owned();
        move |error| {
            let said = match error {
                ProcessError::Run { source, .. } if source.kind() == ErrorKind::NotFound => {
                    "it is not on PATH".to_owned()
                }
                ProcessError::Run { source, .. } => source.to_string(),
                ProcessError::Failed { said, .. } => said.tail,
                other => other.to_string(),
            };
            Self::Program {
                program,
                path,
                said,
            }
        }
    }
}
