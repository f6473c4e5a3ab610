//! What can go wrong when a host is brought to a state, whatever carries the commands there.

use crate::domain::error::{ErrorKind, HintedError};

/// A failure on a Linux host that was reached.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
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

impl HintedError for LinuxError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotARegularFile { .. } | Self::UserConflict { .. } => ErrorKind::Conflict,
            Self::InvalidRequest { .. } => ErrorKind::InvalidRequest,
            Self::CommandFailed { .. }
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
