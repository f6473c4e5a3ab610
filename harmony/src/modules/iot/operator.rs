//! The key that an operator signs desired states with, or releases of the agent, and its counter.
//!
//! The key is a file with an operator's seed as NATS writes it (`SO…`, what `nk -gen operator` prints), mode 0600. The
//! last counter lies beside it, in `FILE.counter`. A counter is the time in milliseconds, or one more than the last one
//! where that is not later: operators with keys of their own need nothing but clocks that are about right, and none
//! of them ever gives a number twice, also when its clock goes back.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use iot_contracts::{
    AgentRelease, DeploymentName, DeviceId, IotScore, OperatorKey, ReleasedProgram, SignedOrder,
};
use nkeys::{KeyPair, KeyPairType};
use rustix::fs::{FlockOperation, flock};
use rustix::rand::{GetRandomFlags, getrandom};
use tracing::info;

use super::own_files;
use crate::domain::error::{ErrorKind, HintedError};

/// The longest file that is taken for a key, in bytes.
const MAX_BYTES: u64 = 1024;

/// What keeps an operator from signing. No variant has anything of the key.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the key.
    #[error("the operator key {path} has mode {mode:#o} (expected 0o600)")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no key in the file.
    #[error("{path} is no operator key (expected one line with an operator's seed, from 'SO')")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The counter is none, or cannot rise.
    #[error(
        "the counter in {path} is '{found}' (expected a number below {})",
        u64::MAX
    )]
    Counter {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A score cannot be written as JSON, or not signed.
    #[error("cannot sign an order for {deployment} of {device_id}")]
    Sign {
        /// Whose.
        device_id: DeviceId,
        /// Which.
        deployment: DeploymentName,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A release cannot be signed.
    #[error("cannot sign a release of the agent")]
    Release {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl HintedError for OperatorError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Permissions { .. } | Self::Key { .. } => {
                ErrorKind::InvalidRequest
            }
            Self::Write { .. }
            | Self::Counter { .. }
            | Self::Sign { .. }
            | Self::Release { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Permissions { path, .. } => Some(format!("chmod 600 '{}'", path.display())),
            Self::Counter { .. } => Some(
                "write the highest number that the devices report into it: deployments.NAME.desired.counter, or the serial that a refused update tells of"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// An operator who signs, or who releases the agent: a device's configuration says for what a key is trusted.
#[derive(Debug)]
pub struct Operator {
    path: PathBuf,
    pair: KeyPair,
    key: OperatorKey,
}

impl Operator {
    /// The key in the file at `path`.
    ///
    /// # Errors
    /// [`OperatorError`]: there is none, or others may read it.
    pub fn open(path: &Path) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        if let Some(mode) = own_files::mode_for_others(&file).map_err(failed)? {
            return Err(OperatorError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
        let no_key = || OperatorError::Key {
            path: path.to_owned(),
        };
        let mut seed = String::new();
        let read = file.take(MAX_BYTES).read_to_string(&mut seed);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => no_key(),
            _ => failed(error),
        })?;
        let pair = KeyPair::from_seed(seed.trim()).map_err(|_| no_key())?;
        // The kind of key is in its text.
        let key = pair.public_key().parse().map_err(|_| no_key())?;
        Ok(Self {
            path: path.to_owned(),
            pair,
            key,
        })
    }

    /// The same, with a new key where there is no file.
    ///
    /// # Errors
    /// As [`Operator::open`], or the file cannot be written.
    pub fn ensure(path: &Path) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Write {
            path: path.to_owned(),
            source,
        };
        let make = || {
            let mut raw = [0; 32];
            let filled = getrandom(&mut raw, GetRandomFlags::empty())?;
            let pair = KeyPair::new_from_raw(KeyPairType::Operator, raw);
            match (filled, pair.and_then(|pair| pair.seed())) {
                (32, Ok(seed)) => Ok(format!("{seed}\n")),
                _ => Err(io::Error::other("no key could be made")),
            }
        };
        if own_files::make_once(path, make).map_err(failed)? {
            info!(path = %path.display(), "a new operator key");
        }
        Self::open(path)
    }

    /// The public half, by which devices know the operator.
    pub fn key(&self) -> &OperatorKey {
        &self.key
    }

    /// The order that `score` runs, or that nothing does, with a new counter.
    ///
    /// # Errors
    /// [`OperatorError`]: the counter cannot rise.
    pub fn order(
        &self,
        device_id: &DeviceId,
        deployment: &DeploymentName,
        score: Option<&IotScore>,
    ) -> Result<SignedOrder, OperatorError> {
        let failed = |source| OperatorError::Sign {
            device_id: device_id.clone(),
            deployment: deployment.clone(),
            source,
        };
        let score = score.map(serde_json::to_string).transpose();
        let score = score.map_err(|error| failed(error.into()))?;
        let counter = self.next_counter()?;
        SignedOrder::sign(device_id, deployment, counter, score, &self.key, |input| {
            self.sign(input).map_err(failed)
        })
    }

    /// A release of `program`. Its serial is a new counter, so that it is above all that was given with this key.
    ///
    /// # Errors
    /// [`OperatorError`]: the counter cannot rise.
    pub fn release(&self, program: &ReleasedProgram) -> Result<AgentRelease, OperatorError> {
        let serial = self.next_counter()?;
        AgentRelease::sign(serial, program.clone(), |text| {
            let failed = |source| OperatorError::Release { source };
            self.sign(text).map_err(failed)
        })
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; 64], Box<dyn std::error::Error + Send + Sync>> {
        let signature = self.pair.sign(text)?;
        let length = signature.len();
        <[u8; 64]>::try_from(signature)
            .map_err(|_| format!("the signature has {length} bytes").into())
    }

    /// A counter that was never given before with this key. It is on the disk when it is given.
    fn next_counter(&self) -> Result<u64, OperatorError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| OperatorError::Read { path, source }
        };
        // One process at a time; the lock goes with the file that is closed at the end.
        let lock = File::open(&self.path).map_err(read(&self.path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| read(&self.path)(error.into()))?;
        let path = self.beside(".counter");
        let last = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "0".to_owned(),
            Err(error) => return Err(read(&path)(error)),
        };
        let after = last.trim().parse::<u64>().ok();
        let after = after.and_then(|last| last.checked_add(1));
        let after = after.ok_or_else(|| OperatorError::Counter {
            path: path.clone(),
            found: last.trim().chars().take(40).collect(),
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
        let next = after.max(now);
        own_files::replace(&path, format!("{next}\n").as_bytes())
            .map_err(|source| OperatorError::Write { path, source })?;
        Ok(next)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }
}

#[cfg(test)]
mod tests;
