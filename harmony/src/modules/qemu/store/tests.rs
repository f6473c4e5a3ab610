use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;

use super::{QemuStore, default_root_from};
use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::VmArchitecture::{Aarch64, X86_64};
use crate::modules::qemu::digest::ObjectDigest;
use crate::modules::qemu::error::StoreError;
use crate::modules::qemu::ingest::IngestOptions;
use crate::modules::qemu::manifest::tests::document;
use crate::modules::qemu::profile::QemuProfile::{EmulateForeign, KvmUefi};

/// A store and a build's directory; nothing in it can be run.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub store: QemuStore,
}

pub(crate) const BINARY: &[u8] = b"\x7fELF, the emulator";

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = QemuStore::new(&dir.path().join("store")).expect("a usable place");
        let files: [(&str, &[u8]); 5] = [
            ("bin/qemu-system-aarch64", BINARY),
            ("lib/libc.so.6", b"\x7fELF, a library"),
            ("lib/copy/libc.so.6", b"\x7fELF, a library"),
            ("firmware/AAVMF_CODE.fd", b"code"),
            ("firmware/AAVMF_VARS.fd", &[0; 4096]),
        ];
        for (path, content) in files {
            let path = dir.path().join("build").join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        Self { dir, store }
    }

    pub fn build(&self) -> PathBuf {
        self.dir.path().join("build")
    }

    pub fn ingest(&self, name: &str) -> Result<crate::modules::qemu::Manifest, StoreError> {
        self.store.ingest(&self.build(), &options(name))
    }

    pub fn object(&self, content: &[u8]) -> PathBuf {
        self.store.objects().path(ObjectDigest::of(content))
    }

    fn write_manifest(&self, name: &str, text: &str) {
        let dir = self.store.manifests_dir();
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(format!("{name}.json")), text).expect("written");
    }
}

fn options(name: &str) -> IngestOptions {
    IngestOptions {
        qemu_version: Some("10.0.2".parse().expect("a version")),
        ..IngestOptions::new(name.parse().expect("a name"), EmulateForeign, Aarch64)
    }
}

/// Overwrites a file in place, so that every hard link to it changes.
pub(crate) fn tamper(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("made writable");
    fs::write(path, content).expect("written");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o7777
}

#[test]
fn a_build_is_stored_and_assembled() {
    let bench = Bench::new();
    let manifest = bench.ingest("debian").expect("ingested");
    assert_eq!(manifest.total_bytes(), 16 + 2 * 16 + 4 + 4096);
    assert_eq!(manifest.objects().len(), 5);
    assert_eq!(
        bench.store.list().expect("listed"),
        std::slice::from_ref(&manifest)
    );
    let object = bench.object(BINARY);
    let hex = ObjectDigest::of(BINARY).to_string();
    assert!(object.ends_with(format!("objects/{}/{hex}", &hex[..2])));

    let qemu = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect("resolved");
    assert_eq!(qemu.manifest, manifest);
    assert_eq!(fs::read(&qemu.binary).expect("there"), BINARY);
    let library = qemu.library_dir.clone().expect("it has libraries");
    let inode = |path: &Path| fs::metadata(path).expect("there").ino();
    assert_eq!(inode(&qemu.binary), inode(&object), "a hard link");
    assert_eq!(
        inode(&library.join("libc.so.6")),
        inode(&library.join("copy/libc.so.6")),
        "one object, twice"
    );
    let environment = [(
        "LD_LIBRARY_PATH".to_owned(),
        library.clone().into_os_string(),
    )];
    assert_eq!(qemu.environment, environment.into());
    let firmware = qemu.firmware(Aarch64).expect("it has firmware");
    assert_eq!(firmware.code, qemu.firmware_dir.join("AAVMF_CODE.fd"));
    assert_eq!(firmware.vars, qemu.firmware_dir.join("AAVMF_VARS.fd"));
    assert_eq!(qemu.firmware(X86_64), None);

    let modes = [
        (qemu.binary.as_path(), 0o555),
        (&library.join("libc.so.6"), 0o555),
        (qemu.emulator(), 0o555),
        (&firmware.code, 0o444),
        (&library, 0o755),
        (&library.join("copy"), 0o755),
        (library.parent().expect("the tree"), 0o755),
        (&object, 0o555),
        (&bench.store.manifest_path(manifest.name()), 0o444),
    ];
    for (path, expected) in modes {
        assert_eq!(mode(path), expected, "{path:?}");
    }
    let again = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect("resolved");
    assert_eq!(again, qemu);
    assert_eq!(
        inode(again.emulator()),
        inode(qemu.emulator()),
        "left alone"
    );
    for (profile, arch) in [(KvmUefi, Aarch64), (EmulateForeign, X86_64)] {
        let error = bench.store.resolve(profile, arch).expect_err("not there");
        assert!(matches!(error, StoreError::NoBuild { .. }), "{error:?}");
    }
}

#[test]
fn ingesting_again_changes_nothing_and_heals() {
    let bench = Bench::new();
    let first = bench.ingest("debian").expect("ingested");
    let object = bench.object(b"code");
    tamper(&object, b"CODE");
    assert!(matches!(
        bench.store.verify(first.name()),
        Err(StoreError::CorruptObject { .. })
    ));
    assert_eq!(bench.ingest("debian").expect("the same"), first);
    bench.store.verify(first.name()).expect("healed");
    assert_eq!(mode(&object), 0o444);

    tamper(&bench.build().join("lib/libc.so.6"), b"another");
    let error = bench.ingest("debian").expect_err("another build");
    assert!(matches!(error, StoreError::NameTaken { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(!bench.object(b"another").exists(), "nothing was stored");
    assert_eq!(bench.store.list().expect("listed"), [first]);
}

#[test]
fn the_newest_build_is_taken() {
    let bench = Bench::new();
    bench.ingest("b").expect("ingested");
    bench.ingest("a").expect("ingested");
    let newest = |bench: &Bench| {
        let qemu = bench
            .store
            .resolve(EmulateForeign, Aarch64)
            .expect("resolved");
        qemu.manifest.name().to_string()
    };
    assert_eq!(newest(&bench), "a", "the later one");
    // Of equals, the last name.
    let text = fs::read_to_string(bench.store.manifests_dir().join("a.json")).expect("there");
    bench.write_manifest("c", &text.replace("\"name\": \"a\"", "\"name\": \"c\""));
    assert_eq!(newest(&bench), "c");
}

#[test]
fn the_emulator_is_asked_for_its_version() {
    let bench = Bench::new();
    let binary = bench.build().join("bin/qemu-system-aarch64");
    // The shell would look for its own libraries there.
    fs::remove_dir_all(bench.build().join("lib")).expect("removed");
    let table = [
        (
            "echo 'QEMU emulator version 9.1.0-rc2 (x)'",
            Ok("9.1.0-rc2"),
        ),
        (
            "echo 'cannot open libx.so' >&2; exit 127",
            Err("cannot open libx.so"),
        ),
        ("yes", Err("y")),
    ];
    for (number, (program, expected)) in table.into_iter().enumerate() {
        // Written by another process: a descriptor in a child of another test would make it busy.
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$2\" && chmod 755 \"$2\"";
        let arguments = ["-c", write, "sh", program];
        let status = Command::new("sh").args(arguments).arg(&binary).status();
        assert!(status.expect("sh runs").success());
        let options = IngestOptions {
            qemu_version: None,
            ..options(&number.to_string())
        };
        match (bench.store.ingest(&bench.build(), &options), expected) {
            (Ok(manifest), Ok(version)) => assert_eq!(manifest.qemu_version().as_str(), version),
            (Err(StoreError::VersionUnknown { said, .. }), Err(text)) => assert_eq!(said, text),
            (found, _) => panic!("{program}: {found:?}"),
        }
    }
}

#[test]
fn a_build_without_its_emulator_is_refused() {
    let bench = Bench::new();
    let options = |profile, arch| IngestOptions {
        profile,
        arch,
        ..options("debian")
    };
    let error = bench
        .store
        .ingest(&bench.build(), &options(EmulateForeign, X86_64));
    let binary = "qemu-system-x86_64";
    assert!(
        matches!(&error, Err(StoreError::NoBinary { binary: found, .. }) if *found == binary),
        "{error:?}"
    );
    assert!(!bench.store.root().exists(), "nothing was made");
}

#[test]
fn a_tampered_object_is_named_and_never_linked() {
    let bench = Bench::new();
    let manifest = bench.ingest("debian").expect("ingested");
    let object = bench.object(BINARY);
    tamper(&object, b"\x7fELF, something else");
    match bench.store.resolve(EmulateForeign, Aarch64) {
        Err(StoreError::CorruptObject {
            object,
            path,
            build,
            found,
        }) => {
            assert_eq!(object, ObjectDigest::of(BINARY));
            assert_eq!(path.as_str(), "bin/qemu-system-aarch64");
            assert_eq!(&build, manifest.name());
            assert_eq!(found, ObjectDigest::of(b"\x7fELF, something else"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::metadata(&object).expect("there").nlink(), 1);
    let assembled = bench.store.root().join("assembled");
    assert_eq!(fs::read_dir(assembled).expect("made").count(), 0);

    fs::remove_file(&object).expect("removed");
    let error = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect_err("missing");
    assert!(
        matches!(error, StoreError::MissingObject { .. }),
        "{error:?}"
    );
    // A link in an object's place is not followed.
    std::os::unix::fs::symlink(bench.build().join("bin/qemu-system-aarch64"), &object)
        .expect("linked");
    let error = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect_err("a link");
    assert!(
        matches!(error, StoreError::Io { action: "read", .. }),
        "{error:?}"
    );
}

#[test]
fn a_hand_written_manifest_cannot_reach_out() {
    let bench = Bench::new();
    let manifest = bench.ingest("good").expect("ingested");
    let digest = ObjectDigest::of(BINARY).to_string();
    let escape = "lib/../../../../escaped";
    let mut evil = document();
    evil["objects"][escape] = digest.into();
    bench.write_manifest("debian-10.0.2", &evil.to_string());
    let error = bench.store.list().expect_err("refused");
    match &error {
        StoreError::MalformedManifest { path, source } => {
            assert!(path.ends_with("manifests/debian-10.0.2.json"));
            assert!(source.to_string().contains(escape), "{source}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!bench.dir.path().join("escaped").exists());
    assert!(!bench.store.root().join("assembled").exists());
    // It hides no other build.
    let resolved = bench.store.resolve(EmulateForeign, Aarch64);
    assert_eq!(resolved.expect("the good one").manifest, manifest);
    assert!(!bench.dir.path().join("escaped").exists());
    // What is broken can be removed.
    let name = "debian-10.0.2".parse().expect("a name");
    bench.store.remove(&name).expect("removed");
    assert_eq!(bench.store.list().expect("listed"), [manifest]);
}

#[test]
fn a_wrong_total_is_refused() {
    let bench = Bench::new();
    bench.ingest("debian").expect("ingested");
    let path = bench.store.manifests_dir().join("debian.json");
    let text = fs::read_to_string(&path).expect("there");
    tamper(
        &path,
        text.replace("\"total_bytes\": 4148", "\"total_bytes\": 4149")
            .as_bytes(),
    );
    let error = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect_err("refused");
    assert!(
        matches!(
            error,
            StoreError::WrongTotal {
                stated: 4149,
                found: 4148,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn an_interrupted_ingest_leaves_objects_that_nothing_refers_to() {
    let bench = Bench::new();
    // The manifest, which comes last, cannot be written.
    fs::create_dir_all(bench.store.root().join("manifests/debian.json/x")).expect("made");
    let error = bench.ingest("debian").expect_err("interrupted");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    fs::remove_dir_all(bench.store.root().join("manifests")).expect("removed");
    fs::create_dir_all(bench.store.objects().dir()).expect("made");
    // And as a process that was killed leaves it.
    for content in [BINARY, b"code"] {
        let object = bench.object(content);
        fs::create_dir_all(object.parent().expect("a parent")).expect("made");
        fs::write(&object, content).expect("written");
    }
    let part = bench.store.objects().dir().join(".unfinished-1");
    fs::write(&part, "half").expect("written");
    assert_eq!(bench.store.list().expect("listed"), []);
    let error = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect_err("nothing");
    assert!(matches!(error, StoreError::NoBuild { .. }), "{error:?}");

    bench.ingest("debian").expect("ingested");
    let qemu = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect("resolved");
    assert_eq!(mode(&qemu.binary), 0o555, "the mode was not yet set");
    assert!(!part.exists(), "swept");
}

#[test]
fn concurrent_callers_get_one_tree() {
    const CALLERS: usize = 8;
    let bench = Bench::new();
    let start = Barrier::new(CALLERS);
    let run = || {
        start.wait();
        bench.ingest("debian").expect("ingested");
        bench
            .store
            .resolve(EmulateForeign, Aarch64)
            .expect("resolved")
    };
    let found: Vec<_> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(run)).collect();
        callers
            .into_iter()
            .map(|c| c.join().expect("no panic"))
            .collect()
    });
    assert!(found.iter().all(|qemu| *qemu == found[0]));
    let assembled = fs::read_dir(bench.store.root().join("assembled")).expect("made");
    assert_eq!(assembled.count(), 1);
    assert_eq!(fs::metadata(&found[0].binary).expect("there").nlink(), 2);
}

#[test]
fn removing_keeps_what_others_have() {
    let bench = Bench::new();
    let first = bench.ingest("first").expect("ingested");
    let kept = bench.store.resolve(EmulateForeign, Aarch64);
    let kept = kept.expect("resolved").binary;
    let foreign = bench.object(BINARY).with_file_name("notes");
    fs::write(&foreign, "not ours").expect("written");
    tamper(&bench.build().join("firmware/AAVMF_CODE.fd"), b"newer code");
    let second = bench.ingest("second").expect("ingested");
    let tree = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect("resolved");
    bench.store.remove(second.name()).expect("removed");
    assert!(!tree.binary.exists() && kept.exists());
    assert!(!bench.object(b"newer code").exists());
    bench.store.verify(first.name()).expect("whole");
    bench.store.remove(first.name()).expect("removed");
    assert!(!bench.object(BINARY).exists() && !kept.exists());
    assert!(foreign.exists());
    for result in [
        bench.store.remove(first.name()),
        bench.store.verify(first.name()),
    ] {
        assert!(
            matches!(result, Err(StoreError::NoSuchBuild { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_moved_store_makes_its_wrappers_anew() {
    let bench = Bench::new();
    bench.ingest("debian").expect("ingested");
    bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect("resolved");
    let moved = bench.dir.path().join("it's moved");
    fs::rename(bench.store.root(), &moved).expect("moved");
    let store = QemuStore::new(&moved).expect("usable");
    let qemu = store.resolve(EmulateForeign, Aarch64).expect("resolved");
    let script = fs::read_to_string(qemu.emulator()).expect("text");
    assert!(script.contains("it's moved/assembled"), "{script}");
}

#[test]
fn places() {
    for bad in ["/a:b", "relative;x", "/$HOME"] {
        let error = QemuStore::new(Path::new(bad)).expect_err(bad);
        assert!(
            matches!(error, StoreError::UnusableRoot { .. }),
            "{error:?}"
        );
    }
    let store = QemuStore::new(Path::new("relative")).expect("usable");
    assert!(store.root().is_absolute());
    let none = QemuStore::new(Path::new("/nonexistent/qemu")).expect("usable");
    assert_eq!(none.list().expect("empty"), []);
    assert!(matches!(
        none.resolve(EmulateForeign, Aarch64),
        Err(StoreError::NoBuild { .. })
    ));

    type Variables = &'static [(&'static str, &'static str)];
    let table: [(Variables, Option<&str>); 5] = [
        (&[], None),
        (&[("HOME", "")], None),
        (
            &[("HOME", "/h"), ("XDG_DATA_HOME", "x")],
            Some("/h/.local/share/harmony/qemu"),
        ),
        (
            &[("HOME", "/h"), ("XDG_DATA_HOME", "/x")],
            Some("/x/harmony/qemu"),
        ),
        (
            &[("XDG_DATA_HOME", "/x"), ("HARMONY_DATA_DIR", "/d")],
            Some("/d/qemu"),
        ),
    ];
    for (variables, expected) in table {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        };
        let found = default_root_from(variable).ok();
        assert_eq!(found, expected.map(PathBuf::from), "{variables:?}");
    }
}
