//! Disks that conform, and disks that break one clause each: generated, and listed in `INDEX`.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::super::ClauseId::{self, EspFat32};
use super::super::{
    BootPath, Clause, ImageFacts, Level, Limits, Verdict, conformance, conformance_for, inspect,
};
use super::broken_disks::cases;
use super::fixture::{Disk, disk, good, loader, narrow};
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};

fn look(dir: &Path, raw: &[u8]) -> ImageFacts {
    let path = dir.join("disk.raw");
    std::fs::write(&path, raw).expect("written");
    inspect(&path, &Limits::default()).expect("readable")
}

fn broken(break_it: fn(&mut Disk)) -> Vec<u8> {
    let mut disk = Disk::good();
    break_it(&mut disk);
    disk.0
}

/// The clauses that must hold and do not, each with what was found.
fn violations(dir: &Path, raw: &[u8], architecture: VmArchitecture) -> Vec<(ClauseId, String)> {
    let facts = look(dir, raw);
    let report = conformance(&facts, architecture);
    let json = serde_json::to_string(&facts).expect("serialised");
    let read_back: ImageFacts = serde_json::from_str(&json).expect("read back");
    assert_eq!(read_back, facts);
    report
        .violations()
        .map(|clause| match &clause.verdict {
            Verdict::Fail { found, .. } => (clause.id, found.clone()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn the_built_disks_conform() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for architecture in VmArchitecture::ALL {
        let facts = look(dir.path(), good(architecture));
        let report = conformance(&facts, architecture);
        assert_eq!(report.failures().next(), None, "{report}");
        assert!(report.conforms());
        let other = match architecture {
            Aarch64 => X86_64,
            X86_64 => Aarch64,
        };
        assert!(!conformance(&facts, other).conforms());
    }
}

#[test]
fn each_broken_disk_names_its_clause() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut wrong = Vec::new();
    for (name, break_it, expected) in cases() {
        let found = violations(dir.path(), &broken(*break_it), Aarch64);
        let as_expected = found.len() == expected.len()
            && found
                .iter()
                .zip(*expected)
                .all(|((id, text), (wanted, start))| id == wanted && text.starts_with(start));
        if !as_expected {
            wrong.push(format!("{name}: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_index_lists_every_broken_disk_with_its_clauses() {
    let listed: Vec<(&str, String)> = include_str!("INDEX")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap_or_default();
            (word(), word().to_owned())
        })
        .collect();
    let cases: Vec<(&str, String)> = cases()
        .map(|(name, _, clauses)| {
            let ids: Vec<&str> = clauses.iter().map(|(id, _)| id.as_str()).collect();
            (*name, ids.join(","))
        })
        .collect();
    assert_eq!(listed, cases);
}

#[test]
#[ignore = "a measurement: prints how long it takes to name the clause of each broken disk"]
fn how_long_each_broken_disk_takes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("disk.raw");
    let mut out = std::io::stderr().lock();
    for (name, break_it, _) in cases() {
        std::fs::write(&path, broken(*break_it)).expect("written");
        let started = Instant::now();
        let facts = inspect(&path, &Limits::default()).expect("readable");
        let report = conformance(&facts, Aarch64);
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let failed: Vec<&str> = report.violations().map(|c| c.id.as_str()).collect();
        let failed = failed.join(",");
        writeln!(out, "{name:<30} {milliseconds:>8.2} ms  {failed}").expect("printed");
    }
}

/// What firmware reads as well is no reason to refuse an image.
#[test]
fn a_narrow_fat_is_advice_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let report = conformance(&look(dir.path(), &narrow()), Aarch64);
    let failures: Vec<&Clause> = report.failures().collect();
    let expected = Clause::new(EspFat32, Level::Should, Verdict::fail("FAT12", "FAT32"));
    assert_eq!(failures, [&expected], "{report}");
    assert!(report.conforms());
}

/// A disk with other boot code: none when it is 0.
fn with_code(raw: &[u8], code: u8) -> Vec<u8> {
    let mut raw = raw.to_vec();
    raw[..440].fill(code);
    raw
}

/// Boot code and a partition table of the old kind: what a BIOS has always started.
fn old_disk(signature: [u8; 2]) -> Vec<u8> {
    let mut raw = with_code(&[0; 1 << 20], 0xfa);
    raw[446 + 4] = 0x83;
    raw[510..512].copy_from_slice(&signature);
    raw
}

/// How a guest is started decides what its image must keep.
#[test]
fn each_way_to_start_has_its_own_musts() {
    use BootPath::{Bios, Kernel, Uefi};
    use ClauseId::{BackupGpt, BiosBootCode, PrimaryGpt, ProtectiveMbr, RemovableLoader};
    const NO_TABLE: &[ClauseId] = &[ProtectiveMbr, PrimaryGpt, BackupGpt];
    let (no_code, arm_code) = (with_code(good(X86_64), 0), with_code(good(Aarch64), 0xfa));
    let (old, unsigned) = (old_disk([0x55, 0xaa]), old_disk([0, 0xaa]));
    let empty = vec![0; 1 << 20];
    let both = disk(
        Aarch64,
        &[
            ("EFI/BOOT/BOOTX64.EFI", &loader(0x8664)),
            ("EFI/BOOT/BOOTAA64.EFI", &loader(0xaa64)),
        ],
    );
    type Row<'a> = (&'a [u8], VmArchitecture, BootPath, &'a [ClauseId]);
    let table: [Row<'_>; 14] = [
        (good(X86_64), X86_64, Bios, &[]),
        (good(X86_64), X86_64, Uefi, &[]),
        (&no_code, X86_64, Bios, &[BiosBootCode]),
        (&no_code, X86_64, Uefi, &[]),
        (&old, X86_64, Bios, &[]),
        (&old, X86_64, Uefi, NO_TABLE),
        (&unsigned, X86_64, Bios, &[BiosBootCode]),
        (&empty, X86_64, Bios, &[BiosBootCode]),
        (&empty, Aarch64, Uefi, NO_TABLE),
        (&empty, Aarch64, Kernel, &[]),
        (&arm_code, X86_64, Bios, &[RemovableLoader]),
        (good(Aarch64), X86_64, Kernel, &[RemovableLoader]),
        (good(X86_64), Aarch64, Uefi, &[RemovableLoader]),
        (&both, X86_64, Kernel, &[]),
    ];
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (row, (raw, architecture, boot, expected)) in table.into_iter().enumerate() {
        let report = conformance_for(&look(dir.path(), raw), architecture, boot);
        let failed: Vec<ClauseId> = report.violations().map(|clause| clause.id).collect();
        assert_eq!(failed, expected, "row {row}\n{report}");
    }
}
