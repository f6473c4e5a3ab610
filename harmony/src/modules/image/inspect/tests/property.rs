//! Damage at random places: never a panic, and never more reads than allowed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::super::limits::Meter;
use super::super::{Limits, conformance, inspect_counted};
use super::fixture::{good, qcow2};
use crate::domain::topology::virtualization::VmArchitecture::Aarch64;

/// As `PROPTEST_CASES` says, else so many.
const CASES: u32 = 300;

fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(CASES)
}

/// How many bytes this thread has read so far, by the kernel's count.
fn bytes_read() -> u64 {
    let mut text = String::new();
    File::open("/proc/thread-self/io")
        .and_then(|mut file| file.read_to_string(&mut text))
        .expect("Linux counts what threads read");
    let count = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    count.and_then(|n| n.parse().ok()).expect("a number")
}

/// Mostly where tables are: in the first bytes of some cluster that is not all zeros.
fn places(image: &[u8]) -> impl Strategy<Value = usize> + use<> {
    let heads: Vec<usize> = image
        .chunks(512)
        .enumerate()
        .filter(|(_, sector)| sector.iter().any(|byte| *byte != 0))
        .map(|(index, _)| index * 512)
        .collect();
    let length = image.len();
    prop_oneof![
        1 => 0..length,
        2 => 0..128_usize,
        6 => (proptest::sample::select(heads), 0..512_usize).prop_map(|(at, offset)| at + offset),
    ]
}

fn holds_for(image: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().write_all_at(image, 0).expect("written");
    let limits = Limits::default();
    let byte = prop_oneof![any::<u8>(), Just(0), Just(0xff)];
    let flips = vec((places(image), byte), 1..12);
    let mut runner = TestRunner::new(Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&flips, |flips| {
        for (at, byte) in &flips {
            file.as_file().write_all_at(&[*byte], *at as u64)?;
        }
        let meter = Arc::new(Meter::new(limits.read_bytes));
        let before = bytes_read();
        let found = inspect_counted(file.path(), &limits, &meter);
        let read = bytes_read() - before;
        for (at, _) in &flips {
            file.as_file().write_all_at(&image[*at..=*at], *at as u64)?;
        }
        // What the count itself reads is in it as well.
        assert!(read <= meter.spent() + 4096, "{read} {}", meter.spent());
        assert!(meter.spent() <= limits.read_bytes, "{}", meter.spent());
        if let Ok(facts) = found {
            assert!(!conformance(&facts, Aarch64).to_string().is_empty());
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn a_damaged_qcow2_image_is_read_within_bounds() {
    holds_for(&qcow2(good(Aarch64)));
}

#[test]
fn a_damaged_raw_image_is_read_within_bounds() {
    holds_for(good(Aarch64));
}
