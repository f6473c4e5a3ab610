//! What can go wrong between here and a host's configuration.

use std::net::SocketAddr;
use std::time::Duration;

use super::keys::KeyError;
use crate::domain::error::{ErrorKind, HintedError};

/// A failure of a Linux host over SSH.
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
    /// A command that had to succeed did not.
    #[error("'{command}' exited with status {status} (expected 0): {stderr}")]
    CommandFailed {
        /// The command.
        command: String,
        /// Its exit status.
        status: u32,
        /// The end of its standard error.
        stderr: String,
    },
    /// A command said something that it never should.
    #[error("'{command}' printed '{output}' (expected {expected})")]
    UnexpectedOutput {
        /// The command.
        command: &'static str,
        /// What it printed, shortened.
        output: String,
        /// What it should print.
        expected: &'static str,
    },
    /// The first boot's set-up ended badly.
    #[error("cloud-init ended with status '{status}' (expected done): {detail}")]
    FirstBootFailed {
        /// cloud-init's own word.
        status: String,
        /// The end of what it says of it.
        detail: String,
    },
    /// A value of a request that no host could be asked for.
    #[error("invalid {what} '{value}' (expected {expected})")]
    InvalidRequest {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: String,
        /// The rule that it breaks.
        expected: &'static str,
    },
    /// The package manager failed.
    #[error("cannot install {packages}: apt-get exited with status {status}: {stderr}")]
    PackagesNotInstalled {
        /// The packages that were missing.
        packages: String,
        /// apt-get's exit status.
        status: u32,
        /// The end of its standard error.
        stderr: String,
    },
    /// Something that is no file stands where a file should be.
    #[error("{path} is neither a regular file nor absent")]
    NotARegularFile {
        /// The path on the host.
        path: String,
    },
    /// A user of that name exists and differs in what cannot be changed under its feet.
    #[error("user '{user}' has home {found} (expected {expected})")]
    UserConflict {
        /// The login name.
        user: String,
        /// Its home directory.
        found: String,
        /// The requested home directory.
        expected: String,
    },
    /// Every range of subordinate ids is taken.
    #[error(
        "no {count} consecutive subordinate ids are free for user '{user}' (searched {searched})"
    )]
    NoSubordinateIds {
        /// The login name.
        user: String,
        /// How many are needed.
        count: u64,
        /// Where they were sought.
        searched: &'static str,
    },
    /// systemd knows no such unit.
    #[error("unit '{unit}' has load state '{load_state}' (expected loaded)")]
    UnitNotLoaded {
        /// The unit.
        unit: String,
        /// systemd's word.
        load_state: String,
    },
    /// A unit did not come to the state that it should be in.
    #[error("systemctl {action} '{unit}' failed: {detail}")]
    UnitFailed {
        /// The unit.
        unit: String,
        /// What was asked of it.
        action: &'static str,
        /// The end of what systemctl, its status and its journal say.
        detail: String,
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
            Self::HostKeyMismatch { .. }
            | Self::NotARegularFile { .. }
            | Self::UserConflict { .. } => ErrorKind::Conflict,
            Self::NulInArgument { .. } | Self::InvalidRequest { .. } => ErrorKind::InvalidRequest,
            Self::SessionLost { .. }
            | Self::OutputTooLarge { .. }
            | Self::CommandFailed { .. }
            | Self::UnexpectedOutput { .. }
            | Self::FirstBootFailed { .. }
            | Self::PackagesNotInstalled { .. }
            | Self::NoSubordinateIds { .. }
            | Self::UnitNotLoaded { .. }
            | Self::UnitFailed { .. } => ErrorKind::Failed,
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
            Self::CommandFailed { stderr, .. } if stderr.contains("a password is required") => {
                "the login user must be allowed to use sudo without a password"
            }
            Self::PackagesNotInstalled { .. } => {
                "check that the host reaches its package mirror: sudo apt-get update"
            }
            Self::FirstBootFailed { .. } => {
                "look at /var/log/cloud-init.log and /var/log/cloud-init-output.log on the host"
            }
            Self::NoSubordinateIds { .. } => "free a range in /etc/subuid and /etc/subgid",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
