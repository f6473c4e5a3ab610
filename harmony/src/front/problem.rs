//! What the front door itself refuses or fails at.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::error::{ErrorKind, HintedError};

/// What the front door itself refuses or fails at. What its modules fail at is theirs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// An ephemeral VM of that name belongs to a program that runs.
    #[error("the virtual machine '{name}' is an ephemeral one of process {pid}, which runs")]
    InUse {
        /// The VM.
        name: String,
        /// The program.
        pid: u32,
    },
    /// A VM of that name is there and is not ephemeral.
    #[error(
        "a virtual machine '{name}' is there (expected none: an ephemeral one is removed at its end)"
    )]
    Exists {
        /// The VM.
        name: String,
    },
    /// A file or directory cannot be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another program keeps the claims of ephemeral VMs locked.
    #[error("{} stayed locked for {bound:?}", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        bound: Duration,
    },
    /// Work that was begun did not come to its end.
    #[error("{what} was given up: {reason}")]
    GivenUp {
        /// The work.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

impl VmError {
    /// Makes an error of what a file operation says.
    pub(super) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl HintedError for VmError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } | Self::Exists { .. } => ErrorKind::Conflict,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Locked { .. } => ErrorKind::TimedOut,
            Self::GivenUp { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => {
                Some("wait for that program, or take another name for this VM".to_owned())
            }
            Self::Exists { .. } => {
                Some("take another name, or destroy the VM that is there".to_owned())
            }
            Self::Locked { .. } => {
                Some("another program is removing VMs; try again when it has ended".to_owned())
            }
            Self::Io { .. } | Self::GivenUp { .. } => None,
        }
    }
}
