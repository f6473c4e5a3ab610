//! What can go wrong with a registry.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use iot_contracts::{ContractError, NatsUrl};

use crate::domain::error::{ErrorKind, HintedError};
use crate::modules::iot::platform::Cause;

/// What can go wrong with a [`DeviceRegistry`](super::DeviceRegistry).
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file cannot be read or written.
    #[error("cannot {action} '{path}'")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file has another content.
    #[error("'{path}' is no list of devices (expected JSON with 'platform' and 'devices')")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Two of them are one.
    #[error(transparent)]
    Keys(#[from] ContractError),
    /// The server cannot be told.
    #[error(
        "no server to tell of it by '{path}' (expected the process id of a running nats-server)"
    )]
    Server {
        /// The file with its process id.
        path: PathBuf,
    },
    /// The process id is another program's: the server has ended without removing its file.
    #[error(
        "'{path}' has the process id {pid}, which is the program '{name}' (expected nats-server)"
    )]
    Another {
        /// The file with the process id.
        path: PathBuf,
        /// The process id.
        pid: i32,
        /// What runs by it.
        name: String,
    },
    /// No certificate can have the name.
    #[error(
        "'{name}' cannot be in a server's certificate (expected a host's name or an IP address)"
    )]
    ServerName {
        /// What the server is called.
        name: String,
    },
    /// The authority cannot issue what it is believed by.
    #[error("'{path}' is no authority (expected a private key and its certificate, in PEM)")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Cause,
    },
    /// The server shows another certificate, or none.
    #[error(
        "the server at {url} shows no certificate of '{ca}' for '{name}' within {} s",
        bound.as_secs()
    )]
    NotServed {
        /// Where it is.
        url: NatsUrl,
        /// The authority's certificate.
        ca: PathBuf,
        /// What it was to be named.
        name: String,
        /// The bound.
        bound: Duration,
        /// What it did instead, the last time.
        #[source]
        source: Cause,
    },
}

impl HintedError for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Keys(_)
            | Self::Content { .. }
            | Self::ServerName { .. }
            | Self::Authority { .. } => ErrorKind::InvalidRequest,
            Self::File { .. } => ErrorKind::Failed,
            Self::Server { .. } | Self::Another { .. } | Self::NotServed { .. } => {
                ErrorKind::Unavailable
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Keys(ContractError::SharedKey { .. }) => Some(
                "a device was made as a copy of another one: remove the key file on it, and let its agent make its own"
                    .to_owned(),
            ),
            Self::Server { .. } | Self::Another { .. } => {
                Some("start the server with that path as 'pid_file' in its configuration".to_owned())
            }
            Self::ServerName { .. } => Some(
                "write the host in the tls:// URL as 127.0.0.1, [::1], another address or a name"
                    .to_owned(),
            ),
            Self::Authority { .. } => Some(
                "put the file back from a backup; or remove it, let it be made anew, and set up every device again"
                    .to_owned(),
            ),
            Self::NotServed { .. } => Some(
                "have the server's configuration name nats-server.pem of the registry as cert_file and key_file (--init-registry prints it), or name the authority of another certificate with --nats-ca"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
