//! The file, and what may have become of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use iot_contracts::BucketMarker;
use tokio::sync::watch;

use super::{FILE, KeepError, Keeper, UNFINISHED};
use crate::followed::{Entry, Followed, SeenMarker};
use crate::problems::Problems;

fn memory(tag: &str) -> Followed {
    let value = format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}","env":{{"A":"s3cr3t"}}}}]}}}}"#
    );
    let entry = |name: &str, revision, value| Entry {
        name: std::str::FromStr::from_str(name).unwrap(),
        revision,
        value,
    };
    let entries = [
        entry("web", 5, Some(value.into_bytes())),
        entry("old", 6, None),
        entry("bad", 7, Some(b"{".to_vec())),
    ];
    let seen = SeenMarker {
        marker: BucketMarker {
            id: "b1".parse().unwrap(),
            replaces: Vec::new(),
        },
        revision: 1,
    };
    Followed::default().listed(Some(&seen), &entries).unwrap().0
}

fn keeper(dir: &Path) -> Keeper {
    Keeper::new(dir.to_owned(), &"pi-1".parse().unwrap())
}

#[test]
fn what_is_kept_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    assert_eq!(keeper.recall(), (Followed::default(), None));
    for tag in ["1", "2"] {
        // What a power cut left.
        fs::write(dir.path().join(UNFINISHED), "x").unwrap();
        keeper.keep(&memory(tag)).unwrap();
        assert_eq!(keeper.recall(), (memory(tag), None));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(!dir.path().join(UNFINISHED).exists());
    }
}

#[test]
fn a_file_that_is_not_as_it_was_written_counts_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    let file = dir.path().join(FILE);
    keeper.keep(&memory("1")).unwrap();
    let whole = fs::read(&file).unwrap();
    let is_none = |what: &str| {
        let (memory, why) = keeper.recall();
        assert_eq!(memory, Followed::default(), "{what}");
        assert!(why.is_some(), "{what}");
    };
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        is_none(&format!("cut at {length}"));
        let mut zeroed = whole.clone();
        zeroed[length..].fill(0);
        fs::write(&file, &zeroed).unwrap();
        is_none(&format!("zeros from {length}"));
        let mut flipped = whole.clone();
        flipped[length] ^= 1;
        fs::write(&file, &flipped).unwrap();
        is_none(&format!("a bit at {length}"));
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(keeper.recall(), (memory("1"), None));
}

#[test]
fn another_content_device_or_kind_of_file_counts_as_none_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    let file = dir.path().join(FILE);
    let write = |json: &str| {
        let digest = super::digest_of(json.as_bytes());
        fs::write(&file, format!("harmony-desired-state 1 {digest}\n{json}")).unwrap();
    };
    write(r#"{"device_id":"pi-1","memory":{"bucket":null,"keys":{"web":"s3cr3t"}}}"#);
    let error = keeper.read(&file).unwrap_err();
    assert!(matches!(error, KeepError::Content { line: 1, .. }));
    assert!(!crate::error::chain(&error).contains("s3cr3t"));
    write(r#"{"device_id":"pi-2","memory":{"bucket":null,"keys":{}}}"#);
    let error = keeper.read(&file).unwrap_err();
    assert!(matches!(error, KeepError::OtherDevice(id) if id.as_str() == "pi-2"));
    let why = keeper.recall().1;
    assert_eq!(why.as_deref(), Some("it is of device pi-2"));
    fs::write(&file, "harmony-desired-state 2 x\n{}").unwrap();
    assert!(matches!(keeper.read(&file), Err(KeepError::Format)));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(keeper.read(&file), Err(KeepError::Read(_))));
    assert_eq!(keeper.recall().0, Followed::default());
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_a_problem_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("state");
    let keeper = keeper(&missing);
    let known = watch::Sender::new(Followed::default());
    let problems = watch::Sender::new(Problems::default());
    let mut told = problems.subscribe();
    let scenario = async {
        known.send_replace(memory("1"));
        told.wait_for(|problems| problems.keeping.is_some())
            .await
            .unwrap();
        fs::create_dir(&missing).unwrap();
        known.send_replace(memory("2"));
        told.wait_for(|problems| problems.keeping.is_none())
            .await
            .unwrap();
    };
    let scenario = tokio::time::timeout(Duration::from_secs(10), scenario);
    tokio::select! {
        () = keeper.run(known.subscribe(), &problems) => panic!("it ended"),
        ended = scenario => ended.expect("it is told and mended"),
    }
    assert_eq!(keeper.recall(), (memory("2"), None));
}
