//! Key pairs and host keys: made, stored, parsed, pinned.
//!
//! Private keys are written 0600 through a temporary file in the same directory and never replaced.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use harmony_base::write;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

use crate::domain::error::{ErrorKind, HintedError};

/// What can be wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key's file name would leave its directory.
    #[error("invalid key name '{name}' (expected a plain file name)")]
    Name {
        /// The given name.
        name: String,
    },
    /// A key file cannot be read.
    #[error("cannot read the private key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file cannot be written.
    #[error("cannot store the private key {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the private key.
    #[error("the private key {path} has mode {mode:#o} (expected 0o600)")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no private key in OpenSSH's form.
    #[error("{path} is no OpenSSH private key")]
    PrivateKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ssh_key::Error,
    },
    /// The key is of a kind that is not used here.
    #[error("{path} holds {found} (expected an ssh-ed25519 key without a passphrase)")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The kind of key.
        found: String,
    },
    /// A text is no host key in OpenSSH's form.
    #[error("invalid host key {what} (expected OpenSSH's text form)")]
    HostKey {
        /// Which half of it; for the public half with the text.
        what: String,
        /// Why.
        source: ssh_key::Error,
    },
    /// A new key cannot be made.
    #[error("cannot make an ed25519 key")]
    Generate {
        /// Why.
        source: ssh_key::Error,
    },
}

impl HintedError for KeyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } | Self::HostKey { .. } => ErrorKind::InvalidRequest,
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Permissions { .. }
            | Self::PrivateKey { .. }
            | Self::Unsupported { .. } => ErrorKind::Unavailable,
            Self::Generate { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Permissions { path, .. } => Some(format!("chmod 600 '{}'", path.display())),
            Self::PrivateKey { path, .. } | Self::Unsupported { path, .. } => Some(format!(
                "move '{}' away; a new key is made, which existing devices do not know",
                path.display()
            )),
            _ => None,
        }
    }
}

/// A key pair to log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKeyPair {
    /// The file with the private half, mode 0600.
    pub private_key_path: PathBuf,
    /// The public half in OpenSSH's one-line form, as in `authorized_keys`.
    pub public_key_line: String,
}

/// The public key that a server must present; it has no comment.
#[derive(Clone, PartialEq, Eq)]
pub struct PinnedHostKey(PublicKey);

impl PinnedHostKey {
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The key's algorithm.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.0.algorithm()
    }

    /// Pins `key`, without its comment.
    pub(super) fn of(key: &PublicKey) -> Self {
        Self(PublicKey::from(key.key_data().clone()))
    }
}

impl FromStr for PinnedHostKey {
    type Err = KeyError;

    /// Reads OpenSSH's one-line form: `ssh-ed25519 AAAA… comment`.
    fn from_str(line: &str) -> Result<Self, KeyError> {
        PublicKey::from_openssh(line.trim())
            .map(|key| Self::of(&key))
            .map_err(|source| KeyError::HostKey {
                what: format!("'{}'", line.trim()),
                source,
            })
    }
}

impl fmt::Display for PinnedHostKey {
    /// OpenSSH's algorithm and key, without a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_openssh().map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PinnedHostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedHostKey({})", self.fingerprint())
    }
}

/// The key that a guest shows to those who connect to it. Both halves come from us, so that the
/// first connection is already verified.
#[derive(Clone)]
pub struct HostKey {
    private_openssh: String,
    public: PinnedHostKey,
}

impl HostKey {
    /// Reads the private half in OpenSSH's form.
    ///
    /// # Errors
    /// When the text is no such key.
    pub fn from_openssh(private: &str) -> Result<Self, KeyError> {
        let key = PrivateKey::from_openssh(private).map_err(|source| KeyError::HostKey {
            what: "(private half)".to_owned(),
            source,
        })?;
        Ok(Self {
            private_openssh: private.to_owned(),
            public: PinnedHostKey::of(key.public_key()),
        })
    }

    /// The private half in OpenSSH's form: a secret.
    pub fn private_openssh(&self) -> &str {
        &self.private_openssh
    }

    /// The public half.
    pub fn public(&self) -> &PinnedHostKey {
        &self.public
    }

    /// The public half in OpenSSH's one-line form.
    pub fn public_line(&self) -> String {
        self.public.to_string()
    }
}

impl fmt::Debug for HostKey {
    /// Without the private half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// Makes a new ed25519 host key.
///
/// # Errors
/// When the system gives no randomness.
pub fn generate_host_key() -> Result<HostKey, KeyError> {
    HostKey::from_openssh(&new_private_key("")?)
}

/// The line of a `known_hosts` file that pins `key` for `host` (an address or a name) at `port`.
pub fn known_hosts_line(host: &str, port: u16, key: &PinnedHostKey) -> String {
    match port {
        22 => format!("{host} {key}"),
        _ => format!("[{host}]:{port} {key}"),
    }
}

/// Makes sure that `dir` holds an ed25519 key pair called `name`, and returns it. What exists is
/// never replaced; of several callers at the same time one makes it and all get the same.
///
/// # Errors
/// When the file exists and is no usable key, is readable by others, or cannot be written.
pub fn ensure_key_pair(dir: &Path, name: &str) -> Result<SshKeyPair, KeyError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(KeyError::Name {
            name: name.to_owned(),
        });
    }
    let path = dir.join(name);
    let exists = path.try_exists().map_err(|source| KeyError::Read {
        path: path.clone(),
        source,
    })?;
    if !exists {
        let private = new_private_key(name)?;
        store_new(dir, &path, private.as_bytes()).map_err(|source| KeyError::Write {
            path: path.clone(),
            source,
        })?;
    }
    let public = load_private_key(&path)?.public_key().clone();
    let public_key_line = public.to_openssh().map_err(|source| KeyError::PrivateKey {
        path: path.clone(),
        source,
    })?;
    Ok(SshKeyPair {
        private_key_path: path,
        public_key_line,
    })
}

/// Reads a private key that only its owner may read.
pub(super) fn load_private_key(path: &Path) -> Result<PrivateKey, KeyError> {
    let unreadable = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    let text = fs::read(path).map_err(unreadable)?;
    let key = PrivateKey::from_openssh(&text).map_err(|source| KeyError::PrivateKey {
        path: path.to_owned(),
        source,
    })?;
    if key.is_encrypted() || key.algorithm() != Algorithm::Ed25519 {
        let passphrase = if key.is_encrypted() {
            " with a passphrase"
        } else {
            ""
        };
        return Err(KeyError::Unsupported {
            path: path.to_owned(),
            found: format!("an {} key{passphrase}", key.algorithm()),
        });
    }
    Ok(key)
}

fn new_private_key(comment: &str) -> Result<String, KeyError> {
    let generate = || {
        let mut key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)?;
        key.set_comment(comment);
        Ok(key.to_openssh(LineEnding::LF)?.to_string())
    };
    generate().map_err(|source| KeyError::Generate { source })
}

/// Writes a file that does not exist yet; when another caller was faster, theirs stays.
fn store_new(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    write::create(path, content, 0o600).map(drop)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
