//! The directory with the programs that were fetched, and the record of them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use iot_contracts::{AgentProgram, Hex, OperatorKey};
use sha2::{Digest, Sha256};

use super::judge::{Refusal, check_signature};
use super::record::{Placed, Record, Slot};
use crate::durable;
use crate::keep;

/// The directory's name in the state directory.
const DIRECTORY: &str = "slots";
/// The record's file name.
const RECORD: &str = "record";
/// What a file's name ends with until it is complete. One agent runs at a time, so that a left-over is overwritten.
const UNFINISHED: &str = ".new";
/// The longest record that is read, in bytes.
const MAX_RECORD: u64 = 64 * 1024;

/// By which the launcher tells a program which one it is.
pub const SLOT_VARIABLE: &str = "IOT_AGENT_SLOT";

/// A program in a slot that is not started.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// Its release is not one that is taken.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be read.
    #[error("cannot read '{path}'")]
    Read {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what was placed.
    #[error("'{path}' has digest {found} (expected {expected})")]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// Its digest.
        found: Hex<32>,
        /// The release's.
        expected: Hex<32>,
    },
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Slots {
    directory: PathBuf,
}

impl Slots {
    /// In the directory that the service manager gives the unit for its state, if it does.
    pub fn of_this_unit() -> Option<Self> {
        keep::state_directory().map(|state| Self::below(&state))
    }

    /// Below `state`.
    pub fn below(state: &Path) -> Self {
        Self {
            directory: state.join(DIRECTORY),
        }
    }

    /// Where the program of a slot lies.
    pub fn program(&self, slot: Slot) -> PathBuf {
        self.directory.join(slot.name())
    }

    /// Where it lies until it is complete.
    pub fn unfinished(&self, slot: Slot) -> PathBuf {
        self.directory.join(format!("{}{UNFINISHED}", slot.name()))
    }

    /// A file of the launcher's, beside the programs.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes the directory, for the agent alone.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn prepare(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&self.directory)
    }

    /// A complete program takes its place, for good.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to; the slot is as it was.
    pub fn place(&self, slot: Slot) -> io::Result<()> {
        durable::place(&self.unfinished(slot), &self.program(slot))
    }

    /// Whether what lies in a slot is what was placed there, of a release that is taken.
    ///
    /// # Errors
    ///
    /// [`SlotError`]: it is not.
    pub fn check(&self, placed: &Placed, keys: &[OperatorKey]) -> Result<(), SlotError> {
        check_signature(&placed.release, keys)?;
        let path = self.program(placed.slot);
        let found = match digest_of(&path) {
            Ok(found) => found,
            Err(source) => return Err(SlotError::Read { path, source }),
        };
        let expected = placed.release.sha256();
        if found != expected {
            return Err(SlotError::Damaged {
                path,
                found,
                expected,
            });
        }
        Ok(())
    }

    /// What is known; nothing where there is no record, or one that cannot be read.
    pub fn recall(&self) -> Option<Record> {
        let path = self.directory.join(RECORD);
        let text = match File::open(&path) {
            Ok(file) => {
                let mut text = Vec::new();
                file.take(MAX_RECORD).read_to_end(&mut text).map(|_| text)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error),
        };
        let record = text.and_then(|text| Ok(serde_json::from_slice(&text)?));
        record
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "the record of updates is ignored");
            })
            .ok()
    }

    /// The record takes the place of the one before, as a whole and for good.
    ///
    /// # Errors
    ///
    /// It cannot be written; the one before is as it was.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let unfinished = format!("{RECORD}{UNFINISHED}");
        durable::replace(
            &self.directory,
            RECORD,
            &unfinished,
            &serde_json::to_vec(record)?,
        )
    }
}

/// The digest of a file.
///
/// # Errors
///
/// It cannot be read.
pub fn digest_of(path: &Path) -> io::Result<Hex<32>> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(<[u8; 32]>::from(digest.finalize()).into()),
            length => digest.update(&buffer[..length]),
        }
    }
}

/// The digest of this process's own program.
///
/// # Errors
///
/// It cannot be read.
pub fn own_digest() -> io::Result<Hex<32>> {
    digest_of(Path::new("/proc/self/exe"))
}

/// Which program this is, as the launcher said; absent where none did.
pub fn program_of_this_process() -> Option<AgentProgram> {
    match std::env::var_os(SLOT_VARIABLE)?.to_str()? {
        "a" => Some(AgentProgram::A),
        "b" => Some(AgentProgram::B),
        _ => None,
    }
}
