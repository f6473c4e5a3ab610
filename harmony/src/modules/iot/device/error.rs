//! What can go wrong while a host is made a device.

use std::io;
use std::path::PathBuf;

use iot_contracts::ContractError;

use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::VmArchitecture;

/// A failure of provisioning the agent. Failures of the host itself keep the host's own type.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The agent's binary cannot be read.
    #[error("cannot read the agent binary {path}")]
    BinaryUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent's binary is no program for Linux.
    #[error("the agent binary {path} is {found} (expected a 64-bit little-endian ELF executable)")]
    NotAProgram {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The agent's binary is for other devices.
    #[error("the agent binary {path} is for {found} (expected {expected})")]
    BinaryArchitecture {
        /// The file.
        path: PathBuf,
        /// Its machine.
        found: String,
        /// The requested architecture.
        expected: VmArchitecture,
    },
    /// The host is another kind of machine than the device should be.
    #[error("{host} is a {found} machine (expected {expected})")]
    HostArchitecture {
        /// The host.
        host: String,
        /// What `uname -m` says on it.
        found: String,
        /// The requested architecture.
        expected: VmArchitecture,
    },
    /// A URL means this machine, and the guest knows no way to it.
    #[error("'{url}' names this machine's loopback, and the guest has no default gateway")]
    NoGateway {
        /// The URL.
        url: String,
    },
    /// A URL cannot be rewritten for the guest.
    #[error("cannot rewrite NATS URL '{url}' (expected nats://HOST[:PORT] or tls://HOST[:PORT])")]
    NatsUrl {
        /// The URL.
        url: String,
    },
    /// The agent would refuse how it shall reach NATS.
    #[error(transparent)]
    Nats(ContractError),
    /// No device would take the program as a release.
    #[error(transparent)]
    Release(ContractError),
    /// An authority of servers of releases, and nobody's releases are taken.
    #[error(
        "there is an authority for the servers of releases, and the device takes none (expected update.keys)"
    )]
    ReleasesCaUnused,
    /// A registry's name is none.
    #[error("invalid registry '{value}' (expected HOST[:PORT][/PATH])")]
    Registry {
        /// The given name.
        value: String,
    },
    /// A document for the device cannot be written as TOML.
    #[error("cannot write {document} as TOML")]
    Document {
        /// Which one.
        document: &'static str,
        /// Why.
        source: toml::ser::Error,
    },
    /// A command on the host failed.
    #[error("cannot {action}: exit status {status}: {stderr}")]
    Command {
        /// What it was for.
        action: &'static str,
        /// Its exit status.
        status: u32,
        /// Its standard error.
        stderr: String,
    },
    /// The host said something that makes no sense.
    #[error("user id '{output}' of {user} is no number")]
    UserId {
        /// The user.
        user: &'static str,
        /// What `id -u` printed.
        output: String,
    },
}

impl HintedError for DeviceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAProgram { .. }
            | Self::BinaryArchitecture { .. }
            | Self::NatsUrl { .. }
            | Self::Nats(_)
            | Self::Release(_)
            | Self::ReleasesCaUnused
            | Self::Registry { .. } => ErrorKind::InvalidRequest,
            Self::BinaryUnreadable { .. } | Self::NoGateway { .. } => ErrorKind::Unavailable,
            Self::HostArchitecture { .. } => ErrorKind::Conflict,
            Self::Document { .. } | Self::Command { .. } | Self::UserId { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::BinaryUnreadable { .. } | Self::NotAProgram { .. } => {
                Some("build the agent: iot/scripts/build-agent.sh --arch ARCH".to_owned())
            }
            Self::BinaryArchitecture { expected, .. } => Some(format!(
                "build the agent for it: iot/scripts/build-agent.sh --arch {expected}"
            )),
            Self::NoGateway { .. } => {
                Some("give a NATS URL that the guest can reach by itself".to_owned())
            }
            Self::Nats(ContractError::Plaintext { host, .. }) => Some(format!(
                "let the server speak TLS, or allow plain text to it: --nats-allow-plaintext {host}"
            )),
            _ => None,
        }
    }
}
