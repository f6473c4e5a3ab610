//! What can go wrong with a script in a guest.

use crate::domain::error::{ErrorKind, HintedError};
use crate::modules::kvm::error::KvmError;

/// A script did not do in a guest what it should.
#[derive(Debug, thiserror::Error)]
pub enum GuestAgentError {
    /// It ran, and failed.
    #[error("the guest '{name}' could not {action} (exit status {status}): {stderr}")]
    Failed {
        /// The VM.
        name: String,
        /// What it was asked to do.
        action: &'static str,
        /// The status; 128 plus the signal's number when it was killed by one.
        status: u32,
        /// What it said.
        stderr: String,
    },
    /// The agent could not be asked, or did not answer.
    #[error(transparent)]
    Kvm(#[from] KvmError),
}

impl HintedError for GuestAgentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { .. } => ErrorKind::Failed,
            Self::Kvm(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { .. } => Some(
                "the guest needs qemu-guest-agent with guest-exec allowed, perl and systemd"
                    .to_owned(),
            ),
            Self::Kvm(error) => error.hint(),
        }
    }
}
