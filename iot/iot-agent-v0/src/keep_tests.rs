//! The file, and what may have become of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use iot_contracts::{BucketMarker, DeploymentStatus, DesiredVersion, Phase};
use tokio::sync::watch;

use super::{FILE, Gate, KeepError, Keeper, Kept, UNFINISHED, Watched};
use crate::assess::Ran;
use crate::desired::DesiredState;
use crate::followed::{Entry, Followed, SeenMarker};
use crate::problems::Problems;
use crate::reconcile::Statuses;

fn memory(tag: &str) -> Kept {
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
    let version = DesiredVersion {
        revision: 5,
        digest: format!("sha256:{tag}"),
        counter: None,
    };
    Kept {
        memory: Followed::default().listed(Some(&seen), &entries).unwrap().0,
        ran: [("web".parse().unwrap(), version)].into(),
    }
}

fn keeper(dir: &Path) -> Keeper {
    Keeper::new(dir.to_owned(), &"pi-1".parse().unwrap())
}

#[test]
fn what_is_kept_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    assert_eq!(keeper.recall(), (Kept::default(), None));
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
        assert_eq!(memory, Kept::default(), "{what}");
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
        let digest = crate::digest::sha256(json.as_bytes());
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
    assert_eq!(keeper.recall().0, Kept::default());
}

#[test]
fn what_an_earlier_version_kept_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    let json = r#"{"device_id":"pi-1","memory":{"bucket":{"id":"b1","revision":1},"keys":{"web":{"revision":5,
        "good":{"services":[]},"error":null,"gone":false,"bucket":"b1","expired":false}}}}"#;
    let digest = crate::digest::sha256(json.as_bytes());
    let text = format!("harmony-desired-state 1 {digest}\n{json}");
    fs::write(dir.path().join(FILE), text).unwrap();
    let (kept, why) = keeper.recall();
    assert_eq!((kept.memory.revision(), why), (5, None));
    assert!(kept.ran.is_empty());
}

/// The agent's parts that the keeper stands between.
struct Parts {
    known: watch::Sender<Followed>,
    statuses: watch::Sender<Statuses>,
    ordered: watch::Sender<DesiredState>,
    desired: watch::Sender<DesiredState>,
    problems: watch::Sender<Problems>,
}

impl Parts {
    fn new() -> Self {
        Self {
            known: watch::Sender::new(Followed::default()),
            statuses: watch::Sender::new(Statuses::new()),
            ordered: watch::Sender::new(DesiredState::default()),
            desired: watch::Sender::new(DesiredState::default()),
            problems: watch::Sender::new(Problems::default()),
        }
    }

    /// As the follower does it.
    fn learn(&self, kept: &Kept) {
        self.known.send_replace(kept.memory.clone());
        self.ordered.send_replace(kept.memory.desired());
    }

    async fn with(&self, keeper: &Keeper, has_gate: bool, scenario: impl Future<Output = ()>) {
        let gate = has_gate.then(|| Gate {
            ordered: self.ordered.subscribe(),
            desired: &self.desired,
        });
        let watched = Watched {
            known: self.known.subscribe(),
            statuses: self.statuses.subscribe(),
            gate,
        };
        let scenario = tokio::time::timeout(Duration::from_secs(10), scenario);
        tokio::select! {
            () = keeper.run(watched, Ran::new(), &self.problems) => panic!("it ended"),
            ended = scenario => ended.expect("it comes about"),
        }
    }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_a_problem_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("state");
    let keeper = keeper(&missing);
    let parts = Parts::new();
    let mut told = parts.problems.subscribe();
    let scenario = async {
        parts.learn(&memory("1"));
        told.wait_for(|problems| problems.keeping.is_some())
            .await
            .unwrap();
        fs::create_dir(&missing).unwrap();
        parts.learn(&memory("2"));
        told.wait_for(|problems| problems.keeping.is_none())
            .await
            .unwrap();
    };
    parts.with(&keeper, false, scenario).await;
    assert_eq!(keeper.recall().0.memory, memory("2").memory);
}

#[tokio::test]
async fn nothing_goes_through_the_gate_before_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("state");
    let keeper = keeper(&missing);
    let parts = Parts::new();
    let mut told = parts.problems.subscribe();
    let mut desired = parts.desired.subscribe();
    let scenario = async {
        parts.learn(&memory("1"));
        told.wait_for(|problems| problems.keeping.is_some())
            .await
            .unwrap();
        assert!(!desired.has_changed().unwrap());
        fs::create_dir(&missing).unwrap();
        for tag in ["2", "3"] {
            parts.learn(&memory(tag));
            let is_it = |desired: &DesiredState| *desired == memory(tag).memory.desired();
            desired.wait_for(is_it).await.unwrap();
            assert_eq!(keeper.recall().0.memory, memory(tag).memory);
        }
        // What is in the file already goes through as well: a first listing that brings nothing new.
        parts.ordered.send_replace(DesiredState::default());
        let is_it = |desired: &DesiredState| *desired == DesiredState::default();
        desired.wait_for(is_it).await.unwrap();
    };
    parts.with(&keeper, true, scenario).await;
}

#[tokio::test]
async fn what_ran_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    let parts = Parts::new();
    let (web, kept) = ("web".parse().unwrap(), memory("1"));
    let status = DeploymentStatus {
        phase: Phase::Running,
        detail: None,
        desired: None,
        ran: kept.ran.get(&web).cloned(),
        refused: None,
        services: [].into(),
    };
    let scenario = async {
        parts.statuses.send_replace([(web.clone(), status)].into());
        while keeper.recall().0.ran != kept.ran {
            // Nothing tells of what is on the disk.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What is known later does not take it away.
        parts.learn(&kept);
        while keeper.recall().0 != kept {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    parts.with(&keeper, false, scenario).await;
}
