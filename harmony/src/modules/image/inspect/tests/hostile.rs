//! Images that lie about themselves: an error or a failed clause, within bounds.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::{Backing, ImageFacts, InspectError, Limits, conformance, inspect};
use super::fixture::{CLUSTER, good, l2_entry, qcow2};
use crate::domain::topology::virtualization::VmArchitecture::Aarch64;
use crate::modules::image::format::DiskFormat;

const BOUND: Duration = Duration::from_secs(1);

fn good_qcow2() -> Vec<u8> {
    qcow2(good(Aarch64))
}

fn look(dir: &Path, bytes: &[u8]) -> Result<ImageFacts, InspectError> {
    let path = dir.join("disk.qcow2");
    std::fs::write(&path, bytes).expect("written");
    let started = Instant::now();
    let found = inspect(&path, &Limits::default());
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    found
}

#[test]
fn a_qcow2_image_has_the_facts_of_its_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let raw = look(dir.path(), good(Aarch64)).expect("readable");
    let bytes = good_qcow2();
    let facts = look(dir.path(), &bytes).expect("readable");
    let expected = ImageFacts {
        format: DiskFormat::Qcow2,
        file_bytes: bytes.len() as u64,
        ..raw
    };
    assert_eq!(facts, expected);
}

/// Where in the header, what is written there, how the error goes on after the image's name, and a part of it.
type Lie = (usize, &'static [u8], &'static str, &'static str);

const LIES: &[Lie] = &[
    (4, &[0, 0, 0, 4], "has version 4", "(expected 2 or 3)"),
    (
        20,
        &[0, 0, 0, 8],
        "has cluster_bits 8",
        "(expected 9 to 21)",
    ),
    (
        20,
        &[0xff; 4],
        "has cluster_bits 4294967295",
        "(expected 9 to 21)",
    ),
    (
        24,
        &[0xff; 8],
        "has virtual size 18446744073709551615",
        "(expected at most 70368744177664)",
    ),
    (36, &[0; 4], "has L1 entries 0", "(expected 1 to 524288)"),
    (
        36,
        &[0xff; 4],
        "has L1 entries 4294967295",
        "(expected 1 to 524288)",
    ),
    (
        40,
        &[0, 0, 0, 0, 0, 1, 0, 1],
        "has L1 table offset 65537",
        "(expected a multiple of 65536)",
    ),
    (
        40,
        &[0x7f, 0, 0, 0, 0, 0, 0, 0],
        "is cut off: the L1 table",
        "",
    ),
    (
        56,
        &[0xff; 4],
        "has refcount table bytes 281474976645120",
        "(expected at most 8388608)",
    ),
    (
        48,
        &[0x7f, 0, 0, 0, 0, 0, 0, 0],
        "is cut off: the refcount table",
        "",
    ),
    (
        96,
        &[0, 0, 0, 7],
        "has refcount_order 7",
        "(expected at most 6)",
    ),
    (100, &[0xff; 4], "has header_length 4294967295", ""),
    (100, &[0, 0, 0, 8], "has header_length 8", ""),
    (
        104,
        &[1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff],
        "has header extension of bytes 4294967295",
        "",
    ),
    (
        104,
        &[0x68, 3, 0xf8, 0x57, 0, 0, 0, 1],
        "has feature names of bytes 1",
        "(expected a multiple of 48)",
    ),
    (
        104,
        &[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 0x80],
        "has backing format of bytes 128",
        "(expected at most 64)",
    ),
    (
        8,
        &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x10, 0],
        "has backing file name of bytes 4096",
        "(expected 1 to 1023)",
    ),
    (
        8,
        &[0xff; 12],
        "has backing file name of bytes 4294967295",
        "",
    ),
    (
        8,
        &[0xff, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9],
        "has backing file name at",
        "",
    ),
    (32, &[0, 0, 0, 1], "uses", "AES encryption"),
    (72, &[0, 0, 0, 0, 0, 0, 0, 1], "uses", "the dirty bit"),
    (
        72,
        &[0, 0, 0, 0, 0, 0, 0, 8],
        "uses",
        "a compression other than zlib",
    ),
    (
        72,
        &[0x80, 0, 0, 0, 0, 0, 0, 0],
        "uses",
        "the unknown incompatible feature 63",
    ),
    (
        72,
        &[0, 0, 0, 0, 0, 0, 0, 4],
        "keeps its data in another file",
        "(unnamed)",
    ),
];

#[test]
fn a_header_that_lies_is_refused_before_it_is_followed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for &(at, bytes, start, part) in LIES {
        let mut image = good_qcow2();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let error = look(dir.path(), &image).expect_err(start).to_string();
        let name = dir.path().join("disk.qcow2");
        let (_, said) = error
            .split_once(name.to_str().expect("a text"))
            .expect(&error);
        assert!(said.trim_start().starts_with(start), "{start}: {error}");
        assert!(said.contains(part), "{part}: {error}");
    }
}

#[test]
fn tables_that_lead_astray_are_errors() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let l1 = |offset: u64| {
        let mut image = good_qcow2();
        image[CLUSTER..CLUSTER + 8].copy_from_slice(&offset.to_be_bytes());
        look(dir.path(), &image)
    };
    assert!(matches!(
        l1(1 << 40),
        Err(InspectError::Truncated { what: "an L2 table", offset, .. }) if offset == 1 << 40
    ));
    assert!(matches!(
        l1(0x200),
        Err(InspectError::Malformed {
            field: "L2 table offset",
            ..
        })
    ));
    // The L1 table as its own L2 table: its one entry leads to itself.
    let image = l1(CLUSTER as u64).expect("a disk of garbage");
    assert!(!conformance(&image, Aarch64).conforms());

    let l2 = |entry: u64| {
        let mut image = good_qcow2();
        let at = l2_entry(0);
        image[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        look(dir.path(), &image)
    };
    let damaged = |found: Result<ImageFacts, InspectError>| {
        assert!(
            matches!(&found, Err(InspectError::Read { part, .. }) if *part == "the first sector"),
            "{found:?}"
        );
    };
    // Compressed: the header, which is no deflate stream, and as many sectors as can be said.
    damaged(l2(1 << 62));
    damaged(l2(0x7fff_ffff_ffff_fe00 & !(0xff << 48) | 1 << 62));
    // Reserved bits, and an offset inside a cluster.
    damaged(l2(1 << 60));
    damaged(l2(0x200));
    // Data behind the file's end reads as zeros.
    let gone = l2(1 << 40).expect("a disk of zeros");
    assert!(!conformance(&gone, Aarch64).conforms());
}

/// However short: an error, or a report that does not conform.
#[test]
fn a_truncated_image_never_conforms() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let whole = good_qcow2();
    let odd = [0, 1, 3, 4, 8, 71, 72, 103, 104, 111, 112, 511, 512, 4096];
    let clusters = (1..whole.len() / CLUSTER).map(|cluster| cluster * CLUSTER);
    for length in odd.into_iter().chain(clusters) {
        match look(dir.path(), &whole[..length]) {
            Err(_) => {}
            Ok(facts) => assert!(!conformance(&facts, Aarch64).conforms(), "{length}"),
        }
    }
    assert!(matches!(
        look(dir.path(), &whole[..2 * CLUSTER]),
        Err(InspectError::Truncated {
            what: "an L2 table",
            ..
        })
    ));
}

#[test]
fn what_is_no_image_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert!(matches!(
        look(dir.path(), b"<html>Log in to the network</html>"),
        Err(InspectError::UnknownFormat {
            looks_like: "an HTML page",
            ..
        })
    ));
    assert!(matches!(
        look(dir.path(), b"KDMV\x01\0\0\0"),
        Err(InspectError::UnknownFormat {
            looks_like: "a VMDK image",
            ..
        })
    ));
    let opened = |path: &Path| inspect(path, &Limits::default());
    assert!(matches!(
        opened(dir.path()),
        Err(InspectError::NotAFile { .. })
    ));
    assert!(matches!(
        opened(Path::new("/dev/zero")),
        Err(InspectError::NotAFile { .. })
    ));
    assert!(matches!(
        opened(&dir.path().join("absent")),
        Err(InspectError::Open { .. })
    ));
    // A pipe without a writer would wait for one.
    let pipe = dir.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    assert!(matches!(opened(&pipe), Err(InspectError::NotAFile { .. })));
}

/// An image without data of its own, on this backing file.
fn overlay(path: &Path, backing: &str, format: Option<&str>) {
    let mut image = good_qcow2();
    image.truncate(4 * CLUSTER);
    image[3 * CLUSTER..].fill(0);
    let mut at = 104;
    if let Some(format) = format {
        image[at..at + 4].copy_from_slice(&0xe279_2aca_u32.to_be_bytes());
        image[at + 4..at + 8]
            .copy_from_slice(&u32::try_from(format.len()).expect("short").to_be_bytes());
        image[at + 8..at + 8 + format.len()].copy_from_slice(format.as_bytes());
        at += 8 + format.len().next_multiple_of(8);
    }
    at += 8;
    image[8..16].copy_from_slice(&(at as u64).to_be_bytes());
    image[16..20].copy_from_slice(&u32::try_from(backing.len()).expect("short").to_be_bytes());
    image[at..at + backing.len()].copy_from_slice(backing.as_bytes());
    std::fs::write(path, image).expect("written");
}

fn within(directory: &Path, depth: u32) -> Limits {
    Limits {
        backing: Backing::Within {
            directory: directory.to_owned(),
            depth,
        },
        ..Limits::default()
    }
}

#[test]
fn a_chain_is_read_when_it_is_allowed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("base.raw"), good(Aarch64)).expect("written");
    overlay(&at("middle.qcow2"), "base.raw", Some("raw"));
    overlay(
        &at("top.qcow2"),
        at("middle.qcow2").to_str().expect("text"),
        None,
    );
    let facts = inspect(&at("top.qcow2"), &within(dir.path(), 2)).expect("readable");
    assert!(conformance(&facts, Aarch64).conforms());
    let resolved = |name: &str| at(name).canonicalize().expect("there");
    let expected: Vec<PathBuf> = ["middle.qcow2", "base.raw"].map(resolved).into();
    assert_eq!(facts.backing_files, expected);

    assert!(matches!(
        inspect(&at("top.qcow2"), &within(dir.path(), 1)),
        Err(InspectError::ChainTooLong { bound: 1, .. })
    ));
    assert!(matches!(
        inspect(&at("top.qcow2"), &Limits::default()),
        Err(InspectError::Backing { .. })
    ));
    // A raw backing file is raw, whatever a guest wrote into it.
    overlay(&at("base.raw"), "/etc/shadow", None);
    let facts = inspect(&at("middle.qcow2"), &within(dir.path(), 2)).expect("readable");
    assert!(!conformance(&facts, Aarch64).conforms());
}

#[test]
fn nothing_outside_the_directory_is_opened() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).expect("made");
    std::fs::write(dir.path().join("secret"), good(Aarch64)).expect("written");
    symlink("../secret", inside.join("link")).expect("made");
    let image = inside.join("top.qcow2");
    for name in [
        "/etc/shadow",
        "/etc/absent",
        "../secret",
        "../absent",
        "link",
        "json:{\"file.filename\":\"/etc/shadow\"}",
        "nbd://127.0.0.1/export",
        "/proc/self/mem",
    ] {
        overlay(&image, name, Some("raw"));
        for limits in [Limits::default(), within(&inside, 8)] {
            let refused = inspect(&image, &limits);
            match (&limits.backing, &refused) {
                (Backing::Refused, Err(InspectError::Backing { .. }))
                | (Backing::Within { .. }, Err(InspectError::BackingOutside { .. })) => {}
                // No directory outside: a name like any other, of a file that does not exist.
                (Backing::Within { .. }, Err(InspectError::Open { path, .. }))
                    if name.starts_with("json:") && path.starts_with(&inside) => {}
                _ => panic!("{name}: {refused:?}"),
            }
        }
    }
}

#[test]
fn a_loop_of_images_ends() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    overlay(&at("self"), "self", Some("qcow2"));
    overlay(&at("a"), "b", Some("qcow2"));
    overlay(&at("b"), "./a", Some("qcow2"));
    std::fs::hard_link(at("a"), at("c")).expect("made");
    for name in ["self", "a", "c"] {
        let found = inspect(&at(name), &within(dir.path(), 100));
        assert!(
            matches!(found, Err(InspectError::ChainLoop { .. })),
            "{name}: {found:?}"
        );
    }
    overlay(&at("odd"), "a", Some("vmdk"));
    assert!(matches!(
        inspect(&at("odd"), &within(dir.path(), 100)),
        Err(InspectError::Unsupported { .. })
    ));
}

#[test]
fn the_bound_on_reads_is_an_error_of_its_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("disk.qcow2");
    std::fs::write(&path, good_qcow2()).expect("written");
    for read_bytes in [0, 511, 600, 1 << 16, 1 << 19] {
        let limits = Limits {
            read_bytes,
            ..Limits::default()
        };
        let found = inspect(&path, &limits);
        assert!(
            matches!(found, Err(InspectError::TooExpensive { bound_bytes, .. }) if bound_bytes == read_bytes),
            "{read_bytes}: {found:?}"
        );
    }
}
