//! The key's file and its counter.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use iot_contracts::{DeploymentName, DeviceId, IotScore, OperatorConfig, Refusal, ReleasedProgram};

use super::{Operator, OperatorError};

fn device() -> DeviceId {
    "pi-1".parse().expect("valid")
}

fn web() -> DeploymentName {
    "web".parse().expect("valid")
}

fn score() -> IotScore {
    serde_json::from_str(r#"{"type":"PodmanV0","data":{"services":[]}}"#).expect("valid")
}

fn counter(path: &Path) -> u64 {
    let operator = Operator::open(path).expect("a key");
    let order = operator.order(&device(), &web(), None).expect("signed");
    order.counter
}

#[test]
fn a_key_is_made_once_and_only_its_owner_may_read_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("operator");
    let missing = Operator::open(&path).expect_err("there is none");
    assert!(matches!(missing, OperatorError::Read { .. }), "{missing:?}");
    let made = Operator::ensure(&path).expect("made");
    let again = Operator::ensure(&path).expect("there");
    assert_eq!(made.key(), again.key());
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let seed = fs::read_to_string(&path).expect("readable");
    assert!(!format!("{made:?}").contains(seed.trim()));
    for mode in [0o640, 0o604, 0o660, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        let refused = Operator::ensure(&path).expect_err("others may read it");
        assert!(
            matches!(refused, OperatorError::Permissions { mode: is, .. } if is == mode),
            "{refused:?}"
        );
    }
}

#[test]
fn what_is_no_operators_key_is_refused_without_being_quoted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("operator");
    let user = nkeys::KeyPair::new_user().seed().expect("a seed");
    let public = nkeys::KeyPair::new_operator().public_key();
    let long = "S".repeat(5000);
    for text in [user.as_str(), public.as_str(), "", "\u{e4}", &long] {
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        let refused = Operator::ensure(&path).expect_err("no key");
        assert!(matches!(refused, OperatorError::Key { .. }), "{refused:?}");
        assert!(text.is_empty() || !format!("{refused:?} {refused}").contains(text));
    }
}

#[test]
fn the_counter_rises_whatever_the_clock_says() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("operator");
    Operator::ensure(&path).expect("made");
    let first = counter(&path);
    // About the time in milliseconds.
    assert!(first > 1_700_000_000_000, "{first}");
    let mut last = first;
    for _ in 0..20 {
        let next = counter(&path);
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    // A clock that was an age ahead, and is right again.
    let file = dir.path().join("operator.counter");
    fs::write(&file, "9000000000000000\n").expect("written");
    assert_eq!(counter(&path), 9_000_000_000_000_001);
    for odd in ["", "x", "-1", "18446744073709551615"] {
        fs::write(&file, odd).expect("written");
        let operator = Operator::open(&path).expect("a key");
        let refused = operator.order(&device(), &web(), None);
        assert!(
            matches!(&refused, Err(OperatorError::Counter { found, .. }) if found == odd),
            "{refused:?}"
        );
    }
}

#[test]
fn no_two_of_many_at_once_get_one_counter() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("operator");
    Operator::ensure(&path).expect("made");
    let counters = std::thread::scope(|scope| {
        let one = || (0..25).map(|_| counter(&path)).collect::<Vec<_>>();
        let all: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        let all = all.into_iter().flat_map(|one| one.join().expect("signed"));
        all.collect::<Vec<_>>()
    });
    let distinct: std::collections::BTreeSet<_> = counters.iter().collect();
    assert_eq!((counters.len(), distinct.len()), (100, 100));
}

#[test]
fn what_is_signed_is_what_a_device_checks() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let operator = Operator::ensure(&dir.path().join("operator")).expect("made");
    let obeys = OperatorConfig::new(vec![operator.key().clone()], Vec::new()).expect("one");
    for score in [Some(score()), None] {
        let order = operator
            .order(&device(), &web(), score.as_ref())
            .expect("signed");
        assert_eq!(order.check(&obeys, &device(), &web()), Ok(()));
        let other = order.check(&obeys, &"pi-2".parse().expect("valid"), &web());
        assert_eq!(other, Err(Refusal::OtherDevice { named: device() }));
        let is_json = order.score.map(|json| serde_json::from_str(&json));
        assert_eq!(is_json.transpose().expect("JSON"), score);
    }
}

fn program() -> ReleasedProgram {
    let url = "https://releases.example/agent".parse().expect("valid");
    ReleasedProgram::new("aarch64", [1; 32].into(), 7, url).expect("valid")
}

#[test]
fn a_release_is_signed_with_the_key_and_its_serial_rises() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("releaser");
    let operator = Operator::ensure(&path).expect("made");
    let other = Operator::ensure(&dir.path().join("other")).expect("made");
    let mut last = 0;
    for _ in 0..20 {
        let release = operator.release(&program()).expect("signed");
        assert!(release.is_signed_by(operator.key()));
        assert!(!release.is_signed_by(other.key()));
        assert!(release.serial() > last, "{release:?} after {last}");
        last = release.serial();
    }
    // It is on the disk when it is given, and an order is no release.
    let file = dir.path().join("releaser.counter");
    let kept = fs::read_to_string(&file).expect("readable");
    assert_eq!(kept, format!("{last}\n"));
    assert!(counter(&path) > last);
    fs::write(&file, "9000000000000000\n").expect("written");
    let ahead = operator.release(&program()).expect("signed");
    assert_eq!(ahead.serial(), 9_000_000_000_000_001);
    fs::write(&file, "x").expect("written");
    let refused = operator.release(&program());
    assert!(
        matches!(&refused, Err(OperatorError::Counter { found, .. }) if found == "x"),
        "{refused:?}"
    );
}

#[test]
fn no_release_leaves_whose_serial_could_not_be_kept() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("releaser");
    let operator = Operator::ensure(&path).expect("made");
    // A directory cannot be replaced by a file, whoever asks.
    fs::create_dir_all(dir.path().join("releaser.counter/x")).expect("made");
    let refused = operator.release(&program());
    assert!(
        matches!(&refused, Err(OperatorError::Read { .. })),
        "{refused:?}"
    );
}
