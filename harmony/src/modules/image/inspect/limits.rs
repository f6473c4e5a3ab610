//! How much may be read, and which files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::InspectError;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Whether an image may be read through its backing files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Backing {
    /// An image with a backing file is an error.
    #[default]
    Refused,
    /// Backing files are opened when they, with all links resolved, are within a directory.
    Within {
        /// The directory.
        directory: PathBuf,
        /// How many of them, at most.
        depth: u32,
    },
}

/// What looking into an image may cost at most.
///
/// The memory is bounded by the reads: nothing is kept that was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many bytes are read from files and unpacked, in all. Each read of a qcow2 disk counts as what it
    /// can cost at worst: its table in every layer, its compressed form and itself.
    pub read_bytes: u64,
    /// The largest virtual disk that is looked into, in bytes.
    pub virtual_size_bytes: u64,
    /// The largest L1 table of a qcow2 image, in bytes.
    pub l1_table_bytes: u64,
    /// The largest array of partition entries, in bytes. UEFI asks for at least 16384.
    pub partition_array_bytes: u64,
    /// Which backing files are followed.
    pub backing: Backing,
}

impl Default for Limits {
    /// 128 MiB of reads, disks up to 64 TiB, 4 MiB of L1 table, 1 MiB of partition entries, no backing file.
    fn default() -> Self {
        Self {
            read_bytes: 128 * MIB,
            virtual_size_bytes: 64 * TIB,
            l1_table_bytes: 4 * MIB,
            partition_array_bytes: MIB,
            backing: Backing::Refused,
        }
    }
}

/// Counts what one inspection has read, and stops it at the bound. Shared by all layers of an image.
#[derive(Debug)]
pub(super) struct Meter {
    bound: u64,
    spent: AtomicU64,
    exhausted: AtomicBool,
}

impl Meter {
    pub(super) fn new(bound: u64) -> Self {
        Self {
            bound,
            spent: AtomicU64::new(0),
            exhausted: AtomicBool::new(false),
        }
    }

    /// Takes `bytes` from what is left, or nothing and `false` when there is less.
    pub(super) fn charge(&self, bytes: u64) -> bool {
        let took = self
            .spent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
                spent.checked_add(bytes).filter(|sum| *sum <= self.bound)
            });
        if took.is_err() {
            self.exhausted.store(true, Ordering::Relaxed);
        }
        took.is_ok()
    }

    #[cfg(test)]
    pub(super) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// What a failed read means: only the meter knows whether it was itself that ended it.
    pub(super) fn error(&self, path: &Path, part: &'static str, source: io::Error) -> InspectError {
        let path = path.to_owned();
        if self.exhausted.load(Ordering::Relaxed) {
            let bound_bytes = self.bound;
            return InspectError::TooExpensive { path, bound_bytes };
        }
        InspectError::Read { path, part, source }
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;

    #[test]
    fn nothing_is_taken_beyond_the_bound() {
        let meter = Meter::new(10);
        for (bytes, taken, spent) in [
            (4, true, 4),
            (7, false, 4),
            (u64::MAX, false, 4),
            (6, true, 10),
            (1, false, 10),
        ] {
            assert_eq!(meter.charge(bytes), taken, "{bytes}");
            assert_eq!(meter.spent(), spent, "{bytes}");
        }
        assert!(meter.exhausted.load(std::sync::atomic::Ordering::Relaxed));
    }
}
