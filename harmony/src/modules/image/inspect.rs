//! Looks into an image without root, mounting or starting anything: for which architectures it has an
//! EFI boot loader.
//!
//! An image of the other architecture is the usual reason why a guest shows nothing at all for minutes,
//! so it is refused before anything is made. What cannot be decided (no partition table, no EFI system
//! partition) is said to be so and is not refused here.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use fatfs::{FileSystem, FsOptions};
use gpt::GptConfig;
use gpt::partition_types;
use imago::file::File as ImageFile;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions};

use crate::domain::topology::virtualization::VmArchitecture;

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
    match architecture {
        VmArchitecture::X86_64 => "\\EFI\\BOOT\\BOOTX64.EFI",
        VmArchitecture::Aarch64 => "\\EFI\\BOOT\\BOOTAA64.EFI",
    }
}

/// Looks for boot loaders in a qcow2 (`qcow2`) or raw image. Blocking; reads a few hundred KiB. Backing
/// files are not followed.
pub fn boot_loaders(path: &Path, qcow2: bool) -> BootLoaders {
    match read_esp(path, qcow2) {
        Ok(found) => BootLoaders::Found(found),
        Err(error) => BootLoaders::Undecidable {
            reason: error.to_string(),
        },
    }
}

fn read_esp(path: &Path, qcow2: bool) -> io::Result<Vec<VmArchitecture>> {
    let disk = Window::whole(open(path, qcow2)?);
    let table = GptConfig::new()
        .writable(false)
        .open_from_device(disk)
        .map_err(|e| io::Error::other(format!("no GUID partition table: {e}")))?;
    let sector = u64::from(*table.logical_block_size());
    let esp = table
        .partitions()
        .values()
        .find(|p| p.part_type_guid == partition_types::EFI)
        .ok_or_else(|| io::Error::other("no EFI system partition"))?;
    let (first, last) = (esp.first_lba, esp.last_lba);
    let start = first.checked_mul(sector);
    let end = last.checked_add(1).and_then(|lba| lba.checked_mul(sector));
    let (Some(start), Some(end)) = (start, end) else {
        return Err(io::Error::other(
            "the EFI system partition's place overflows",
        ));
    };
    let window = table.take_device().narrow(start, end)?;
    let volume = FileSystem::new(window, FsOptions::new())?;
    let root = volume.root_dir();
    let found = VmArchitecture::ALL
        .into_iter()
        .filter(|a| {
            let path = loader_path(*a).replace('\\', "/");
            root.open_file(path.trim_start_matches('/')).is_ok()
        })
        .collect();
    drop(root);
    Ok(found)
}

fn open(path: &Path, qcow2: bool) -> io::Result<FormatAccess<ImageFile>> {
    use imago::Storage;
    let options = StorageOpenOptions::new().filename(path);
    let file = ImageFile::open(options)?;
    Ok(if qcow2 {
        FormatAccess::new(Qcow2::<ImageFile>::builder(file).open(DenyImplicitOpenGate::default())?)
    } else {
        FormatAccess::new(Raw::<ImageFile>::builder(file).open(DenyImplicitOpenGate::default())?)
    })
}

/// A part of an image as a read-only stream.
struct Window {
    image: FormatAccess<ImageFile>,
    start: u64,
    length: u64,
    position: u64,
}

impl Window {
    fn whole(image: FormatAccess<ImageFile>) -> Self {
        Self {
            start: 0,
            length: image.size(),
            position: 0,
            image,
        }
    }

    fn narrow(self, start: u64, end: u64) -> io::Result<Self> {
        if start >= end || end > self.length {
            return Err(io::Error::other(
                "the EFI system partition does not lie within the image",
            ));
        }
        Ok(Self {
            start,
            length: end - start,
            position: 0,
            ..self
        })
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("start", &self.start)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        self.image
            .read(&mut buffer[..count], self.start + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl Write for Window {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
