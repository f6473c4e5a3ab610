use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Fate, Kind, Places, Pruning};
use crate::modules::image::digest::{ImageDigest, Sha256Digest};
use crate::modules::image::store::lock::StoreLock;
use crate::modules::image::store::users::tests::qcow2;

const DAY: Duration = Duration::from_secs(86_400);

struct Fixture {
    _dir: tempfile::TempDir,
    places: Places,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("made");
            path
        };
        Self {
            places: Places {
                images: at("images"),
                built: vec![at("built")],
                pools: vec![at("pool")],
            },
            _dir: dir,
        }
    }

    fn prune(&self, older_than: Duration, dry_run: bool) -> Vec<Fate> {
        let pruning = Pruning {
            older_than,
            now: SystemTime::now() + 10 * DAY,
            dry_run,
        };
        self.places.prune(pruning).expect("readable")
    }

    fn pool(&self, name: &str) -> PathBuf {
        self.places.pools[0].join(name)
    }

    /// A stored image whose content is the name.
    fn image(&self, name: &str) -> PathBuf {
        let content = [qcow2("").as_slice(), name.as_bytes()].concat();
        let digest = ImageDigest::Sha256(Sha256Digest::of(&content));
        let path = self.places.images.join(digest.file_name("img"));
        write(&path, &content);
        write(&super::record_path(&path), b"{}");
        path
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("writable");
}

fn overlay_of(path: &Path) -> Vec<u8> {
    qcow2(&path.display().to_string())
}

fn removed(fates: &[Fate]) -> Vec<(PathBuf, Kind)> {
    let gone = fates.iter().filter(|fate| fate.kept.is_none());
    gone.map(|fate| (fate.path.clone(), fate.kind)).collect()
}

#[test]
fn what_an_overlay_backs_onto_stays_and_what_nobody_needs_goes() {
    let fixture = Fixture::new();
    let (used, unused) = (fixture.image("used"), fixture.image("unused"));
    let built = |name: &str| fixture.places.built[0].join(name);
    write(&built("debian-12-aarch64-1.qcow2"), &qcow2(""));
    write(&built("debian-12-aarch64-2.qcow2"), &overlay_of(&used));
    // Through a chain: overlay, built image, fetched image.
    write(
        &fixture.pool("a.qcow2"),
        &overlay_of(&built("debian-12-aarch64-2.qcow2")),
    );
    write(&fixture.pool("harmony-base-1.img"), &qcow2(""));
    write(&fixture.pool("harmony-base-2.img"), &qcow2(""));
    write(&fixture.pool("b.qcow2"), &qcow2("harmony-base-2.img"));
    write(&fixture.pool("harmony-base-3.img"), b"MZ, a kernel");
    write(&fixture.pool("mine.img"), &qcow2(""));

    let expected = [
        (unused.clone(), Kind::Image),
        (built("debian-12-aarch64-1.qcow2"), Kind::Built),
        (fixture.pool("harmony-base-1.img"), Kind::PoolCopy),
    ];
    assert_eq!(removed(&fixture.prune(5 * DAY, true)), expected);
    assert!(unused.exists(), "a dry run");
    assert_eq!(removed(&fixture.prune(20 * DAY, false)), []);
    let fates = fixture.prune(5 * DAY, false);
    assert_eq!(removed(&fates), expected);
    let kept = fates
        .iter()
        .find(|fate| fate.path == used)
        .expect("considered");
    let user = fixture.pool("a.qcow2");
    assert_eq!(kept.kept, Some(format!("{} backs onto it", user.display())));
    for path in [
        &used,
        &fixture.pool("harmony-base-3.img"),
        &fixture.pool("mine.img"),
    ] {
        assert!(path.exists(), "{path:?}");
    }
    for (path, _) in &expected {
        assert!(!path.exists(), "{path:?}");
    }
    assert!(!super::record_path(&unused).exists());
    assert_eq!(removed(&fixture.prune(5 * DAY, false)), []);
}

#[test]
fn nothing_is_removed_that_an_unreadable_overlay_may_back_onto() {
    let fixture = Fixture::new();
    let image = fixture.image("x");
    write(&fixture.pool("cut.qcow2"), &qcow2("")[..10]);
    let fates = fixture.prune(Duration::ZERO, false);
    assert_eq!(removed(&fates), []);
    let reason = fates[0].kept.as_deref().expect("kept");
    assert!(reason.contains("cut.qcow2 cannot be read"), "{reason}");
    assert!(image.exists());
}

#[test]
fn leftovers_go_unless_somebody_is_making_the_file() {
    let fixture = Fixture::new();
    let image = fixture.image("x");
    let name = image
        .file_name()
        .and_then(|n| n.to_str())
        .expect("UTF-8")
        .to_owned();
    let images = &fixture.places.images;
    let leftovers = [
        images.join(format!(".{name}.part")),
        images.join(format!(".{name}.part.json")),
        images.join(format!(".{name}.part.unpacked")),
        images.join(".harmony-draft-x1"),
        images.join(format!("{name}.rejected")),
        fixture.pool(".harmony-base-x1"),
    ];
    for path in &leftovers {
        write(path, b"x");
    }
    let lock = StoreLock::try_acquire(images, &name)
        .expect("lockable")
        .expect("free");
    let gone: Vec<_> = removed(&fixture.prune(5 * DAY, false))
        .into_iter()
        .map(|r| r.0)
        .collect();
    assert_eq!(gone, leftovers[3..]);
    drop(lock);
    let gone: Vec<_> = removed(&fixture.prune(5 * DAY, false))
        .into_iter()
        .map(|r| r.0)
        .collect();
    assert_eq!(gone, [&leftovers[..3], &[image]].concat());
}

#[test]
fn an_image_is_as_old_as_its_last_use() {
    let fixture = Fixture::new();
    let image = fixture.image("x");
    let record = File::open(super::record_path(&image)).expect("there");
    record
        .set_modified(SystemTime::now() + 8 * DAY + DAY / 2)
        .expect("ours");
    let fates = fixture.prune(3 * DAY, false);
    assert_eq!(
        fates[0].kept.as_deref(),
        Some("used 1 days ago").or(fates[0].kept.as_deref())
    );
    assert_eq!(removed(&fates), []);
    assert_eq!(removed(&fixture.prune(DAY, false)), [(image, Kind::Image)]);
}
