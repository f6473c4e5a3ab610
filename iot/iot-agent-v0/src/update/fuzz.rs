//! Values of the release's key, and records of what was made of them.

use std::env::consts::ARCH;
use std::sync::OnceLock;

use iot_contracts::{AgentProgram, AgentRelease, ReleasedProgram, UpdateConfig};

use super::judge::{Judgement, Wanted, check_signature, judge};
use super::record::{MAX_STARTS, Placed, Record, Start};
use crate::signing::{key, sign};

/// The longest message about a release, in bytes: it is told in each report.
const MAX_MESSAGE: usize = 1000;

fn config() -> &'static UpdateConfig {
    static CONFIG: OnceLock<UpdateConfig> = OnceLock::new();
    CONFIG.get_or_init(|| UpdateConfig {
        keys: vec![key(1), key(2)],
        ca: None,
        prove_within_seconds: Default::default(),
    })
}

/// A release and, after a NUL, a record. The first byte says who signs the release (0: nobody, as it may be signed), and
/// whether it is for this device.
pub fn releases(data: &[u8]) {
    let Some((wanted, mut record, program)) = made(data) else {
        return;
    };
    match judge(&wanted, Some(config()), &record, program) {
        Err(refusal) => {
            let message = refusal.to_string();
            assert!(message.len() <= MAX_MESSAGE, "{message}");
        }
        Ok(Judgement::Leave(_)) => {}
        Ok(Judgement::Note(release, _)) => {
            assert!(release.serial() > record.serial());
            check_signature(&release, &config().keys).unwrap();
            record.take_serial_of(&release);
        }
        Ok(Judgement::Take(release)) => {
            assert!(release.serial() >= record.serial() && release.architecture() == ARCH);
            check_signature(&release, &config().keys).unwrap();
            take(&mut record, release, wanted.revision);
        }
    }
    let json = serde_json::to_vec(&record).unwrap();
    assert_eq!(serde_json::from_slice::<Record>(&json).unwrap(), record);
    // Whatever the record says, what is on trial is not started for ever.
    let is_trial = |record: &mut Record| matches!(record.next_start(None), Start::Trial(_));
    let starts = (0..=MAX_STARTS).filter(|_| is_trial(&mut record)).count();
    assert!(starts <= MAX_STARTS as usize && !record.is_trying());
}

/// The value, the record, and the program that runs, which are made of the bytes.
fn made(data: &[u8]) -> Option<(Wanted, Record, AgentProgram)> {
    let [how, rest @ ..] = data else { return None };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (value, kept) = (parts.next().unwrap_or(rest), parts.next());
    let kept = kept.and_then(|kept| serde_json::from_slice::<Record>(kept).ok());
    let record = kept.unwrap_or_else(|| Record::of_installed([0xff; 32].into()));
    let value = match serde_json::from_slice::<AgentRelease>(value) {
        Ok(release) if how % 4 != 0 => signed(*how, &release),
        _ => value.to_vec(),
    };
    let wanted = Wanted { revision: 7, value };
    let programs = [AgentProgram::Installed, AgentProgram::A, AgentProgram::B];
    let program = programs[usize::from(how >> 4) % programs.len()];
    Some((wanted, record, program))
}

/// It is put where nothing is that is needed, and what is older is not taken from then on.
fn take(record: &mut Record, release: AgentRelease, revision: u64) {
    let slot = record.free_slot();
    if let Start::Proven(placed) = record.proven_start() {
        assert_ne!(placed.slot, slot);
    }
    let serial = release.serial();
    record.try_out(Placed { slot, release }, revision, false);
    assert!(record.is_trying() && record.serial() == serial);
}

/// The same program as `how` has it signed: by one of two keys that count, or by one that does not.
fn signed(how: u8, release: &AgentRelease) -> Vec<u8> {
    let is_own = how & 0x0c != 0x0c;
    let architecture = if is_own { ARCH } else { release.architecture() };
    let (sha256, size) = (release.sha256(), release.size());
    let program = ReleasedProgram::new(architecture, sha256, size, release.url().clone());
    let sign = |text: &[u8]| sign(how % 4, text);
    let release = AgentRelease::sign(release.serial(), program.unwrap(), sign);
    serde_json::to_vec(&release.unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{config, judge, made};

    #[test]
    fn seeds_reach_what_lies_behind_a_signature() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/release");
        let seeds = [
            ("signed", true),
            ("with-record", true),
            ("as-it-is", false),
            ("by-unknown-key", false),
            (
                "for-another-architecture",
                std::env::consts::ARCH == "aarch64",
            ),
            ("no-release", false),
        ];
        for (name, expected) in seeds {
            let data = std::fs::read(dir.join(name)).unwrap();
            let (wanted, record, program) = made(&data).unwrap();
            let judged = judge(&wanted, Some(config()), &record, program);
            assert_eq!(judged.is_ok(), expected, "{name}: {judged:?}");
        }
    }
}
