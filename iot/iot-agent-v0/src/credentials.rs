//! With what the agent says who it is. It is read again for each connection, and looked at while one lasts: it may have been
//! renewed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::Auth;
use iot_contracts::{NatsCredentials, UserKey};

use crate::config::{ConfigError, Loaded};
use crate::creds;
use crate::error::chain;
use crate::nkey::{DeviceKey, KeyError};
use crate::told::Told;

/// Credentials that cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The configuration or a file that it names is none.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A file of TLS is not there.
    #[error("'{path}' is not there, or empty (expected certificates or a key, in PEM)")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// They are not those of who the agent is.
    #[error("they are of another device or key (expected the one that the agent was started with)")]
    Other,
}

/// What tells whether a file was written to or replaced.
#[derive(Debug, PartialEq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The credentials of a device.
pub struct Credentials {
    loaded: Loaded,
    key: Option<DeviceKey>,
    /// As the configuration named them when it could be read last.
    given: Mutex<Option<NatsCredentials>>,
    /// The files as they were when they were read last.
    used: Mutex<Vec<Option<Stamp>>>,
    told: Mutex<Told>,
}

impl Credentials {
    /// Those that the configuration names.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: the device's key cannot be used now.
    pub fn of(loaded: &Loaded) -> Result<Self, KeyError> {
        Ok(Self {
            key: loaded.key()?,
            given: Mutex::new(loaded.config().nats.credentials.clone()),
            used: Mutex::default(),
            told: Mutex::default(),
            loaded: loaded.clone(),
        })
    }

    /// The public half of the device's key, where it has one of its own.
    pub fn key(&self) -> Option<&UserKey> {
        self.key.as_ref().map(DeviceKey::public)
    }

    /// What the server is told, with its `nonce` signed. A configuration that cannot be read now counts as it was before.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`]: there is nothing to tell.
    pub fn auth(&self, nonce: &[u8]) -> Result<Auth, CredentialsError> {
        // What is written from now on is newer.
        *lock(&self.used) = self.stamps();
        let newest = self.newest();
        let unread = newest.as_ref().err().map(|error| chain(error));
        if let Ok(newest) = newest {
            *lock(&self.given) = newest;
        }
        let auth = self.sign(lock(&self.given).as_ref(), nonce);
        let error = unread.or_else(|| auth.as_ref().err().map(|error| chain(error)));
        if lock(&self.told).is_news(error.as_deref())
            && let Some(error) = error
        {
            tracing::warn!(error, "NATS credentials cannot be read");
        }
        auth
    }

    /// Whether others were written since they were read last.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`]: they were, and cannot be used.
    pub fn are_renewed(&self) -> Result<bool, CredentialsError> {
        let now = self.stamps();
        if *lock(&self.used) == now {
            return Ok(false);
        }
        self.sign(self.newest()?.as_ref(), b"")?;
        self.look_at_tls()?;
        *lock(&self.used) = now;
        Ok(true)
    }

    /// As the configuration names them now.
    fn newest(&self) -> Result<Option<NatsCredentials>, CredentialsError> {
        let now = self.loaded.again()?;
        let credentials = &now.config().nats.credentials;
        let is_other_device = now.device_id() != self.loaded.device_id();
        let is_other_key = match (credentials, &self.key) {
            (Some(NatsCredentials::Nkey { seed_file, .. }), Some(key)) => {
                let read = DeviceKey::read(seed_file).map_err(ConfigError::from)?;
                read.is_none_or(|read| read.public() != key.public())
            }
            (Some(NatsCredentials::Nkey { .. }), None) | (_, Some(_)) => true,
            _ => false,
        };
        if is_other_device || is_other_key {
            return Err(CredentialsError::Other);
        }
        Ok(credentials.clone())
    }

    fn sign(
        &self,
        given: Option<&NatsCredentials>,
        nonce: &[u8],
    ) -> Result<Auth, CredentialsError> {
        let mut auth = Auth::new();
        match given {
            None => {}
            Some(NatsCredentials::UserPassword { username, password }) => {
                auth.username = Some(username.clone());
                auth.password = Some(password.expose().to_owned());
            }
            Some(NatsCredentials::Token { token }) => auth.token = Some(token.expose().to_owned()),
            Some(NatsCredentials::CredsFile { path }) => {
                auth = creds::auth(path, nonce).map_err(ConfigError::from)?;
            }
            Some(NatsCredentials::Nkey { jwt_file, .. }) => {
                let key = self.key.as_ref().ok_or(CredentialsError::Other)?;
                auth = key
                    .auth(jwt_file.as_deref(), nonce)
                    .map_err(ConfigError::from)?;
            }
        }
        Ok(auth)
    }

    /// The client reads them when it connects, and nobody checks them before.
    fn look_at_tls(&self) -> Result<(), CredentialsError> {
        let missing = |path: &&PathBuf| stamp(path).is_none_or(|stamp| stamp.bytes == 0);
        match self.tls_files().find(missing) {
            Some(path) => Err(CredentialsError::Missing { path: path.clone() }),
            None => Ok(()),
        }
    }

    fn tls_files(&self) -> impl Iterator<Item = &PathBuf> {
        let tls = self.loaded.config().nats.tls.iter();
        tls.flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key])
            .flatten()
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let given = lock(&self.given);
        let files = match given.as_ref() {
            Some(NatsCredentials::CredsFile { path }) => [Some(path), None],
            Some(NatsCredentials::Nkey {
                seed_file,
                jwt_file,
            }) => [Some(seed_file), jwt_file.as_ref()],
            _ => [None, None],
        };
        let files = files.into_iter().flatten().chain(self.tls_files());
        let files = files.map(PathBuf::as_path).chain(self.loaded.path());
        files.map(stamp).collect()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: file.ino(),
        bytes: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
