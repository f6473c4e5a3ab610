//! Checkpoints: a booted, provisioned guest saved once, and any number of devices that go on from it.
//!
//! ```text
//! running builder VM --save_checkpoint()--> checkpoint KEY: disk, variable store, memory, description
//!                                                |
//!         own overlay, NVRAM, seed, document <---+---> fork(): restored with its network's link down
//!                                                            -> identity by the guest agent -> link up
//! ```
//!
//! A checkpoint is found by a [`CheckpointKey`], the digest of everything that its memory depends on; under another
//! key it is never restored. A fork that fails half-way is removed, and its caller boots the guest instead. Until
//! a fork has its own identity, nothing that it sends leaves its card.

mod document;
mod fork;
mod key;
mod reset;
mod save;
mod save_image;
mod script;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use harmony_base::blocking::WorkerEnded;

use super::guest_agent::GuestAgentError;
use crate::domain::error::{ErrorKind, HintedError};

pub use document::ForkError;
pub use harmony_base::lock::FileLock as KeyLock;
pub use key::CheckpointKey;
pub use save_image::SaveImageError;
pub use store::{CheckpointStore, StoredCheckpoint};

/// How long a restored guest's agent may take to answer, and to do what it is asked for.
const AGENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no checkpoint of a VM, or none that can be used. A guest can always be booted instead.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Such a VM cannot be saved and restored as another.
    #[error("a virtual machine with {what} cannot be made from a checkpoint")]
    Ineligible {
        /// What it has.
        what: &'static str,
    },
    /// The VM was booted, or its checkpoint is gone.
    #[error("the virtual machine '{name}' was not made from a checkpoint that is here")]
    NotFromCheckpoint {
        /// The VM.
        name: String,
    },
    /// The VM would be another machine here than the one that was saved.
    #[error(
        "checkpoint {key} is of another machine, image, emulator, firmware, libvirt or CPU than there is now"
    )]
    OtherMachine {
        /// Which checkpoint.
        key: CheckpointKey,
    },
    /// A file of the checkpoint is not what was saved.
    #[error("checkpoint {key}: {} has {found} (expected {expected})", path.display())]
    Altered {
        /// Which checkpoint.
        key: CheckpointKey,
        /// Which file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What was saved.
        expected: String,
    },
    /// Its description cannot be understood.
    #[error("the description {} of a checkpoint is not understood", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A step in the guest failed.
    #[error(transparent)]
    InGuest(#[from] GuestAgentError),
    /// A file of the checkpoint or of the fork could not be handled.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The memory image is none that is known here.
    #[error(transparent)]
    SaveImage(#[from] SaveImageError),
    /// The saved machine cannot become this one.
    #[error(transparent)]
    Fork(#[from] ForkError),
    /// Anything of the VM itself.
    #[error(transparent)]
    Kvm(#[from] super::KvmError),
}

impl CheckpointError {
    fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<WorkerEnded> for CheckpointError {
    fn from(ended: WorkerEnded) -> Self {
        Self::Kvm(ended.into())
    }
}

impl HintedError for CheckpointError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Kvm(error) => error.kind(),
            Self::InGuest(error) => error.kind(),
            Self::NotFromCheckpoint { .. } | Self::OtherMachine { .. } => ErrorKind::Conflict,
            _ => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Kvm(error) => error.hint(),
            Self::Altered { path, .. } | Self::Description { path, .. } => Some(format!(
                "the checkpoint is made anew when it is needed; remove {} when no device's disk is backed by it",
                path.parent().unwrap_or(path).display()
            )),
            Self::NotFromCheckpoint { .. } | Self::OtherMachine { .. } => {
                Some("destroy it and make it anew, from a checkpoint (--warm)".to_owned())
            }
            Self::InGuest(error) => error.hint(),
            _ => None,
        }
    }
}
