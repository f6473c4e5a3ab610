//! What can go wrong between here and a host.

use std::net::SocketAddr;
use std::time::Duration;

use super::keys::KeyError;
use crate::domain::error::{ErrorKind, HintedError};

/// A failure of the way to a host over SSH.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// A key of our own cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No SSH session with the server came about.
    #[error("cannot open an SSH session with {address}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// Why.
        source: Box<russh::Error>,
    },
    /// The server did not get through connecting and login in time.
    #[error("no login at {address} within {timeout:?}")]
    ConnectTimedOut {
        /// The server.
        address: SocketAddr,
        /// The bound of one attempt.
        timeout: Duration,
    },
    /// Another machine answers, or the same with other keys. Nothing was sent to it.
    #[error("{address} presented host key {presented} (expected {expected})")]
    HostKeyMismatch {
        /// The server.
        address: SocketAddr,
        /// The pinned key's fingerprint.
        expected: String,
        /// The presented key's fingerprint.
        presented: String,
    },
    /// The server does not let this user in with this key.
    #[error("{address} refused user '{user}' with key {fingerprint}")]
    AuthenticationRefused {
        /// The server.
        address: SocketAddr,
        /// The login name.
        user: String,
        /// The fingerprint of our key.
        fingerprint: String,
    },
    /// No attempt to log in succeeded within the caller's bound; the source is the last one's error.
    #[error("no SSH login as '{user}' at {address} within {timeout:?}, tried {attempts} times")]
    NotReachable {
        /// The server.
        address: SocketAddr,
        /// The login name.
        user: String,
        /// The caller's bound.
        timeout: Duration,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt ended with.
        source: Box<SshError>,
    },
    /// The session broke before the command's exit status came; it may or may not have run.
    #[error("lost the SSH session with {address} during '{command}'")]
    SessionLost {
        /// The server.
        address: SocketAddr,
        /// The command.
        command: String,
        /// Why, when the session says so.
        source: Option<Box<russh::Error>>,
    },
    /// The command did not end in time; the host ends it.
    #[error("'{command}' did not end within {timeout:?}")]
    CommandTimedOut {
        /// The command.
        command: String,
        /// The bound of one command.
        timeout: Duration,
    },
    /// The command wrote more than is kept.
    #[error("'{command}' wrote more than {limit_bytes} bytes")]
    OutputTooLarge {
        /// The command.
        command: String,
        /// The bound on both streams together.
        limit_bytes: usize,
    },
    /// An argument cannot be said in a shell.
    #[error("argument {index} of '{program}' contains a NUL byte (expected none)")]
    NulInArgument {
        /// The program.
        program: String,
        /// The argument's place; 0 is the program itself.
        index: usize,
    },
}

impl SshError {
    /// Whether trying again later cannot help, because the fault is on our side.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Key(_))
    }
}

impl HintedError for SshError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Key(error) => error.kind(),
            Self::Connect { .. } | Self::AuthenticationRefused { .. } => ErrorKind::Unavailable,
            Self::ConnectTimedOut { .. }
            | Self::NotReachable { .. }
            | Self::CommandTimedOut { .. } => ErrorKind::TimedOut,
            Self::HostKeyMismatch { .. } => ErrorKind::Conflict,
            Self::NulInArgument { .. } => ErrorKind::InvalidRequest,
            Self::SessionLost { .. } | Self::OutputTooLarge { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Key(error) => return error.hint(),
            Self::NotReachable { source, .. } => return source.hint(),
            Self::HostKeyMismatch { .. } => {
                "another machine answers at this address, or the guest's first boot did not take the \
                 host key of its seed; destroy the device and make it anew when it is yours"
            }
            Self::AuthenticationRefused { .. } => {
                "the guest's first boot did not install this key for this user; its console log says \
                 what cloud-init did"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
