//! Looks into an image without root, mounting or starting anything: what a machine's firmware would find.
//!
//! [`inspect`] reads the facts, bounded in memory, reads and time whatever the image claims; [`conformance`]
//! judges them by the clauses of Arm's VM System Specification, and [`domain_conformance`] the machine that is
//! to run the image. An image of the other architecture is the usual reason why a guest shows nothing at all
//! for minutes; [`boot_loaders`] is the short question for that.
//!
//! Guarantees: files are opened for reading alone, links and pipes do not make it wait, and no file that an
//! image names is opened unless [`Limits::backing`] allows its place.

mod clauses;
mod conformance;
mod disk;
mod domain;
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

use super::format::DiskFormat;
use crate::domain::topology::virtualization::VmArchitecture;
use disk::Disk;
use limits::Meter;

pub use clauses::conformance;
pub use conformance::{Clause, ClauseId, ConformanceReport, Level, Section, Verdict};
pub use domain::domain_conformance;
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

/// For which architectures an image has a boot loader at UEFI's removable media path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootLoaders {
    /// The EFI system partition was read; these were found there.
    Found(Vec<VmArchitecture>),
    /// It could not be told.
    Undecidable {
        /// Why not.
        reason: String,
    },
}

impl BootLoaders {
    /// Why a guest of this architecture cannot boot from the image, when that is certain.
    pub fn contradiction(&self, architecture: VmArchitecture) -> Option<String> {
        let Self::Found(found) = self else {
            return None;
        };
        if found.contains(&architecture) || found.is_empty() {
            return None;
        }
        let names: Vec<&str> = found.iter().map(|a| a.as_str()).collect();
        Some(format!(
            "it boots {}, not {architecture}: its EFI system partition has no {}",
            names.join(" and "),
            loader_path(architecture)
        ))
    }
}

/// The removable media path of an architecture, as UEFI spells it.
pub fn loader_path(architecture: VmArchitecture) -> &'static str {
    RemovableLoader::of(architecture).path()
}

/// Looks for boot loaders in a qcow2 (`qcow2`) or raw image. Blocking. Backing files are not followed.
pub fn boot_loaders(path: &Path, qcow2: bool) -> BootLoaders {
    match inspect(path, &Limits::default()) {
        Ok(facts) if (facts.format == DiskFormat::Qcow2) == qcow2 => loaders_of(&facts),
        Ok(facts) => undecidable(format!("it is {}", facts.format)),
        Err(error) => undecidable(error.to_string()),
    }
}

fn undecidable(reason: String) -> BootLoaders {
    BootLoaders::Undecidable { reason }
}

fn loaders_of(facts: &ImageFacts) -> BootLoaders {
    if let (GptVerdict::Invalid { problem }, GptVerdict::Invalid { .. }) =
        (&facts.primary_gpt, &facts.backup_gpt)
    {
        return undecidable(format!("no GUID partition table: {problem}"));
    }
    let Some(first) = facts.esps.first() else {
        return undecidable("no EFI system partition".to_owned());
    };
    let readable: Vec<&Vec<LoaderFacts>> = facts
        .esps
        .iter()
        .filter_map(|esp| match &esp.volume {
            VolumeVerdict::Fat { loaders, .. } => Some(loaders),
            VolumeVerdict::Unusable { .. } => None,
        })
        .collect();
    if let (VolumeVerdict::Unusable { problem }, true) = (&first.volume, readable.is_empty()) {
        return undecidable(format!(
            "the EFI system partition is not readable: {problem}"
        ));
    }
    let has = |path| readable.iter().any(|l| l.iter().any(|l| l.path == path));
    BootLoaders::Found(
        VmArchitecture::ALL
            .into_iter()
            .filter(|architecture| has(RemovableLoader::of(*architecture)))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
