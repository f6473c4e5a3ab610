//! The layout of a bootable disk: GPT, an EFI system partition, GRUB for a BIOS, the root file system.
//!
//! The partition numbers follow the order on the disk, and the root partition is the last, so that it can
//! grow into a larger disk.

use std::fs::File;
use std::io::{self, Cursor, Seek, SeekFrom, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{self, Type};
use gpt::{GptConfig, GptDisk};
use harmony_base::sparse;

use super::bios_boot::BOOT_CODE_BYTES;
use super::error::ImageError;
use crate::domain::topology::virtualization::VmArchitecture;

const SECTOR: u64 = 512;
const MIB: u64 = 1024 * 1024;
/// Where the first partition begins; the backup table needs less than this at the end.
const ALIGNMENT: u64 = MIB;

/// A run of bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// How long it is, in bytes.
    pub(super) length: u64,
}

impl Extent {
    pub(super) fn first_lba(self) -> u64 {
        self.offset / SECTOR
    }

    pub(super) fn sectors(self) -> u64 {
        self.length / SECTOR
    }
}

/// Where everything is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DiskLayout {
    /// GRUB's `core.img`, for machines with a BIOS.
    pub(super) bios_boot: Option<Extent>,
    /// The EFI system partition.
    pub(super) esp: Extent,
    /// The root file system.
    pub(super) root: Extent,
    /// The disk's size in bytes.
    pub(super) length: u64,
}

impl DiskLayout {
    /// The layout for `architecture`: only x86_64 machines may have a BIOS.
    pub(super) fn new(architecture: VmArchitecture, esp_mib: u64, root_mib: u64) -> Self {
        let mut end = ALIGNMENT;
        let mut next = |mib: u64| {
            let extent = Extent {
                offset: end,
                length: mib * MIB,
            };
            end += extent.length;
            extent
        };
        let bios_boot = match architecture {
            VmArchitecture::X86_64 => Some(next(1)),
            VmArchitecture::Aarch64 => None,
        };
        let esp = next(esp_mib);
        let root = next(root_mib);
        Self {
            bios_boot,
            esp,
            root,
            length: end + ALIGNMENT,
        }
    }

    fn partitions(&self) -> impl Iterator<Item = (&'static str, Type, Extent)> {
        let bios_boot = self
            .bios_boot
            .map(|extent| ("BIOS boot", partition_types::BIOS, extent));
        let esp = ("ESP", partition_types::EFI, self.esp);
        let root = ("root", partition_types::LINUX_FS, self.root);
        bios_boot.into_iter().chain([esp, root])
    }
}

/// The removable-media name of an architecture's boot loader in `\EFI\BOOT`.
pub(super) fn removable_loader(architecture: VmArchitecture) -> &'static str {
    match architecture {
        VmArchitecture::X86_64 => "BOOTX64.EFI",
        VmArchitecture::Aarch64 => "BOOTAA64.EFI",
    }
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    part: &'static str,
) -> impl Fn(E) -> ImageError {
    move |source| ImageError::Layout {
        part,
        source: source.into(),
    }
}

/// Sizes the empty file `disk` and writes both partition tables and the protective MBR, which carries
/// `boot_code` when there is any.
pub(super) fn write_partition_table(
    disk: &mut File,
    layout: &DiskLayout,
    boot_code: Option<[u8; BOOT_CODE_BYTES]>,
) -> Result<(), ImageError> {
    const PART: &str = "partition table";
    disk.set_len(layout.length).map_err(failed(PART))?;
    let last_lba = u32::try_from(layout.length / SECTOR - 1).unwrap_or(u32::MAX);
    let mut mbr = ProtectiveMBR::with_lb_size(last_lba);
    if let Some(code) = boot_code {
        mbr.set_bootcode(code);
    }
    mbr.overwrite_lba0(disk).map_err(failed(PART))?;
    let mut table: GptDisk<&mut File> = GptConfig::new()
        .writable(true)
        .create_from_device(disk, None)
        .map_err(failed(PART))?;
    for (id, (name, kind, extent)) in (1..).zip(layout.partitions()) {
        table
            .add_partition_at(name, id, extent.first_lba(), extent.sectors(), kind, 0)
            .map_err(failed(PART))?;
    }
    table.write().map_err(failed(PART))?;
    Ok(())
}

/// Formats the EFI system partition (FAT32, label `ESP`) and puts `loader` on the removable-media path.
pub(super) fn write_esp(
    disk: &File,
    esp: Extent,
    architecture: VmArchitecture,
    loader: &[u8],
) -> Result<(), ImageError> {
    let path = format!("EFI/BOOT/{}", removable_loader(architecture));
    let volume = fat_volume(esp.length, *b"ESP        ", &[(&path, loader)])
        .map_err(failed("EFI system partition"))?;
    sparse::write_at(disk, esp.offset, &volume).map_err(failed("EFI system partition"))
}

/// A FAT32 volume of `length` bytes with `files`; their directories are made.
pub(super) fn fat_volume(
    length: u64,
    label: [u8; 11],
    files: &[(&str, &[u8])],
) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(length).map_err(io::Error::other)?;
    let mut volume = Cursor::new(vec![0; bytes]);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        // The smallest cluster: FAT32 is told by the number of clusters, and needs 65525.
        .bytes_per_cluster(512)
        .volume_label(label);
    fatfs::format_volume(&mut volume, options)?;
    volume.seek(SeekFrom::Start(0))?;
    let filesystem = FileSystem::new(&mut volume, FsOptions::new())?;
    for (path, content) in files {
        let mut dir = filesystem.root_dir();
        let mut rest = *path;
        while let Some((name, deeper)) = rest.split_once('/') {
            // Opens it when it exists.
            dir = dir.create_dir(name)?;
            rest = deeper;
        }
        let mut file = dir.create_file(rest)?;
        file.write_all(content)?;
        file.flush()?;
    }
    filesystem.unmount()?;
    Ok(volume.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};
    use std::os::unix::fs::FileExt;

    use fatfs::{FatType, FileSystem, FsOptions};
    use gpt::GptConfig;
    use gpt::mbr::ProtectiveMBR;

    use super::{DiskLayout, MIB, removable_loader, write_esp, write_partition_table};
    use crate::domain::topology::virtualization::VmArchitecture;

    #[test]
    fn tables_name_the_partitions_of_each_architecture_with_root_last() {
        type Expected = &'static [(&'static str, u64, u64)];
        let table: [(_, Expected); 2] = [
            (
                VmArchitecture::Aarch64,
                &[("ESP", 1, 64), ("root", 65, 100)],
            ),
            (
                VmArchitecture::X86_64,
                &[("BIOS boot", 1, 1), ("ESP", 2, 64), ("root", 66, 100)],
            ),
        ];
        for (architecture, expected) in table {
            let layout = DiskLayout::new(architecture, 64, 100);
            let mut disk = tempfile::tempfile().expect("a temporary file");
            let code = [0xfa; 440];
            write_partition_table(&mut disk, &layout, Some(code)).expect("written");
            assert_eq!(disk.metadata().expect("open").len(), layout.length);

            let mut first = [0; 512];
            disk.read_exact_at(&mut first, 0).expect("readable");
            let mbr = ProtectiveMBR::from_bytes(&first, gpt::disk::LogicalBlockSize::Lb512)
                .expect("an MBR");
            assert_eq!(mbr.bootcode(), &code);
            let protective = mbr.partition(0).expect("protective");
            assert_eq!(u64::from(protective.lb_size), layout.length / 512 - 1);

            let gpt = GptConfig::new()
                .only_valid_headers(true)
                .open_from_device(disk)
                .expect("both tables are valid");
            let found: Vec<_> = gpt
                .partitions()
                .iter()
                .map(|(id, p)| {
                    let length = p.last_lba - p.first_lba + 1;
                    (
                        *id,
                        p.name.as_str(),
                        p.first_lba * 512 / MIB,
                        length * 512 / MIB,
                    )
                })
                .collect();
            let expected: Vec<_> = (1..)
                .zip(expected)
                .map(|(id, (name, at, mib))| (id, *name, *at, *mib))
                .collect();
            assert_eq!(found, expected);
            let esp = &gpt.partitions()[&(found.len() as u32 - 1)];
            assert_eq!(esp.part_type_guid, gpt::partition_types::EFI);
        }
    }

    #[test]
    fn the_esp_is_fat32_with_the_loader_on_the_removable_path() {
        for architecture in VmArchitecture::ALL {
            let layout = DiskLayout::new(architecture, 64, 1);
            let disk = tempfile::tempfile().expect("a temporary file");
            disk.set_len(layout.length).expect("sized");
            let loader = vec![0x4d; 300_000];
            write_esp(&disk, layout.esp, architecture, &loader).expect("written");

            let mut volume = vec![0; 64 * 1024 * 1024];
            disk.read_exact_at(&mut volume, layout.esp.offset)
                .expect("readable");
            let fat = FileSystem::new(Cursor::new(volume), FsOptions::new()).expect("FAT");
            assert_eq!(fat.fat_type(), FatType::Fat32);
            assert_eq!(fat.volume_label(), "ESP");
            let label = fat.read_volume_label_from_root_dir().expect("readable");
            assert_eq!(label.as_deref(), Some("ESP"));
            let path = format!("EFI/BOOT/{}", removable_loader(architecture));
            let mut content = Vec::new();
            let root = fat.root_dir();
            let mut file = root.open_file(&path).expect("there");
            file.read_to_end(&mut content).expect("readable");
            assert!(content == loader);
        }
    }
}
