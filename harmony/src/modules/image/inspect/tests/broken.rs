//! Disks that conform, and disks that break one clause each: generated, and listed in `INDEX`.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::ClauseId::{self, EspFat32};
use super::super::{Level, Limits, Verdict, conformance, inspect};
use super::broken_disks::cases;
use super::fixture::{Disk, good};
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};

/// Far above what it takes; the requirement is one second.
const BOUND: Duration = Duration::from_secs(1);

/// The clauses that must hold and do not, each with what was found.
fn violations(dir: &Path, raw: &[u8], architecture: VmArchitecture) -> Vec<(ClauseId, String)> {
    let path = dir.join("disk.raw");
    std::fs::write(&path, raw).expect("written");
    let started = Instant::now();
    let facts = inspect(&path, &Limits::default()).expect("readable");
    let report = conformance(&facts, architecture);
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    let json = serde_json::to_string(&facts).expect("serialised");
    assert_eq!(
        serde_json::from_str::<super::super::ImageFacts>(&json).expect("read back"),
        facts
    );
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
        let path = dir.path().join("disk.raw");
        std::fs::write(&path, good(architecture)).expect("written");
        let facts = inspect(&path, &Limits::default()).expect("readable");
        let report = conformance(&facts, architecture);
        let failed = |c: &&super::super::Clause| matches!(c.verdict, Verdict::Fail { .. });
        assert_eq!(report.clauses.iter().find(failed), None, "{report}");
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
        let mut disk = Disk::good();
        break_it(&mut disk);
        let found = violations(dir.path(), &disk.0, Aarch64);
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
fn the_index_lists_every_broken_disk() {
    let listed: Vec<&str> = include_str!("INDEX")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let cases: Vec<&str> = cases().map(|(name, ..)| *name).collect();
    assert_eq!(listed, cases);
}

/// What firmware reads as well is no reason to refuse an image.
#[test]
fn a_narrow_fat_is_advice_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = super::image(dir.path(), &["BOOTAA64.EFI"]);
    let facts = inspect(&path, &Limits::default()).expect("readable");
    let report = conformance(&facts, Aarch64);
    assert_eq!(
        report.verdict(EspFat32),
        Some(&Verdict::fail("FAT12", "FAT32")),
        "{report}"
    );
    let narrow = report.clauses.iter().find(|clause| clause.id == EspFat32);
    assert_eq!(narrow.map(|clause| clause.level), Some(Level::Should));
}

#[test]
fn a_disk_without_boot_code_does_not_start_in_a_bios() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut raw = good(X86_64).to_vec();
    raw[..440].fill(0);
    let path = dir.path().join("disk.raw");
    std::fs::write(&path, &raw).expect("written");
    let facts = inspect(&path, &Limits::default()).expect("readable");
    let report = conformance(&facts, X86_64);
    assert!(report.conforms(), "{report}");
    let expected = "boot code in the first sector and a BIOS boot partition";
    assert_eq!(
        report.verdict(ClauseId::BiosBootCode),
        Some(&Verdict::fail("no boot code in the first sector", expected))
    );
}
