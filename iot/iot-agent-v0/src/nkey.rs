//! The device's own key: made on the device, by which NATS knows it. The private half never leaves its file and this
//! process.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_nats::Auth;
use iot_contracts::{ContractError, UserKey};
use nkeys::{KeyPair, KeyPairType};

use crate::durable;

/// The longest file that is read, in bytes; a seed has 58.
const MAX_BYTES: u64 = 1024;

/// A key that cannot be used. No variant carries its private half.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be read.
    #[error("cannot read the device's key '{path}'")]
    Read {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be made.
    #[error(
        "cannot make the device's key '{path}' (its directory has to exist, and to be the agent's)"
    )]
    Make {
        /// Where it would be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the device's key '{path}' has mode {mode:04o} (expected 0600: nobody else may read it)"
    )]
    Open {
        /// Where it is.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Its content is another one.
    #[error(
        "the device's key '{path}' is none (expected the seed of a user's NKey, or no file, so that one is made)"
    )]
    Invalid {
        /// Where it is.
        path: PathBuf,
    },
    /// Its token cannot be read.
    #[error("cannot read the token of the device's key '{path}'")]
    Token {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The device's key.
pub struct DeviceKey {
    pair: KeyPair,
    public: UserKey,
}

impl DeviceKey {
    /// The key in that file, if there is one.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: the file is none, or not the agent's alone.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        let read = |source| KeyError::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(read)?,
        };
        let invalid = || KeyError::Invalid {
            path: path.to_owned(),
        };
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(invalid());
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let seed = fs::read(path).map_err(read)?;
        let seed = std::str::from_utf8(&seed).map_err(|_| invalid())?;
        let pair = KeyPair::from_seed(seed.trim()).map_err(|_| invalid())?;
        if pair.key_pair_type() != KeyPairType::User {
            return Err(invalid());
        }
        let key = Self::of(pair).map_err(|_| invalid())?;
        Ok(Some(key))
    }

    /// The key in that file, made when there is none.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: there can be none.
    pub fn ensure(path: &Path) -> Result<Self, KeyError> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let make = |source| KeyError::Make {
            path: path.to_owned(),
            source,
        };
        write_once(path, &KeyPair::new_user()).map_err(make)?;
        // Where two make it at once, both have the one that is there.
        let key = Self::read(path)?;
        let key = key.ok_or_else(|| make(io::ErrorKind::NotFound.into()))?;
        tracing::info!(path = %path.display(), public = %key.public, "the device has a key");
        Ok(key)
    }

    fn of(pair: KeyPair) -> Result<Self, ContractError> {
        let public = pair.public_key().parse()?;
        Ok(Self { pair, public })
    }

    /// The public half, by which the platform knows the device.
    pub fn public(&self) -> &UserKey {
        &self.public
    }

    /// What the server is told, with its `nonce` signed, and with the token in `jwt_file` where there is one.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: the token cannot be read.
    pub fn auth(&self, jwt_file: Option<&Path>, nonce: &[u8]) -> Result<Auth, KeyError> {
        let token = |path: &Path, source| KeyError::Token {
            path: path.to_owned(),
            source,
        };
        let mut auth = Auth::new();
        match jwt_file {
            None => auth.nkey = Some(self.public.to_string()),
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|source| token(path, source))?;
                auth.jwt = Some(text.trim().to_owned());
            }
        }
        let signature = self.pair.sign(nonce);
        // Only a pair without its private half cannot sign.
        auth.signature = signature.ok();
        Ok(auth)
    }
}

/// Writes a seed to a file that nobody else can read and that is not there yet: complete, or not at all.
fn write_once(path: &Path, pair: &KeyPair) -> io::Result<()> {
    let seed = pair.seed().map_err(io::Error::other)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let mut file = durable::create(&unfinished, 0o600)?;
    let written = writeln!(file, "{seed}").and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    durable::sync_directory_of(path)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use nkeys::KeyPair;

    use super::{DeviceKey, KeyError};

    #[test]
    fn a_key_is_made_once_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nats.nk");
        assert!(DeviceKey::read(&path).unwrap().is_none());
        let made = DeviceKey::ensure(&path).unwrap();
        let text = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let again = DeviceKey::ensure(&path).unwrap();
        assert_eq!(again.public(), made.public());
        assert_eq!(fs::read(&path).unwrap(), text);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let auth = made.auth(None, b"nonce").unwrap();
        assert_eq!(auth.nkey.as_deref(), Some(made.public().as_str()));
        let public = KeyPair::from_public_key(made.public().as_str()).unwrap();
        public.verify(b"nonce", &auth.signature.unwrap()).unwrap();
    }

    #[test]
    fn a_token_is_read_for_each_connection() {
        let dir = tempfile::tempdir().unwrap();
        let key = DeviceKey::ensure(&dir.path().join("nats.nk")).unwrap();
        let token = dir.path().join("nats.jwt");
        let missing = key.auth(Some(&token), b"").err().unwrap();
        assert!(matches!(missing, KeyError::Token { path, .. } if path == token));
        for jwt in ["eyJ0.a.b", "eyJ0.c.d"] {
            fs::write(&token, format!("{jwt}\n")).unwrap();
            let auth = key.auth(Some(&token), b"nonce").unwrap();
            assert_eq!((auth.jwt.as_deref(), auth.nkey), (Some(jwt), None));
        }
    }

    #[test]
    fn what_is_no_key_is_left_as_it_is_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nats.nk");
        let account = KeyPair::new_account().seed().unwrap();
        for text in ["", "hunter2", &account] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = DeviceKey::ensure(&path).err().unwrap();
            assert!(matches!(error, KeyError::Invalid { .. }), "{error:?}");
            let told = crate::error::chain(&error);
            assert!(text.is_empty() || !told.contains(text), "{told}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let user = KeyPair::new_user().seed().unwrap();
        fs::write(&path, user).unwrap();
        for mode in [0o640, 0o604] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = DeviceKey::ensure(&path).err().unwrap();
            assert!(matches!(error, KeyError::Open { mode: m, .. } if m == mode));
        }
        let nowhere = dir.path().join("none/nats.nk");
        let error = DeviceKey::ensure(&nowhere).err().unwrap();
        assert!(matches!(error, KeyError::Make { .. }), "{error:?}");
    }
}
