//! Tests of what decides, and of what is on the disk.

#[path = "fetch_tests.rs"]
mod fetch;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use iot_contracts::AgentProgram::{A, Installed};
use iot_contracts::{AgentRelease, Hex, LastUpdate, ReleasedProgram, UpdateConfig, UpdatePhase};

use super::judge::{Judgement, Refusal, Wanted, judge};
use super::record::{MAX_STARTS, Placed, Record, Slot, Start};
use super::slots::{SlotError, Slots, digest_of};
use crate::durable;
use crate::signing::{key, sign};

/// A release of this device's architecture.
pub fn release(seed: u8, serial: u64, sha256: Hex<32>, size: u64, url: &str) -> AgentRelease {
    release_for(std::env::consts::ARCH, seed, serial, sha256, size, url)
}

fn release_for(
    architecture: &str,
    seed: u8,
    serial: u64,
    sha256: Hex<32>,
    size: u64,
    url: &str,
) -> AgentRelease {
    let program = ReleasedProgram::new(architecture, sha256, size, url.parse().unwrap());
    AgentRelease::sign(serial, program.unwrap(), |text| sign(seed, text)).unwrap()
}

pub fn numbered(serial: u64) -> AgentRelease {
    let digest = [u8::try_from(serial).unwrap(); 32];
    release(1, serial, digest.into(), 10, "https://h/x")
}

pub fn trusting(seeds: &[u8]) -> UpdateConfig {
    UpdateConfig {
        keys: seeds.iter().map(|seed| key(*seed)).collect(),
        ca: None,
        prove_within_seconds: Default::default(),
    }
}

pub fn wanted(revision: u64, release: &AgentRelease) -> Wanted {
    let value = serde_json::to_vec(release).unwrap();
    Wanted { revision, value }
}

fn fresh() -> Record {
    Record::of_installed([0xff; 32].into())
}

pub fn placed(slot: Slot, serial: u64) -> Placed {
    let release = numbered(serial);
    Placed { slot, release }
}

#[test]
fn what_is_signed_by_one_of_the_keys_is_taken_and_nothing_else() {
    let release = numbered(1);
    let judged = |value: &str, config: Option<&UpdateConfig>| {
        let value = value.as_bytes().to_vec();
        judge(&Wanted { revision: 1, value }, config, &fresh(), Installed)
    };
    let json = serde_json::to_string(&release).unwrap();
    let take = Judgement::Take(release);
    assert_eq!(judged(&json, Some(&trusting(&[1]))).unwrap(), take);
    assert_eq!(judged(&json, Some(&trusting(&[2, 1]))).unwrap(), take);
    // Where it is fetched is not signed for.
    let elsewhere = json.replace("https://h/x", "https://h/y");
    judged(&elsewhere, Some(&trusting(&[1]))).unwrap();

    for config in [None, Some(&trusting(&[]))] {
        assert!(matches!(judged(&json, config), Err(Refusal::NoKeys)));
    }
    let by_others = judged(&json, Some(&trusting(&[2])));
    assert!(matches!(by_others, Err(Refusal::Signature)));
    let changed = [
        json.replace("\"serial\":1", "\"serial\":2"),
        json.replace("\"size\":10", "\"size\":11"),
        json.replace(&"01".repeat(32), &"02".repeat(32)),
        json.replace(std::env::consts::ARCH, "riscv64"),
    ];
    for changed in changed {
        assert_ne!(changed, json);
        let judged = judged(&changed, Some(&trusting(&[1])));
        assert!(matches!(judged, Err(Refusal::Signature)), "{changed}");
    }
    for text in ["", "{}", "hunter2", &json.replace("https", "http")] {
        let error = judged(text, Some(&trusting(&[1]))).unwrap_err();
        assert!(matches!(error, Refusal::NotRead { .. }), "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn a_release_for_others_is_refused() {
    let release = release_for("riscv64", 1, 1, [1; 32].into(), 10, "https://h/x");
    let judged = judge(
        &wanted(1, &release),
        Some(&trusting(&[1])),
        &fresh(),
        Installed,
    );
    assert!(matches!(judged, Err(Refusal::Architecture { found }) if found == "riscv64"));
}

#[test]
fn an_older_release_is_refused_and_one_that_runs_is_left() {
    let config = trusting(&[1]);
    let mut record = fresh();
    record.try_out(placed(Slot::A, 5), 1, false);
    record.prove();
    let judged = |serial| judge(&wanted(9, &numbered(serial)), Some(&config), &record, A);
    assert!(matches!(
        judged(4),
        Err(Refusal::Old { found: 4, least: 5 })
    ));
    assert_eq!(judged(6).unwrap(), Judgement::Take(numbered(6)));
    let proven = LastUpdate {
        revision: 9,
        sha256: Some(numbered(5).sha256()),
        phase: UpdatePhase::Proven,
        detail: None,
    };
    assert_eq!(judged(5).unwrap(), Judgement::Leave(proven));
    // It is fetched anew where the installed one runs because its file is damaged.
    let damaged = judge(&wanted(9, &numbered(5)), Some(&config), &record, Installed);
    assert_eq!(damaged.unwrap(), Judgement::Take(numbered(5)));
    // Who installs another agent does not open the way to older ones.
    record.installed_anew([0xee; 32].into());
    let judged = judge(&wanted(9, &numbered(4)), Some(&config), &record, A);
    assert!(matches!(judged, Err(Refusal::Old { .. })));
}

#[test]
fn what_failed_is_not_tried_again_until_its_key_is_written_anew() {
    let config = trusting(&[1]);
    let mut record = fresh();
    record.try_out(placed(Slot::A, 5), 7, false);
    record.fail("why".to_owned());
    let judged = |revision, serial| {
        let wanted = wanted(revision, &numbered(serial));
        judge(&wanted, Some(&config), &record, A).unwrap()
    };
    let failed = LastUpdate {
        revision: 7,
        sha256: Some(numbered(5).sha256()),
        phase: UpdatePhase::Failed,
        detail: Some("why".to_owned()),
    };
    assert_eq!(judged(7, 5), Judgement::Leave(failed));
    assert_eq!(judged(8, 5), Judgement::Take(numbered(5)));
    assert_eq!(judged(7, 6), Judgement::Take(numbered(6)));
}

#[test]
fn a_program_is_tried_three_times_and_the_one_before_comes_back() {
    let mut record = fresh();
    assert_eq!(record.next_start(None), Start::Installed);
    assert_eq!(record.free_slot(), Slot::A);
    record.try_out(placed(Slot::A, 1), 1, false);
    for _ in 0..MAX_STARTS {
        assert_eq!(record.next_start(None), Start::Trial(placed(Slot::A, 1)));
    }
    assert_eq!(record.next_start(None), Start::Installed);
    assert_eq!(record.told().unwrap().phase, UpdatePhase::Failed);

    record.try_out(placed(Slot::A, 2), 2, false);
    assert_eq!(record.next_start(None), Start::Trial(placed(Slot::A, 2)));
    assert_eq!(record.told().unwrap().phase, UpdatePhase::Trying);
    record.prove();
    assert_eq!(record.told().unwrap().phase, UpdatePhase::Proven);
    assert_eq!(record.next_start(None), Start::Proven(placed(Slot::A, 2)));

    // What runs is never overwritten.
    assert_eq!(record.free_slot(), Slot::B);
    record.try_out(placed(Slot::B, 3), 3, false);
    record.fail("why".to_owned());
    assert_eq!(record.next_start(None), Start::Proven(placed(Slot::A, 2)));
    assert_eq!(record.free_slot(), Slot::B);
}

#[test]
fn a_record_that_is_torn_counts_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let slots = Slots::below(dir.path());
    assert_eq!(slots.recall(), None);
    slots.prepare().unwrap();
    let mut record = fresh();
    record.try_out(placed(Slot::A, 1), 1, false);
    slots.save(&record).unwrap();
    assert_eq!(slots.recall(), Some(record.clone()));
    let path = slots.beside("record");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&slots.beside(""))), (0o600, 0o700));
    // A power cut leaves a part of the new one beside the old one.
    let text = fs::read(&path).unwrap();
    fs::write(slots.beside("record.new"), &text[..9]).unwrap();
    assert_eq!(slots.recall(), Some(record));
    for length in 0..text.len() {
        fs::write(&path, &text[..length]).unwrap();
        assert_eq!(slots.recall(), None, "{length} bytes");
    }
    // A newer agent's record is read as far as it is known.
    let newer = String::from_utf8(text)
        .unwrap()
        .replacen('{', r#"{"more":1,"#, 1);
    fs::write(&path, newer).unwrap();
    assert!(slots.recall().is_some());
}

#[test]
fn what_lies_in_a_slot_is_verified_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let slots = Slots::below(dir.path());
    slots.prepare().unwrap();
    let path = slots.program(Slot::A);
    fs::write(&path, "program").unwrap();
    let sha256 = digest_of(&path).unwrap();
    let release = release(1, 1, sha256, 7, "https://h/x");
    let placed = Placed {
        slot: Slot::A,
        release,
    };
    slots.check(&placed, &trusting(&[1]).keys).unwrap();
    let revoked = slots.check(&placed, &trusting(&[2]).keys);
    assert!(matches!(
        revoked,
        Err(SlotError::Refused(Refusal::Signature))
    ));
    fs::write(&path, "other").unwrap();
    let damaged = slots.check(&placed, &trusting(&[1]).keys);
    assert!(matches!(damaged, Err(SlotError::Damaged { expected, .. }) if expected == sha256));
    fs::remove_file(&path).unwrap();
    let gone = slots.check(&placed, &trusting(&[1]).keys);
    assert!(matches!(gone, Err(SlotError::Read { .. })));
}

#[test]
fn a_left_over_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("target"), dir.path().join("a.new"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    durable::create(&link, 0o700).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    let mode = fs::symlink_metadata(&link).unwrap().permissions().mode();
    assert_eq!(mode, 0o100_700);
}
