//! A disk that conforms, whose boot loader firmware refuses to load: of a guest only the firmware runs.

use std::fs::File;
use std::io::{Cursor, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::mbr::ProtectiveMBR;
use gpt::{GptConfig, partition_types};

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
const DISK_BYTES: u64 = 16 * MIB;
const ESP_BYTES: u64 = 8 * MIB;

/// Writes a raw disk for aarch64 guests to `path`.
pub(crate) fn write_arm64_disk(path: &Path) {
    let mut disk = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .expect("an image");
    disk.set_len(DISK_BYTES).expect("sized");
    let last_lba = u32::try_from(DISK_BYTES / SECTOR - 1).expect("small");
    let mbr = ProtectiveMBR::with_lb_size(last_lba);
    mbr.overwrite_lba0(&mut disk).expect("written");
    let config = GptConfig::new().writable(true);
    let mut table = config.create_from_device(&mut disk, None).expect("a table");
    table
        .add_partition_at(
            "ESP",
            1,
            MIB / SECTOR,
            ESP_BYTES / SECTOR,
            partition_types::EFI,
            0,
        )
        .expect("added");
    table.write().expect("written");
    disk.write_all_at(&esp(), MIB).expect("written");
}

fn esp() -> Vec<u8> {
    let bytes = usize::try_from(ESP_BYTES).expect("small");
    let mut volume = Cursor::new(vec![0; bytes]);
    fatfs::format_volume(&mut volume, FormatVolumeOptions::new()).expect("formatted");
    let files = FileSystem::new(&mut volume, FsOptions::new()).expect("a FAT");
    files.root_dir().create_dir("EFI").expect("made");
    let boot = files.root_dir().create_dir("EFI/BOOT").expect("made");
    let mut file = boot.create_file("BOOTAA64.EFI").expect("made");
    file.write_all(&loader()).expect("written");
    drop((file, boot));
    files.unmount().expect("unmounted");
    volume.into_inner()
}

/// The headers of a PE32+ EFI application whose one section has no code.
fn loader() -> Vec<u8> {
    let mut pe = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0xaa64_u16.to_le_bytes());
    put(0x86, &1_u16.to_le_bytes()); // sections
    put(0x94, &240_u16.to_le_bytes()); // bytes of the optional header
    put(0x98, &0x20b_u16.to_le_bytes()); // PE32+
    put(0x98 + 68, &10_u16.to_le_bytes()); // EFI application
    put(0x98 + 108, &16_u32.to_le_bytes()); // data directories
    put(0x98 + 240, b".text\0\0\0");
    put(0x98 + 240 + 16, &0x200_u32.to_le_bytes()); // its bytes in the file,
    put(0x98 + 240 + 20, &0x400_u32.to_le_bytes()); // and where they are
    pe
}
