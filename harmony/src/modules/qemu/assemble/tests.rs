use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Generated, TreeDamage, check_tree};
use crate::domain::topology::virtualization::VmArchitecture::Aarch64;
use crate::modules::qemu::error::StoreError;
use crate::modules::qemu::profile::QemuProfile::EmulateForeign;
use crate::modules::qemu::store::tests::{BINARY, Bench, tamper};

/// Each file of a tree is given a copy of its own, so that damage does not reach the objects.
fn unlink(path: &Path) {
    let content = fs::read(path).expect("there");
    fs::remove_file(path).expect("removed");
    fs::write(path, content).expect("written");
}

#[test]
fn damage_is_seen_and_repaired() {
    type Harm = fn(&Path);
    let path = "lib/libc.so.6".to_owned();
    let wrapper = "bin/qemu-system-aarch64.harmony".to_owned();
    let table: [(Harm, TreeDamage); 9] = [
        (
            |tree| fs::remove_dir_all(tree).expect("removed"),
            TreeDamage::Absent,
        ),
        (
            |tree| {
                fs::remove_dir_all(tree).expect("removed");
                fs::write(tree, "a file").expect("written");
            },
            TreeDamage::Absent,
        ),
        (
            |tree| fs::remove_file(tree.join("lib/libc.so.6")).expect("removed"),
            TreeDamage::Missing { path: path.clone() },
        ),
        (
            |tree| {
                let file = tree.join("lib/libc.so.6");
                unlink(&file);
                tamper(&file, b"\x7fELF, a librarY");
            },
            TreeDamage::Changed { path: path.clone() },
        ),
        (
            |tree| unlink(&tree.join("lib/libc.so.6")),
            TreeDamage::Mode {
                path: path.clone(),
                mode: 0o644,
            },
        ),
        (
            |tree| {
                fs::create_dir_all(tree.join("lib/glibc-hwcaps/x86-64-v3")).expect("made");
                fs::write(tree.join("lib/glibc-hwcaps/x86-64-v3/libc.so.6"), "").expect("written");
            },
            TreeDamage::Extra {
                path: "lib/glibc-hwcaps/x86-64-v3/libc.so.6".to_owned(),
            },
        ),
        (
            |tree| {
                tamper(
                    &tree.join("bin/qemu-system-aarch64.harmony"),
                    b"#!/bin/sh\n",
                )
            },
            TreeDamage::Changed {
                path: wrapper.clone(),
            },
        ),
        (
            |tree| {
                let wrapper = tree.join("bin/qemu-system-aarch64.harmony");
                fs::set_permissions(wrapper, fs::Permissions::from_mode(0o777)).expect("set");
            },
            TreeDamage::Mode {
                path: wrapper.clone(),
                mode: 0o777,
            },
        ),
        (
            |tree| {
                let file = tree.join("lib/libc.so.6");
                fs::remove_file(&file).expect("removed");
                symlink("copy/libc.so.6", file).expect("linked");
            },
            TreeDamage::Unreadable {
                path: path.clone(),
                reason: Errno::LOOP.to_string(),
            },
        ),
    ];
    let bench = Bench::new();
    bench.ingest("debian").expect("ingested");
    let resolve = || {
        bench
            .store
            .resolve(EmulateForeign, Aarch64)
            .expect("resolved")
    };
    let whole = resolve();
    let tree = whole.firmware_dir.parent().expect("the tree").to_owned();
    let generated = Generated {
        path: wrapper.clone(),
        content: fs::read(whole.emulator()).expect("there"),
    };
    let check = || check_tree(&tree, &whole.manifest, &generated);
    for (harm, damage) in table {
        assert_eq!(check(), Ok(()));
        harm(&tree);
        match (check(), &damage) {
            // The reason's words are libc's.
            (Err(TreeDamage::Unreadable { path, .. }), TreeDamage::Unreadable { path: p, .. }) => {
                assert_eq!(path, *p);
            }
            (found, _) => assert_eq!(found, Err(damage)),
        }
        assert_eq!(resolve(), whole);
    }
    assert_eq!(check(), Ok(()));
    let beside = fs::read_dir(tree.parent().expect("a parent")).expect("readable");
    assert_eq!(beside.count(), 1, "nothing damaged is left");
}

/// A changed file that is a hard link is a changed object: it is not repaired from itself.
#[test]
fn a_change_through_a_link_is_a_corrupt_object() {
    let bench = Bench::new();
    bench.ingest("debian").expect("ingested");
    let qemu = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect("resolved");
    tamper(&qemu.binary, b"\x7fELF, something else");
    let error = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect_err("corrupt");
    assert!(
        matches!(error, StoreError::CorruptObject { .. }),
        "{error:?}"
    );
}

#[test]
fn where_no_link_can_be_objects_are_copied() {
    fn refusing<const ERRNO: i32>(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(ERRNO))
    }
    type Case = (&'static str, super::Link, bool);
    let table: [Case; 5] = [
        (
            "another device",
            refusing::<{ Errno::XDEV.raw_os_error() }>,
            true,
        ),
        (
            "too many links",
            refusing::<{ Errno::MLINK.raw_os_error() }>,
            true,
        ),
        (
            "not permitted",
            refusing::<{ Errno::PERM.raw_os_error() }>,
            true,
        ),
        (
            "not supported",
            refusing::<{ Errno::OPNOTSUPP.raw_os_error() }>,
            true,
        ),
        (
            "no space",
            refusing::<{ Errno::NOSPC.raw_os_error() }>,
            false,
        ),
    ];
    for (what, link, copied) in table {
        let mut bench = Bench::new();
        bench.store.link = link;
        bench.ingest("debian").expect("ingested");
        match bench.store.resolve(EmulateForeign, Aarch64) {
            Ok(qemu) => {
                assert!(copied, "{what}");
                assert_copied(&qemu.binary);
            }
            Err(StoreError::Io {
                action: "link to", ..
            }) => assert!(!copied, "{what}"),
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
}

fn assert_copied(binary: &Path) {
    let found = fs::metadata(binary).expect("there");
    assert_eq!(found.nlink(), 1);
    assert_eq!(found.permissions().mode() & 0o7777, 0o555);
    assert_eq!(fs::read(binary).expect("there"), BINARY);
}

#[test]
#[ignore = "needs /dev/shm on another file system than the temporary directory: assembles across both"]
fn a_tree_on_another_file_system_is_a_copy() {
    let bench = Bench::new();
    bench.ingest("debian").expect("ingested");
    let other = tempfile::tempdir_in("/dev/shm").expect("writable");
    let device = |path: &Path| fs::metadata(path).expect("there").dev();
    assert_ne!(device(other.path()), device(bench.store.root()));
    let assembled: PathBuf = bench.store.root().join("assembled");
    symlink(other.path(), &assembled).expect("linked");
    let qemu = bench
        .store
        .resolve(EmulateForeign, Aarch64)
        .expect("resolved");
    assert_copied(&qemu.binary);
    assert_eq!(device(&qemu.binary), device(other.path()));
    assert_eq!(
        bench.store.resolve(EmulateForeign, Aarch64).expect("again"),
        qemu
    );
}
