//! Whether a release is taken. Pure.

use iot_contracts::{
    AgentProgram, AgentRelease, LastUpdate, OperatorKey, UpdateConfig, UpdatePhase,
};

use super::record::Record;

/// What the platform wants: a value of the release's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its revision.
    pub revision: u64,
    /// A release, as JSON.
    pub value: Vec<u8>,
}

/// What is done about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing, and that is reported.
    Leave(LastUpdate),
    /// Nothing, but its serial is noted before that is reported: what was released in between is too old from then on.
    Note(AgentRelease, LastUpdate),
    /// It is fetched and tried.
    Take(AgentRelease),
}

/// Why a release is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read. What serde says of it would quote it.
    #[error("it is no release, from line {line}, column {column}")]
    NotRead {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Nobody's releases are taken.
    #[error("the configuration names no keys for releases (expected update.keys)")]
    NoKeys,
    /// It is signed by nobody whose releases are taken, or not at all.
    #[error("none of the configuration's keys has signed it")]
    Signature,
    /// It is for other devices.
    #[error("it is for {found} (expected {})", std::env::consts::ARCH)]
    Architecture {
        /// What it is for.
        found: String,
    },
    /// It was signed before one that was taken.
    #[error("its serial is {found} (expected {least} or higher, as was taken before)")]
    Old {
        /// Its serial.
        found: u64,
        /// The highest that was taken.
        least: u64,
    },
    /// Nobody would start it.
    #[error("the agent was not started with --launch (expected it in the service's unit)")]
    NoLauncher,
    /// There is no place for it.
    #[error("the agent has no STATE_DIRECTORY to put it in")]
    NoPlace,
}

/// Judges what is wanted by the keys of `config` and what is known, while `program` runs.
///
/// # Errors
///
/// [`Refusal`]: it is not taken.
pub fn judge(
    wanted: &Wanted,
    config: Option<&UpdateConfig>,
    record: &Record,
    program: AgentProgram,
) -> Result<Judgement, Refusal> {
    let release: AgentRelease =
        serde_json::from_slice(&wanted.value).map_err(|error| Refusal::NotRead {
            line: error.line(),
            column: error.column(),
        })?;
    let keys = config.map_or(&[][..], |config| &config.keys);
    check_signature(&release, keys)?;
    if release.architecture() != std::env::consts::ARCH {
        let found = release.architecture().to_owned();
        return Err(Refusal::Architecture { found });
    }
    if record.runs(program, release.sha256()) {
        let proven = LastUpdate {
            revision: wanted.revision,
            sha256: Some(release.sha256()),
            phase: UpdatePhase::Proven,
            detail: None,
        };
        return Ok(match release.serial() > record.serial() {
            true => Judgement::Note(release, proven),
            false => Judgement::Leave(proven),
        });
    }
    if record.is_older(&release) {
        return Err(Refusal::Old {
            found: release.serial(),
            least: record.serial(),
        });
    }
    if record.has_failed(release.sha256(), wanted.revision)
        && let Some(last) = record.told()
    {
        return Ok(Judgement::Leave(last));
    }
    Ok(Judgement::Take(release))
}

/// Whether one of `keys` has signed a release.
///
/// # Errors
///
/// [`Refusal`]: none has, or there is none.
pub fn check_signature(release: &AgentRelease, keys: &[OperatorKey]) -> Result<(), Refusal> {
    if keys.is_empty() {
        return Err(Refusal::NoKeys);
    }
    match keys.iter().any(|key| release.is_signed_by(key)) {
        true => Ok(()),
        false => Err(Refusal::Signature),
    }
}
