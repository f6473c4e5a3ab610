mod broken;
mod broken_disks;
mod fixture;
mod hostile;
mod property;
mod report;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::{GptConfig, partition_types};

use super::{BootLoaders, boot_loaders};
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};

const MIB: u64 = 1 << 20;

/// A raw image with an EFI system partition that holds these files.
fn image(dir: &Path, files: &[&str]) -> PathBuf {
    let mut esp = tempfile::tempfile().expect("temporary file");
    esp.set_len(4 * MIB).expect("sized");
    fatfs::format_volume(&mut esp, FormatVolumeOptions::new()).expect("formatted");
    let volume = FileSystem::new(&mut esp, FsOptions::new()).expect("FAT");
    volume.root_dir().create_dir("EFI").expect("made");
    volume.root_dir().create_dir("EFI/BOOT").expect("made");
    for name in files {
        let file = volume.root_dir().create_file(&format!("EFI/BOOT/{name}"));
        file.and_then(|mut f| f.write_all(b"MZ")).expect("written");
    }
    volume.unmount().expect("unmounted");

    let path = dir.join("disk.raw");
    let mut disk = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)
        .expect("made");
    disk.set_len(8 * MIB).expect("sized");
    gpt::mbr::ProtectiveMBR::with_lb_size(u32::try_from(8 * MIB / 512 - 1).expect("small"))
        .overwrite_lba0(&mut disk)
        .expect("written");
    let mut table = GptConfig::new()
        .writable(true)
        .create_from_device(&mut disk, None)
        .expect("table");
    table
        .add_partition_at("ESP", 1, 2048, 4 * MIB / 512, partition_types::EFI, 0)
        .expect("added");
    table.write().expect("written");
    let mut bytes = Vec::new();
    esp.rewind().expect("rewound");
    esp.read_to_end(&mut bytes).expect("read");
    disk.seek(SeekFrom::Start(MIB)).expect("sought");
    disk.write_all(&bytes).expect("written");
    path
}

#[test]
fn loaders_are_found_in_the_esp() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let table: [(&[&str], &[VmArchitecture]); 4] = [
        (&["BOOTAA64.EFI"], &[Aarch64]),
        (&["BOOTX64.EFI"], &[X86_64]),
        (&["BOOTX64.EFI", "BOOTAA64.EFI"], &[X86_64, Aarch64]),
        (&["OTHER.EFI"], &[]),
    ];
    for (files, expected) in table {
        let found = boot_loaders(&image(dir.path(), files), false);
        assert_eq!(found, BootLoaders::Found(expected.to_vec()), "{files:?}");
    }
}

#[test]
fn only_what_is_certain_is_a_contradiction() {
    let other = BootLoaders::Found(vec![X86_64]);
    assert_eq!(
        other.contradiction(Aarch64).as_deref(),
        Some(
            "it boots x86_64, not aarch64: its EFI system partition has no \\EFI\\BOOT\\BOOTAA64.EFI"
        )
    );
    assert_eq!(other.contradiction(X86_64), None);
    assert_eq!(BootLoaders::Found(vec![]).contradiction(Aarch64), None);
    let unknown = BootLoaders::Undecidable {
        reason: "no table".to_owned(),
    };
    assert_eq!(unknown.contradiction(Aarch64), None);
}

#[test]
fn what_is_no_disk_is_undecidable() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let cut = image(dir.path(), &["BOOTAA64.EFI"]);
    File::options()
        .write(true)
        .open(&cut)
        .and_then(|f| f.set_len(MIB))
        .expect("cut");
    let text = dir.path().join("text");
    std::fs::write(&text, "x".repeat(4096)).expect("written");
    for (path, qcow2) in [
        (&cut, false),
        (&text, false),
        (&text, true),
        (&dir.path().join("absent"), false),
    ] {
        let found = boot_loaders(path, qcow2);
        assert!(
            matches!(found, BootLoaders::Undecidable { .. }),
            "{found:?}"
        );
    }
}

/// qcow2 is read like raw, and a backing file is not followed.
#[test]
#[ignore = "needs qemu-img: converts an image of 8 MiB"]
fn qcow2_is_read_without_its_backing_file() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let raw = image(dir.path(), &["BOOTAA64.EFI"]);
    let qemu_img = |arguments: &[&str]| {
        let status = std::process::Command::new("qemu-img")
            .args(arguments)
            .current_dir(dir.path())
            .status();
        assert!(status.expect("qemu-img on PATH").success());
    };
    qemu_img(&[
        "convert",
        "-q",
        "-c",
        "-O",
        "qcow2",
        "disk.raw",
        "disk.qcow2",
    ]);
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "disk.raw",
        "overlay.qcow2",
    ]);
    let found = boot_loaders(&dir.path().join("disk.qcow2"), true);
    assert_eq!(found, BootLoaders::Found(vec![Aarch64]));
    let overlay = boot_loaders(&dir.path().join("overlay.qcow2"), true);
    assert!(
        matches!(overlay, BootLoaders::Undecidable { .. }),
        "{overlay:?}"
    );
    assert!(raw.exists());
}
