//! The file with the last desired state that was followed: what the device goes on with while NATS is away.
//!
//! ```text
//!   harmony-desired-state 1 SHA-256-OF-THE-REST
//!   JSON
//! ```
//! It is replaced as a whole and written through, so that a power cut leaves the old one or the new one. A file that
//! is torn, of another version or of another device counts as none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use iot_contracts::DeviceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::error::chain;
use crate::followed::Followed;
use crate::problems::Problems;

/// The file's name in the state directory.
const FILE: &str = "desired-state";
/// The file's name until it is complete. One agent runs at a time, so that a left-over is overwritten.
const UNFINISHED: &str = "desired-state.new";
/// What the file begins with.
const FORMAT: &str = "harmony-desired-state 1";
/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(60);
/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Why there is no desired state in the file.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It is larger than any that is written.
    #[error("it has {0} bytes (expected at most {MAX_BYTES})")]
    TooLarge(u64),
    /// It has another beginning.
    #[error("it has another format (expected '{FORMAT}' and its digest)")]
    Format,
    /// It is not what was written.
    #[error("it is damaged (its digest is another one)")]
    Damaged,
    /// It has another content.
    #[error("its content is not understood, from line {line}, column {column}")]
    Content {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// It is about another device.
    #[error("it is of device {0}")]
    OtherDevice(DeviceId),
}

#[derive(Serialize, Deserialize)]
struct Content<'a> {
    device_id: std::borrow::Cow<'a, DeviceId>,
    memory: std::borrow::Cow<'a, Followed>,
}

/// The directory that systemd gives the unit for its state, if it does.
pub fn state_directory() -> Option<PathBuf> {
    let dirs = std::env::var_os("STATE_DIRECTORY")?;
    // systemd separates several ones by colons; the unit asks for one.
    let dir = std::env::split_paths(&dirs).next()?;
    dir.is_absolute().then_some(dir)
}

/// Where the desired state is kept.
#[derive(Debug, Clone)]
pub struct Keeper {
    dir: PathBuf,
    device_id: DeviceId,
}

impl Keeper {
    /// In the directory that systemd gives the unit for its state, if it does.
    pub fn of_this_unit(device_id: &DeviceId) -> Option<Self> {
        state_directory().map(|dir| Self::new(dir, device_id))
    }

    /// In `dir`.
    pub fn new(dir: PathBuf, device_id: &DeviceId) -> Self {
        let device_id = device_id.clone();
        Self { dir, device_id }
    }

    /// What was kept last; nothing, and why, where it cannot be used.
    pub fn recall(&self) -> (Followed, Option<String>) {
        let path = self.dir.join(FILE);
        match self.read(&path) {
            Ok(Some(memory)) => {
                let revision = memory.revision();
                tracing::info!(path = %path.display(), revision, "goes on with the desired state kept here");
                (memory, None)
            }
            Ok(None) => (Followed::default(), None),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(path = %path.display(), error, "the desired state kept here is ignored");
                (Followed::default(), Some(error))
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Followed>, KeepError> {
        let length = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(KeepError::Read(io::ErrorKind::InvalidInput.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(KeepError::Read(error)),
        };
        if length > MAX_BYTES {
            return Err(KeepError::TooLarge(length));
        }
        let text = fs::read(path).map_err(KeepError::Read)?;
        let (head, json) = split(&text).ok_or(KeepError::Format)?;
        let digest = head
            .strip_prefix(FORMAT)
            .and_then(|rest| rest.strip_prefix(' '));
        if digest.ok_or(KeepError::Format)? != digest_of(json) {
            return Err(KeepError::Damaged);
        }
        // The parser's message may quote a value.
        let content: Content<'_> =
            serde_json::from_slice(json).map_err(|error| KeepError::Content {
                line: error.line(),
                column: error.column(),
            })?;
        if *content.device_id != self.device_id {
            return Err(KeepError::OtherDevice(content.device_id.into_owned()));
        }
        Ok(Some(content.memory.into_owned()))
    }

    /// Takes the file's place, as a whole and for good.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to; the file is as it was.
    pub fn keep(&self, memory: &Followed) -> io::Result<()> {
        let json = serde_json::to_vec(&Content {
            device_id: std::borrow::Cow::Borrowed(&self.device_id),
            memory: std::borrow::Cow::Borrowed(memory),
        })?;
        let unfinished = self.dir.join(UNFINISHED);
        // A left-over may have another mode, and a link must not be followed.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(format!("{FORMAT} {}\n", digest_of(&json)).as_bytes())?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }

    /// Keeps what is known at each change, and tries again where that failed. Ends when there is no more of it.
    pub async fn run(
        &self,
        mut known: watch::Receiver<Followed>,
        problems: &watch::Sender<Problems>,
    ) {
        let mut retry = Duration::MAX;
        loop {
            tokio::select! {
                changed = known.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(retry) => {}
            }
            let memory = known.borrow_and_update().clone();
            let keeper = self.clone();
            // The disk may be slow, and nothing else waits for it.
            let kept = tokio::task::spawn_blocking(move || keeper.keep(&memory)).await;
            let error = match kept {
                Ok(kept) => kept.err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            retry = if error.is_some() {
                RETRY
            } else {
                Duration::MAX
            };
            problems.send_if_modified(|problems| {
                if problems.keeping == error {
                    return false;
                }
                if let Some(error) = &error {
                    let dir = self.dir.display();
                    tracing::warn!(%dir, error, "cannot keep the desired state");
                }
                problems.keeping = error;
                true
            });
        }
    }
}

fn split(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    Some((head, &text[end + 1..]))
}

fn digest_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
