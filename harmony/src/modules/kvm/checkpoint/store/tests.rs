use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::{CheckpointStore, DESCRIPTION, DISK, MEMORY, NVRAM, StoredCheckpoint};
use crate::modules::image::Sha256Digest;
use crate::modules::image::store::qcow2;
use crate::modules::kvm::checkpoint::{CheckpointError, CheckpointKey};
use crate::modules::kvm::placement::Placement;
use crate::modules::kvm::types::SerialNumber;

fn key(of: &str) -> CheckpointKey {
    let digest = Sha256Digest::of(of.as_bytes()).to_string();
    digest.parse().expect("a digest")
}

fn placement() -> Placement {
    let uuid = Uuid::from_u128(1);
    Placement {
        uuid,
        serial: SerialNumber::derived(uuid),
        macs: Vec::new(),
        overlay: "/pool/a.qcow2".into(),
        seed: None,
        disks: Vec::new(),
        nvram: "/pool/a-VARS.fd".into(),
        kernel: None,
        console_log: None,
        ssh_port: None,
        image_sha256: None,
    }
}

struct Bench {
    pool: tempfile::TempDir,
    store: CheckpointStore,
}

impl Bench {
    fn new() -> Self {
        let pool = tempfile::tempdir().expect("a directory");
        let store = CheckpointStore::of_pool(pool.path());
        Self { pool, store }
    }

    fn save(&self, of: &str) -> StoredCheckpoint {
        let begun = self.store.begin().expect("a directory");
        let machine = Sha256Digest::of(b"machine");
        for name in [DISK, NVRAM, MEMORY] {
            fs::write(begun.path().join(name), format!("{name} of {of}")).expect("written");
        }
        let saved = self
            .store
            .publish(key(of), machine, "builder", placement(), begun);
        saved.expect("published")
    }

    fn set_used(&self, checkpoint: &StoredCheckpoint, ago: Duration) {
        let description = fs::File::open(checkpoint.file(DESCRIPTION)).expect("there");
        let then = SystemTime::now() - ago;
        description.set_modified(then).expect("changed");
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.pool.path().join(super::DIRECTORY)).expect("there");
        let names = entries.map(|entry| entry.expect("read").file_name());
        names.map(|n| n.to_string_lossy().into_owned()).collect()
    }
}

#[test]
fn what_was_saved_is_found_by_its_key_alone() {
    let bench = Bench::new();
    assert!(bench.store.open(key("a")).expect("readable").is_none());
    let saved = bench.save("a");
    assert_eq!(bench.store.open(key("a")).expect("whole"), Some(saved));
    assert!(bench.store.open(key("b")).expect("readable").is_none());
    assert_eq!(bench.names().len(), 1, "nothing unfinished is left");
}

#[test]
fn an_altered_file_is_never_used() {
    type Alteration = fn(&Path);
    let alterations: [(&str, Alteration); 3] = [
        (MEMORY, |path| fs::write(path, "short").expect("written")),
        (DISK, |path| {
            let text = fs::read_to_string(path).expect("there");
            fs::write(path, text.to_uppercase()).expect("written");
        }),
        (NVRAM, |path| fs::remove_file(path).expect("removed")),
    ];
    for (name, alter) in alterations {
        let bench = Bench::new();
        let saved = bench.save("a");
        alter(&saved.file(name));
        match bench.store.open(key("a")) {
            Err(CheckpointError::Altered { path, .. } | CheckpointError::Io { path, .. }) => {
                assert_eq!(path, saved.file(name));
            }
            other => panic!("{name}: {other:?}"),
        }
        // It is made anew in its place.
        let saved = bench.save("a");
        assert_eq!(bench.store.open(key("a")).expect("whole"), Some(saved));
    }
}

#[test]
fn what_was_altered_and_dated_back_is_found() {
    let bench = Bench::new();
    let saved = bench.save("a");
    bench.set_used(&saved, Duration::from_secs(7200));
    let memory = saved.file(MEMORY);
    let then = fs::metadata(&memory).and_then(|data| data.modified());
    let text = fs::read_to_string(&memory).expect("there");
    fs::write(&memory, text.to_uppercase()).expect("written");
    let file = fs::File::open(&memory).expect("there");
    file.set_modified(then.expect("read")).expect("dated back");
    match bench.store.open(key("a")) {
        Err(CheckpointError::Altered { path, .. }) => assert_eq!(path, memory),
        other => panic!("{other:?}"),
    }
    // It was not used, and goes when it is its turn.
    let removed = bench.store.prune(Duration::from_secs(3600), u64::MAX);
    assert_eq!(removed.expect("pruned"), [key("a")]);
}

#[test]
fn what_interrupted_runs_left_goes_after_an_hour() {
    let bench = Bench::new();
    let hours = Duration::from_secs(2 * 3600);
    let kept = bench.save("kept");
    let torn = bench.save("torn");
    fs::remove_file(torn.file(DESCRIPTION)).expect("removed");
    let backing = bench.save("backing");
    let newer = bench.save("newer");
    let old = bench.save("old");
    for checkpoint in [&backing, &newer, &old] {
        fs::write(checkpoint.file(DESCRIPTION), "{").expect("written");
    }
    bench.set_used(&backing, hours);
    bench.set_used(&old, hours);
    let foreign = newer.directory.with_file_name("lost+found");
    fs::create_dir(&foreign).expect("made");
    let disk = backing.file(DISK).display().to_string();
    fs::write(bench.pool.path().join("device.qcow2"), qcow2(&disk)).expect("written");
    let unfinished = bench.store.begin().expect("a directory").keep();
    let scratch = kept.scratch().expect("a directory").keep();
    fs::write(scratch.join(MEMORY), "half").expect("written");
    let prune = || bench.store.prune(hours, u64::MAX).expect("pruned");

    assert_eq!(prune(), []);
    assert_eq!(bench.names().len(), 7, "they are new, but for one");
    for directory in [
        &torn.directory,
        &newer.directory,
        &foreign,
        &unfinished,
        &scratch,
    ] {
        let then = SystemTime::now() - hours;
        let directory = fs::File::open(directory).expect("there");
        directory.set_modified(then).expect("changed");
    }
    assert_eq!(prune(), []);
    let mut left = bench.names();
    left.sort();
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let stay = [
        &kept.directory,
        &backing.directory,
        &newer.directory,
        &foreign,
    ];
    let mut expected: Vec<_> = stay.map(|path| name(path)).into();
    expected.sort();
    assert_eq!(left.into_iter().map(Some).collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_that_was_only_touched_is_hashed_and_used() {
    let bench = Bench::new();
    let saved = bench.save("a");
    let file = fs::File::open(saved.file(DISK)).expect("there");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("changed");
    assert!(bench.store.open(key("a")).expect("whole").is_some());
}

#[test]
fn a_damaged_description_is_an_error_that_names_it() {
    let bench = Bench::new();
    let saved = bench.save("a");
    fs::write(saved.file(DESCRIPTION), "{").expect("written");
    match bench.store.open(key("a")) {
        Err(CheckpointError::Description { path, .. }) => {
            assert_eq!(path, saved.file(DESCRIPTION));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_oldest_go_first_and_what_is_in_use_stays() {
    let bench = Bench::new();
    let hour = Duration::from_secs(3600);
    let all: Vec<_> = ["a", "b", "c", "d"].map(|of| bench.save(of)).into();
    for (checkpoint, age) in all.iter().zip([40, 30, 20, 10]) {
        bench.set_used(checkpoint, hour * age);
    }
    let each = all[0].bytes();
    let disk = all[1].file(DISK).display().to_string();
    let overlay = bench.pool.path().join("device.qcow2");
    fs::write(&overlay, qcow2(&disk)).expect("written");
    // Older than 35 hours; and then until two fit.
    let removed = bench.store.prune(hour * 35, 2 * each);
    assert_eq!(removed.expect("pruned"), [key("a"), key("c")]);
    let left = bench.store.list().expect("listed");
    let left: Vec<_> = left.iter().map(|checkpoint| checkpoint.key).collect();
    assert_eq!(left, [key("b"), key("d")]);

    // Nothing is, where what backs a disk cannot be told.
    fs::remove_file(&overlay).expect("removed");
    let torn = bench.pool.path().join("torn.qcow2");
    fs::write(&torn, &qcow2(&disk)[..12]).expect("written");
    assert_eq!(bench.store.prune(hour, 0).expect("pruned"), []);
    fs::remove_file(&torn).expect("removed");
    assert_eq!(bench.store.prune(hour, 0).expect("pruned").len(), 2);
}

#[test]
fn one_that_was_just_used_stays_although_all_are_too_large() {
    let bench = Bench::new();
    bench.save("a");
    assert_eq!(bench.store.prune(Duration::ZERO, 0).expect("pruned"), []);
}

#[tokio::test]
async fn one_process_makes_a_checkpoint() {
    let bench = Bench::new();
    let held = bench.store.lock(key("a")).await.expect("locked");
    let store = bench.store.clone();
    let second = tokio::spawn(async move { store.lock(key("a")).await.map(drop) });
    bench.store.lock(key("b")).await.expect("another's is free");
    assert!(!second.is_finished(), "it waits");
    drop(held);
    second.await.expect("no panic").expect("locked");
}
