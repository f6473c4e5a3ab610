//! The server's proof of who it is.

use std::net::SocketAddr;

use russh::client;
use russh::keys::{HashAlg, PublicKeyOrCertificate};

use super::error::SshError;
use super::keys::PinnedHostKey;

/// Accepts the one server that has the pinned key.
pub(super) struct PinnedServer {
    pub(super) expected: PinnedHostKey,
}

/// Why a session with a server did not come about.
#[derive(Debug)]
pub(super) enum SessionError {
    /// The server has another key, with this fingerprint.
    OtherKey(String),
    /// Anything else.
    Ssh(russh::Error),
}

impl From<russh::Error> for SessionError {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl SessionError {
    /// As this module's error.
    pub(super) fn into_error(self, address: SocketAddr, expected: &PinnedHostKey) -> SshError {
        match self {
            Self::OtherKey(presented) => SshError::HostKeyMismatch {
                address,
                expected: expected.fingerprint(),
                presented,
            },
            Self::Ssh(error) => SshError::Connect {
                address,
                source: Box::new(error),
            },
        }
    }
}

impl client::Handler for PinnedServer {
    type Error = SessionError;

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, SessionError> {
        let key = match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => PinnedHostKey::of(key),
            // None is asked for; whoever signed it is not what is pinned.
            PublicKeyOrCertificate::Certificate(certificate) => {
                let key = certificate.public_key().fingerprint(HashAlg::Sha256);
                return Err(SessionError::OtherKey(format!("certificate of {key}")));
            }
        };
        if key == self.expected {
            return Ok(true);
        }
        Err(SessionError::OtherKey(key.fingerprint()))
    }
}
