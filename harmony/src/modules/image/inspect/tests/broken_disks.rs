//! The disks that break one clause each, and how.

use super::super::ClauseId::{
    self, BackupGpt, Esp, EspFileSystem, LoaderApplication, LoaderMachine, NoPresetVariables,
    Partitions, PrimaryGpt, ProtectiveMbr, RemovableLoader,
};
use super::fixture::{
    Disk, PE_MACHINE, PE_MAGIC, PE_SECTION_BYTES, PE_SUBSYSTEM, SECTOR, disk, loader,
};
use crate::domain::topology::virtualization::VmArchitecture::Aarch64;

type Break = fn(&mut Disk);

/// Name, how it is broken, and every clause that must then fail, with what is said of it.
pub(super) type Case = (&'static str, Break, &'static [(ClauseId, &'static str)]);

const MBR_AND_TABLES: &[Case] = &[
    (
        "mbr-only",
        mbr_only,
        &[
            (ProtectiveMbr, "records of type 0x83"),
            (PrimaryGpt, "no 'EFI PART' in sector 1"),
            (BackupGpt, "no 'EFI PART' in sector 75775"),
        ],
    ),
    (
        "no-boot-signature",
        |d| d.put(510, &[0; 2]),
        &[(ProtectiveMbr, "data without a partition table")],
    ),
    (
        "no-protective-record",
        |d| d.put(446, &[0; 64]),
        &[(ProtectiveMbr, "no record")],
    ),
    (
        "protective-record-elsewhere",
        |d| d.put(446 + 8, &[2]),
        &[(ProtectiveMbr, "records of type 0xee")],
    ),
    (
        "empty-disk",
        |d| d.0.fill(0),
        &[
            (ProtectiveMbr, "data without a partition table"),
            (PrimaryGpt, "no 'EFI PART' in sector 1"),
            (BackupGpt, "no 'EFI PART' in sector 75775"),
        ],
    ),
    (
        "large-sectors",
        large_sectors,
        &[(PrimaryGpt, "a table for sectors of 4096 bytes")],
    ),
    (
        "header-crc",
        |d| d.put(SECTOR + 16, &[1, 2, 3, 4]),
        &[(PrimaryGpt, "header CRC 0x04030201")],
    ),
    (
        "entries-crc",
        |d| d.put(2 * SECTOR + 56, b"X"),
        &[(PrimaryGpt, "CRC of the partition entries")],
    ),
    (
        "both-headers-gone",
        both_headers_gone,
        &[
            (PrimaryGpt, "no 'EFI PART' in sector 1"),
            (BackupGpt, "no 'EFI PART' in sector 75775"),
        ],
    ),
    (
        "header-of-another-sector",
        |d| header(d, 24, &7_u64.to_le_bytes()),
        &[(PrimaryGpt, "my_lba 7")],
    ),
    (
        "header-of-4096-bytes",
        |d| header(d, 12, &4096_u32.to_le_bytes()),
        &[(PrimaryGpt, "header size 4096")],
    ),
    (
        "entries-without-number",
        |d| header(d, 80, &u32::MAX.to_le_bytes()),
        &[(PrimaryGpt, "bytes of partition entries 549755813760")],
    ),
    (
        "entries-of-no-bytes",
        |d| header(d, 84, &0_u32.to_le_bytes()),
        &[(PrimaryGpt, "entry size 0")],
    ),
    (
        "entries-of-absurd-size",
        |d| header(d, 84, &(1_u32 << 31).to_le_bytes()),
        &[(PrimaryGpt, "bytes of partition entries 274877906944")],
    ),
    (
        "entries-behind-the-disk",
        |d| header(d, 72, &u64::MAX.to_le_bytes()),
        &[(PrimaryGpt, "entries_lba 18446744073709551615")],
    ),
    (
        "usable-behind-the-disk",
        |d| header(d, 48, &(1_u64 << 60).to_le_bytes()),
        &[(PrimaryGpt, "last_usable_lba 1152921504606846976")],
    ),
    (
        "backup-gone",
        |d| {
            let at = d.backup();
            d.put(at, &[0; SECTOR]);
        },
        &[(BackupGpt, "no 'EFI PART' in sector 75775")],
    ),
    (
        "backup-of-another-disk",
        other_backup,
        &[(BackupGpt, "a table that differs")],
    ),
    (
        "backup-is-the-primary",
        |d| header(d, 32, &1_u64.to_le_bytes()),
        &[(BackupGpt, "alternate_lba 1")],
    ),
    (
        "truncated",
        |d| d.0.truncate(36 << 20),
        &[
            (PrimaryGpt, "last_usable_lba 75742"),
            (BackupGpt, "no 'EFI PART' in sector 73727"),
        ],
    ),
];

const PARTITIONS: &[Case] = &[
    (
        "no-partition",
        |d| d.entries(|e| e.fill(0)),
        &[(Esp, "no partition")],
    ),
    (
        "no-esp",
        |d| d.entries(|e| e.copy_within(128..144, 0)),
        &[(
            Esp,
            "partitions of type 0fc63daf-8483-4772-8e79-3d69d8477de4",
        )],
    ),
    (
        "esp-of-basic-data-type",
        |d| d.entries(|e| e[0] ^= 1),
        &[(
            Esp,
            "partitions of type c12a7329-f81f-11d2-ba4b-00a0c93ec93b",
        )],
    ),
    (
        "overlap",
        |d| d.entries(|e| e.copy_within(32..40, 128 + 32)),
        &[(
            Partitions,
            "partition 1 in sectors 2048 to 71679 and partition 2 in sectors 2048 to 73727",
        )],
    ),
    (
        "esp-behind-the-disk",
        |d| d.entries(|e| e[40..48].fill(0xff)),
        &[
            (
                Partitions,
                "partition 1 in sectors 2048 to 18446744073709551615",
            ),
            (
                EspFileSystem,
                "sectors 2048 to 18446744073709551615 do not lie within the disk",
            ),
        ],
    ),
    (
        "esp-backwards",
        |d| d.entries(|e| e[40..48].fill(0)),
        &[
            (Partitions, "partition 1 in sectors 2048 to 0"),
            (
                EspFileSystem,
                "sectors 2048 to 0 do not lie within the disk",
            ),
        ],
    ),
];

const VOLUMES: &[Case] = &[
    (
        "esp-not-formatted",
        |d| {
            let at = d.esp();
            d.put(at, &[0; SECTOR]);
        },
        &[(EspFileSystem, "no boot sector signature 55 aa")],
    ),
    (
        "fat-of-odd-sectors",
        |d| {
            let at = d.esp();
            d.put(at + 11, &[3, 0]);
        },
        &[(EspFileSystem, "3 bytes per sector")],
    ),
    (
        "fat-without-clusters",
        |d| {
            let at = d.esp();
            d.put(at + 13, &[0]);
        },
        &[(EspFileSystem, "0 sectors per cluster")],
    ),
    (
        "fat-larger-than-its-partition",
        |d| {
            let at = d.esp();
            d.put(at + 32, &[0xff; 4]);
        },
        &[(
            EspFileSystem,
            "2199023255040 bytes in a partition of 35651584",
        )],
    ),
    (
        "fat-of-absurd-length",
        |d| {
            let at = d.esp();
            d.put(at + 36, &[0xff; 4]);
        },
        &[(EspFileSystem, "data from sector 8589934")],
    ),
    (
        "root-at-cluster-1",
        |d| {
            let at = d.esp();
            d.put(at + 44, &[1, 0, 0, 0]);
        },
        &[(RemovableLoader, "a chain that leads to cluster 1 ")],
    ),
    (
        "directory-loop",
        directory_loop,
        &[(RemovableLoader, "a directory of more than 2097152 bytes")],
    ),
];

const LOADERS: &[Case] = &[
    (
        "other-architecture",
        other_architecture,
        &[(RemovableLoader, "\\EFI\\BOOT\\BOOTX64.EFI")],
    ),
    (
        "no-loader",
        |d| {
            let at = d.entry(b"BOOTAA64EFI");
            d.put(at, &[0xe5]);
        },
        &[(RemovableLoader, "no boot loader there")],
    ),
    (
        "loader-needs-a-variable",
        vendor_only,
        &[
            (RemovableLoader, "no boot loader there"),
            (
                NoPresetVariables,
                "\\EFI\\DEBIAN\\GRUBAA64.EFI, which only a boot variable can name",
            ),
        ],
    ),
    (
        "loader-of-another-machine",
        |d| loader_field(d, PE_MACHINE, &[0x64, 0x86]),
        &[(LoaderMachine, "machine type 0x8664")],
    ),
    (
        "loader-of-32-bits",
        |d| loader_field(d, PE_MAGIC, &[0x0b, 0x01]),
        &[(LoaderApplication, "PE32")],
    ),
    (
        "loader-is-a-driver",
        |d| loader_field(d, PE_SUBSYSTEM, &[11, 0]),
        &[(LoaderApplication, "subsystem 11")],
    ),
    (
        "loader-is-a-text",
        |d| loader_field(d, 0, b"#!/bin/sh\n"),
        &[(LoaderApplication, "no PE image: Invalid DOS magic")],
    ),
    (
        "pe-header-outside",
        |d| loader_field(d, 0x3c, &[0xff; 4]),
        &[(
            LoaderApplication,
            "no PE image: Invalid NT headers offset, size, or alignment",
        )],
    ),
    (
        "pe-section-outside",
        |d| loader_field(d, PE_SECTION_BYTES, &[0xff; 4]),
        &[(
            LoaderApplication,
            "section .text ends at byte 4294968319 of 1536",
        )],
    ),
    (
        "pe-without-sections",
        |d| loader_field(d, 0x86, &[0, 0]),
        &[(LoaderApplication, "a PE image without sections")],
    ),
    (
        "loader-empty",
        |d| {
            let at = d.entry(b"BOOTAA64EFI");
            d.put(at + 28, &[0; 4]);
        },
        &[(
            LoaderApplication,
            "no PE image: Invalid DOS header size or alignment",
        )],
    ),
    (
        "loader-of-4-gib",
        |d| {
            let at = d.entry(b"BOOTAA64EFI");
            d.put(at + 28, &[0xff; 4]);
        },
        &[(LoaderApplication, "4294967295 bytes long")],
    ),
    (
        "loader-cut-off",
        |d| loader_chain(d, 0x0fff_ffff),
        &[(LoaderApplication, "cut off after 512 of its 1536 bytes")],
    ),
    (
        "loader-chain-to-cluster-1",
        |d| loader_chain(d, 1),
        &[(LoaderApplication, "a chain that leads to cluster 1 ")],
    ),
    (
        "loader-chain-loop",
        |d| loader_chain(d, d.first_cluster(b"BOOTAA64EFI")),
        &[(LoaderApplication, "goes on at cluster")],
    ),
];

fn mbr_only(disk: &mut Disk) {
    disk.put(446 + 4, &[0x83]);
    both_headers_gone(disk);
}

fn both_headers_gone(disk: &mut Disk) {
    disk.put(SECTOR, &[0; SECTOR]);
    let backup = disk.backup();
    disk.put(backup, &[0; SECTOR]);
}

fn large_sectors(disk: &mut Disk) {
    disk.put(SECTOR, &[0; SECTOR]);
    disk.put(8 * SECTOR, b"EFI PART");
}

/// Changes a field of the primary header and makes its CRC right again.
fn header(disk: &mut Disk, at: usize, bytes: &[u8]) {
    disk.put(SECTOR + at, bytes);
    disk.reseal();
}

fn other_backup(disk: &mut Disk) {
    let backup = disk.backup();
    disk.put(backup + 56, &[0x11; 16]);
    disk.reseal();
}

fn directory_loop(disk: &mut Disk) {
    let root = disk.le32(disk.esp() + 44);
    // Full of deleted entries, so that there is no end before the next cluster.
    let at = disk.cluster(root);
    disk.put(at, &[0xe5; SECTOR]);
    disk.set_next(root, root);
}

fn loader_field(disk: &mut Disk, at: usize, bytes: &[u8]) {
    let loader = disk.loader();
    disk.put(loader + at, bytes);
}

fn loader_chain(disk: &mut Disk, next: u32) {
    let first = disk.first_cluster(b"BOOTAA64EFI");
    disk.set_next(first, next);
}

fn other_architecture(broken: &mut Disk) {
    broken.0 = disk(Aarch64, &[("EFI/BOOT/BOOTX64.EFI", &loader(0x8664))]);
}

fn vendor_only(broken: &mut Disk) {
    broken.0 = disk(Aarch64, &[("EFI/debian/grubaa64.efi", &loader(0xaa64))]);
}

/// Every one of them.
pub(super) fn cases() -> impl Iterator<Item = &'static Case> {
    [MBR_AND_TABLES, PARTITIONS, VOLUMES, LOADERS]
        .into_iter()
        .flatten()
}
