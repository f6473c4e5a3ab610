//! A small image that conforms, and the tools to break it.

use std::io::{Cursor, Read, Seek, Write};
use std::sync::LazyLock;

use crc::{CRC_32_ISO_HDLC, Crc};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};
use crate::modules::image::disk::{DiskLayout, fat_volume, write_partition_table};

pub(super) const SECTOR: usize = 512;
const MIB: u64 = 1 << 20;
/// FAT32 takes at least 65525 clusters of 512 bytes.
const ESP_MIB: u64 = 34;
pub(super) const BIOS_BOOT_CODE: [u8; 440] = [0xfa; 440];

pub(super) const PE_MACHINE: usize = 0x84;
pub(super) const PE_MAGIC: usize = 0x98;
pub(super) const PE_SUBSYSTEM: usize = 0x98 + 68;
pub(super) const PE_SECTION_BYTES: usize = 0x98 + 240 + 16;
const PE_BYTES: usize = 0x600;

/// The headers of a PE32+ EFI application with one section, 3 clusters long.
pub(super) fn loader(machine: u16) -> Vec<u8> {
    let mut pe = vec![0; PE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(PE_MACHINE, &machine.to_le_bytes());
    put(0x86, &1_u16.to_le_bytes()); // sections
    put(0x94, &240_u16.to_le_bytes()); // optional header
    put(PE_MAGIC, &0x20b_u16.to_le_bytes());
    put(PE_SUBSYSTEM, &10_u16.to_le_bytes());
    put(PE_MAGIC + 108, &16_u32.to_le_bytes()); // data directories
    put(PE_MAGIC + 240, b".text\0\0\0");
    put(PE_SECTION_BYTES, &0x200_u32.to_le_bytes());
    put(PE_SECTION_BYTES + 4, &0x400_u32.to_le_bytes());
    pe
}

fn layout(architecture: VmArchitecture) -> DiskLayout {
    DiskLayout::new(architecture, ESP_MIB, 1)
}

/// A raw disk with these files in its EFI system partition.
pub(super) fn disk(architecture: VmArchitecture, files: &[(&str, &[u8])]) -> Vec<u8> {
    let layout = layout(architecture);
    let mut file = tempfile::tempfile().expect("a temporary file");
    let code = (architecture == X86_64).then_some(BIOS_BOOT_CODE);
    write_partition_table(&mut file, &layout, code).expect("written");
    let mut bytes = Vec::new();
    file.rewind().expect("rewound");
    file.read_to_end(&mut bytes).expect("read");
    let volume = fat_volume(ESP_MIB * MIB, *b"ESP        ", files).expect("formatted");
    let at = usize::try_from(layout.esp.offset).expect("small");
    bytes[at..at + volume.len()].copy_from_slice(&volume);
    bytes
}

/// The arm64 disk with a FAT12 file system, which is small.
pub(super) fn narrow() -> Vec<u8> {
    let mut volume = Cursor::new(vec![0; 4 << 20]);
    fatfs::format_volume(&mut volume, FormatVolumeOptions::new()).expect("formatted");
    let files = FileSystem::new(&mut volume, FsOptions::new()).expect("a FAT");
    let root = files.root_dir();
    root.create_dir("EFI").expect("made");
    let boot = root.create_dir("EFI/BOOT").expect("made");
    let mut file = boot.create_file("BOOTAA64.EFI").expect("made");
    file.write_all(&loader(0xaa64)).expect("written");
    drop((file, boot, root));
    files.unmount().expect("unmounted");
    let mut disk = Disk::good();
    let esp = disk.esp();
    disk.put(esp, &volume.into_inner());
    disk.0
}

static GOOD_ARM: LazyLock<Vec<u8>> =
    LazyLock::new(|| disk(Aarch64, &[("EFI/BOOT/BOOTAA64.EFI", &loader(0xaa64))]));
static GOOD_X86: LazyLock<Vec<u8>> =
    LazyLock::new(|| disk(X86_64, &[("EFI/BOOT/BOOTX64.EFI", &loader(0x8664))]));

/// A raw disk that conforms.
pub(super) fn good(architecture: VmArchitecture) -> &'static [u8] {
    match architecture {
        Aarch64 => &GOOD_ARM,
        X86_64 => &GOOD_X86,
    }
}

/// The arm64 disk, to be broken.
pub(super) struct Disk(pub(super) Vec<u8>);

impl Disk {
    pub(super) fn good() -> Self {
        Self(good(Aarch64).to_vec())
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("4 bytes"))
    }

    fn le16(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes(
            self.0[at..at + 2].try_into().expect("2 bytes"),
        ))
    }

    /// Where the backup header is.
    pub(super) fn backup(&self) -> usize {
        self.0.len() - SECTOR
    }

    /// Where the backup's entries are.
    pub(super) fn backup_entries(&self) -> usize {
        self.backup() - 32 * SECTOR
    }

    /// Changes both partition entries' tables alike, and makes every CRC right again.
    pub(super) fn entries(&mut self, change: impl Fn(&mut [u8])) {
        for at in [2 * SECTOR, self.backup_entries()] {
            change(&mut self.0[at..at + 32 * SECTOR]);
        }
        self.reseal();
    }

    /// Makes the CRCs of both headers and of their entries right again, where their sizes are.
    pub(super) fn reseal(&mut self) {
        let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
        let places = [(SECTOR, 2 * SECTOR), (self.backup(), self.backup_entries())];
        for (header, entries) in places {
            let sum = crc.checksum(&self.0[entries..entries + 32 * SECTOR]);
            self.put(header + 88, &sum.to_le_bytes());
            self.put(header + 16, &[0; 4]);
            let sum = crc.checksum(&self.0[header..header + 92]);
            self.put(header + 16, &sum.to_le_bytes());
        }
    }

    /// Where the EFI system partition is.
    pub(super) fn esp(&self) -> usize {
        usize::try_from(layout(Aarch64).esp.offset).expect("small")
    }

    fn data(&self) -> usize {
        let esp = self.esp();
        let fat_sectors = self.le32(esp + 36) as usize;
        let fats = usize::from(self.0[esp + 16]);
        esp + (self.le16(esp + 14) + fats * fat_sectors) * SECTOR
    }

    /// Where a cluster of it is.
    pub(super) fn cluster(&self, cluster: u32) -> usize {
        assert_eq!(self.0[self.esp() + 13], 1, "sectors per cluster");
        self.data() + (cluster as usize - 2) * SECTOR
    }

    /// Sets what follows a cluster.
    pub(super) fn set_next(&mut self, cluster: u32, next: u32) {
        let fat = self.esp() + self.le16(self.esp() + 14) * SECTOR;
        self.put(fat + cluster as usize * 4, &next.to_le_bytes());
    }

    /// Where the 32 bytes of a directory entry of this short name are.
    pub(super) fn entry(&self, name: &[u8; 11]) -> usize {
        let start = self.data();
        let end = start + 64 * SECTOR;
        (start..end)
            .step_by(32)
            .find(|at| self.0[*at..].starts_with(name))
            .expect("an entry of that name")
    }

    /// The first cluster of what an entry names.
    pub(super) fn first_cluster(&self, name: &[u8; 11]) -> u32 {
        let entry = self.entry(name);
        u32::try_from(self.le16(entry + 26) | self.le16(entry + 20) << 16).expect("small")
    }

    /// Where the boot loader begins.
    pub(super) fn loader(&self) -> usize {
        self.cluster(self.first_cluster(b"BOOTAA64EFI"))
    }
}

pub(super) const CLUSTER: usize = 64 << 10;

/// A raw disk as a qcow2 image, version 3: header, L1 table, refcount table, L2 table, data.
pub(super) fn qcow2(raw: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(raw.len() as u64).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(CLUSTER as u64).to_be_bytes());
    put(48, &(2 * CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(CLUSTER, &((3 * CLUSTER as u64) | (1 << 63)).to_be_bytes());
    for (index, data) in raw.chunks(CLUSTER).enumerate() {
        if data.iter().any(|byte| *byte != 0) {
            let entry = (image.len() as u64) | (1 << 63);
            let at = 3 * CLUSTER + index * 8;
            image[at..at + 8].copy_from_slice(&entry.to_be_bytes());
            image.extend_from_slice(data);
            image.resize(image.len().next_multiple_of(CLUSTER), 0);
        }
    }
    image
}

/// Where the L2 entry of a guest offset is in such an image.
pub(super) fn l2_entry(guest: usize) -> usize {
    3 * CLUSTER + guest / CLUSTER * 8
}
