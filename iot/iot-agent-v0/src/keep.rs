//! The file with the last desired state that was followed: what the device goes on with while NATS is away.
//!
//! ```text
//!   harmony-desired-state 1 SHA-256-OF-THE-REST
//!   JSON
//! ```
//! It is replaced as a whole and written through, so that a power cut leaves the old one or the new one. A file that
//! is torn, of another version or of another device counts as none.
//!
//! Where orders have to be signed nothing is obeyed before it is in the file: whatever a power cut leaves, the device
//! knows the highest counter that it has obeyed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use iot_contracts::DeviceId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::assess::Ran;
use crate::desired::DesiredState;
use crate::digest::sha256;
use crate::durable;
use crate::error::chain;
use crate::followed::Followed;
use crate::problems::Problems;
use crate::reconcile::{self, Statuses};

/// The file's name in the state directory.
const FILE: &str = "desired-state";
/// The file's name until it is complete. One agent runs at a time, so that a left-over is overwritten.
const UNFINISHED: &str = "desired-state.new";
/// What the file begins with.
const FORMAT: &str = "harmony-desired-state 1";
/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(60);
/// The longest file that is read, in bytes: several times of what all deployments may be together.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

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
    #[serde(default)]
    ran: std::borrow::Cow<'a, Ran>,
}

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// What is known of the desired state.
    pub memory: Followed,
    /// The last value of each deployment all of whose containers ran.
    pub ran: Ran,
}

/// Where what is ordered waits until it is kept.
pub struct Gate<'a> {
    /// What is ordered.
    pub ordered: watch::Receiver<DesiredState>,
    /// What the containers shall become.
    pub desired: &'a watch::Sender<DesiredState>,
}

/// What the keeper looks at.
pub struct Watched<'a> {
    /// What is known of the desired state.
    pub known: watch::Receiver<Followed>,
    /// How the deployments fare.
    pub statuses: watch::Receiver<Statuses>,
    /// What waits for the file, where orders have to be signed.
    pub gate: Option<Gate<'a>>,
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

    /// Where everything is kept that outlives the agent.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was kept last; nothing, and why, where it cannot be used.
    pub fn recall(&self) -> (Kept, Option<String>) {
        let path = self.dir.join(FILE);
        match self.read(&path) {
            Ok(Some(kept)) => {
                let revision = kept.memory.revision();
                tracing::info!(path = %path.display(), revision, "goes on with the desired state kept here");
                (kept, None)
            }
            Ok(None) => (Kept::default(), None),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(path = %path.display(), error, "the desired state kept here is ignored");
                (Kept::default(), Some(error))
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Kept>, KeepError> {
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
        if digest.ok_or(KeepError::Format)? != sha256(json).to_string() {
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
        Ok(Some(Kept {
            memory: content.memory.into_owned(),
            ran: content.ran.into_owned(),
        }))
    }

    /// Takes the file's place, as a whole and for good.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to; the file is as it was.
    pub fn keep(&self, kept: &Kept) -> io::Result<()> {
        let json = serde_json::to_vec(&Content {
            device_id: std::borrow::Cow::Borrowed(&self.device_id),
            memory: std::borrow::Cow::Borrowed(&kept.memory),
            ran: std::borrow::Cow::Borrowed(&kept.ran),
        })?;
        let mut content = format!("{FORMAT} {}\n", sha256(&json)).into_bytes();
        content.extend(json);
        durable::replace(&self.dir, FILE, UNFINISHED, &content)
    }

    /// Keeps what is known at each change, and tries again where that failed; `ran` is in the file already. What waits at
    /// the gate goes on when what is known then is kept. Ends when there is no more of it.
    pub async fn run(
        &self,
        mut watched: Watched<'_>,
        mut ran: Ran,
        problems: &watch::Sender<Problems>,
    ) {
        let mut failed = false;
        while let Some(news) = watched.news(failed).await {
            let mut is_kept = !failed && news != News::Known;
            if news == News::Statuses {
                let now = reconcile::ran(&watched.statuses.borrow());
                is_kept &= now == ran;
                ran = now;
            }
            // Both are known at once, and either may be noticed first.
            is_kept &= !watched.known.has_changed().unwrap_or(false);
            let gate = watched.gate.as_mut();
            let ordered = gate.map(|gate| gate.ordered.borrow_and_update().clone());
            if !is_kept {
                let now = Kept {
                    memory: watched.known.borrow_and_update().clone(),
                    ran: ran.clone(),
                };
                let error = self.try_to_keep(now).await.err();
                failed = error.is_some();
                self.tell(error, problems);
            }
            if let (Some(gate), Some(ordered), false) = (&watched.gate, ordered, failed) {
                gate.desired.send_if_modified(|desired| {
                    let is_news = *desired != ordered;
                    *desired = ordered;
                    is_news
                });
            }
        }
    }

    async fn try_to_keep(&self, kept: Kept) -> Result<(), String> {
        let keeper = self.clone();
        // The disk may be slow.
        let written = tokio::task::spawn_blocking(move || keeper.keep(&kept)).await;
        match written {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tell(&self, error: Option<String>, problems: &watch::Sender<Problems>) {
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

/// What is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Known,
    Statuses,
    Ordered,
    /// It is time to try again.
    Nothing,
}

impl Watched<'_> {
    /// Waits for something new, and no longer than [`RETRY`] where keeping it failed; `None` at the end of it all.
    async fn news(&mut self, failed: bool) -> Option<News> {
        let Self {
            known,
            statuses,
            gate,
        } = self;
        let ordered = async {
            match gate {
                Some(gate) => gate.ordered.changed().await,
                None => std::future::pending().await,
            }
        };
        let retry = async {
            match failed {
                true => tokio::time::sleep(RETRY).await,
                false => std::future::pending().await,
            }
        };
        let (changed, news) = tokio::select! {
            changed = known.changed() => (changed, News::Known),
            changed = statuses.changed() => (changed, News::Statuses),
            changed = ordered => (changed, News::Ordered),
            () = retry => return Some(News::Nothing),
        };
        changed.ok().map(|()| news)
    }
}

fn split(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    Some((head, &text[end + 1..]))
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
