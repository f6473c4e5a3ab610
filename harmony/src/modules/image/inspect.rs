//! Looks into an image without root, mounting or starting anything: what a machine's firmware would find.
//!
//! [`inspect`] reads the facts, bounded in memory, reads and time whatever the image claims; [`conformance`]
//! judges them by the clauses of Arm's VM System Specification. The machine that is to run the image is judged by
//! the same clauses, elsewhere; [`ConformanceReport::with`] makes one report of both. An image of the other architecture
//! is the usual reason why a guest shows nothing at all for minutes.
//!
//! ```
//! use harmony::domain::topology::virtualization::VmArchitecture;
//! use harmony::modules::image::inspect::{InspectError, Limits, conformance, inspect};
//!
//! /// Why no guest of this architecture would start from this image.
//! fn objections(
//!     image: &std::path::Path,
//!     architecture: VmArchitecture,
//! ) -> Result<Vec<String>, InspectError> {
//!     let facts = inspect(image, &Limits::default())?;
//!     let report = conformance(&facts, architecture);
//!     Ok(report.violations().map(ToString::to_string).collect())
//! }
//! ```
//!
//! Guarantees: files are opened for reading alone, links and pipes do not make it wait, and no file that an
//! image names is opened unless [`Limits::backing`] allows its place.

mod clauses;
mod conformance;
mod disk;
mod error;
mod esp;
mod facts;
mod fat;
mod gpt;
mod limits;
mod qcow2;
mod source;

use std::path::Path;
use std::sync::Arc;

use disk::Disk;
use limits::Meter;

pub use clauses::{conformance, conformance_for};
pub use conformance::{BootPath, Clause, ClauseId, ConformanceReport, Level, Section, Verdict};
pub use error::InspectError;
pub use facts::{
    EspFacts, FatKind, GptHeader, GptProblem, GptVerdict, ImageFacts, LoaderFacts, MbrFacts,
    PartitionFacts, PeVerdict, RemovableLoader, VolumeVerdict,
};
pub use limits::{Backing, Limits};

/// Reads what an image is and has. Blocking; typically reads about a MiB, and never more than the limits say.
///
/// What is wrong with a disk is a fact, for [`conformance`] to judge; an error is an image that could not be
/// read.
///
/// # Errors
/// The file cannot be opened or is none of an image's; a qcow2 header that breaks the format's rules or the
/// limits, or uses what is not read here; tables or compressed data that are damaged or cut off; a backing or
/// data file that may not be followed.
pub fn inspect(path: &Path, limits: &Limits) -> Result<ImageFacts, InspectError> {
    inspect_counted(path, limits, &Arc::new(Meter::new(limits.read_bytes)))
}

fn inspect_counted(
    path: &Path,
    limits: &Limits,
    meter: &Arc<Meter>,
) -> Result<ImageFacts, InspectError> {
    let mut disk = Disk::open(path, limits, meter)?;
    let tables = gpt::read_tables(&mut disk, limits)?;
    let esps = esp::read_esps(&mut disk, &tables.partitions)?;
    Ok(ImageFacts {
        format: disk.format,
        file_bytes: disk.file_bytes,
        virtual_bytes: disk.size(),
        backing_files: disk.backing,
        looks_like: disk.looks_like.map(str::to_owned),
        mbr: tables.mbr,
        primary_gpt: tables.primary,
        backup_gpt: tables.backup,
        partitions: tables.partitions,
        esps,
    })
}

#[cfg(test)]
mod tests;
