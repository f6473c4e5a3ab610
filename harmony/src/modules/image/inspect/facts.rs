//! What was found in an image, as values that are stored, printed and judged elsewhere.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::format::DiskFormat;
use crate::domain::topology::virtualization::VmArchitecture;

/// What an image is and has, as a machine's firmware would find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFacts {
    /// How the file holds the disk.
    #[serde(with = "FormatName")]
    pub format: DiskFormat,
    /// The file's length in bytes.
    pub file_bytes: u64,
    /// The size of the disk that a guest sees, in bytes.
    pub virtual_bytes: u64,
    /// The backing files that were read through, the nearest first.
    pub backing_files: Vec<PathBuf>,
    /// What a file without a boot signature looks like.
    pub looks_like: Option<String>,
    /// The first sector.
    pub mbr: MbrFacts,
    /// The partition table at the disk's beginning.
    pub primary_gpt: GptVerdict,
    /// The one at its end.
    pub backup_gpt: GptVerdict,
    /// The partitions of the primary table or, where that is invalid, of the backup.
    pub partitions: Vec<PartitionFacts>,
    /// The partitions whose type says EFI system partition, in the table's order.
    pub esps: Vec<EspFacts>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DiskFormat", rename_all = "lowercase")]
enum FormatName {
    Qcow2,
    Raw,
}

/// The master boot record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MbrFacts {
    /// Whether the sector ends with 55 aa.
    pub signature: bool,
    /// The types of the partition records in use; 0xee is the protective one.
    pub partition_types: Vec<u8>,
    /// Whether a protective record begins at sector 1, as it must.
    pub protective: bool,
    /// Whether there is code for a BIOS to run.
    pub boot_code: bool,
}

/// A GPT header as it is on the disk, without its signature, revision and CRC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptHeader {
    /// The sector that it says it is in.
    pub my_lba: u64,
    /// The sector of the other header.
    pub alternate_lba: u64,
    /// The first sector that partitions may use.
    pub first_usable_lba: u64,
    /// The last one.
    pub last_usable_lba: u64,
    /// The disk's GUID.
    pub disk_guid: Uuid,
    /// Where the partition entries begin.
    pub entries_lba: u64,
    /// How many there are.
    pub entry_count: u32,
    /// How long each is, in bytes.
    pub entry_bytes: u32,
    /// Their CRC-32.
    pub entries_crc32: u32,
}

/// Whether one of a disk's two GPT headers, and its partition entries, can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum GptVerdict {
    /// Header and entries are valid, with both CRCs.
    Valid {
        /// The header.
        header: GptHeader,
    },
    /// They are not.
    Invalid {
        /// Why.
        problem: GptProblem,
    },
}

impl GptVerdict {
    /// The header, when it is valid.
    pub fn header(&self) -> Option<&GptHeader> {
        match self {
            Self::Valid { header } => Some(header),
            Self::Invalid { .. } => None,
        }
    }
}

/// What is wrong with a GPT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum GptProblem {
    /// The sector is not on the disk.
    #[error("sector {lba} is behind the disk's last, {last_lba}")]
    BehindTheDisk {
        /// The sector.
        lba: u64,
        /// The disk's last.
        last_lba: u64,
    },
    /// There is no header.
    #[error("no 'EFI PART' in sector {lba}")]
    NoSignature {
        /// The sector.
        lba: u64,
    },
    /// The table is for another size of sectors.
    #[error("a table for sectors of {sector_bytes} bytes")]
    SectorSize {
        /// The size that it is for.
        sector_bytes: u32,
    },
    /// A field of the header has an impossible value.
    #[error("{field} {found} (expected {expected})")]
    Field {
        /// The field.
        field: String,
        /// Its value.
        found: u64,
        /// The bound or the form.
        expected: String,
    },
    /// The header's CRC differs.
    #[error("header CRC {found:#010x} (computed {computed:#010x})")]
    HeaderCrc {
        /// What the header says.
        found: u32,
        /// What it should say.
        computed: u32,
    },
    /// The entries' CRC differs.
    #[error("CRC of the partition entries {found:#010x} (computed {computed:#010x})")]
    EntriesCrc {
        /// What the header says.
        found: u32,
        /// What it should say.
        computed: u32,
    },
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionFacts {
    /// Its number, from 1.
    pub number: u32,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its first sector.
    pub first_lba: u64,
    /// Its last sector.
    pub last_lba: u64,
}

/// An EFI system partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EspFacts {
    /// The partition's number, from 1.
    pub partition: u32,
    /// Its file system.
    pub volume: VolumeVerdict,
}

/// Whether a partition holds a FAT file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum VolumeVerdict {
    /// It does.
    Fat {
        /// Which.
        kind: FatKind,
        /// What is at the removable media path.
        loaders: Vec<LoaderFacts>,
        /// EFI programs in other directories below `\EFI`, by path: firmware starts them only through a
        /// variable. At most 16 are listed.
        other_programs: Vec<String>,
        /// Damage that was met while looking for them.
        problem: Option<String>,
    },
    /// It does not.
    Unusable {
        /// Why.
        problem: String,
    },
}

/// The width of a FAT's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FatKind {
    /// 12 bits.
    Fat12,
    /// 16 bits.
    Fat16,
    /// 32 bits.
    Fat32,
}

impl fmt::Display for FatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fat12 => "FAT12",
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        })
    }
}

/// What UEFI's removable media path is called for a kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemovableLoader {
    /// 64-bit Arm.
    Aa64,
    /// 64-bit x86.
    X64,
    /// 32-bit Arm.
    Arm,
}

impl RemovableLoader {
    /// Every one that is looked for.
    pub const ALL: [Self; 3] = [Self::Aa64, Self::X64, Self::Arm];

    /// The one of an architecture.
    pub fn of(architecture: VmArchitecture) -> Self {
        match architecture {
            VmArchitecture::X86_64 => Self::X64,
            VmArchitecture::Aarch64 => Self::Aa64,
        }
    }

    /// The path, as UEFI spells it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Aa64 => "\\EFI\\BOOT\\BOOTAA64.EFI",
            Self::X64 => "\\EFI\\BOOT\\BOOTX64.EFI",
            Self::Arm => "\\EFI\\BOOT\\BOOTARM.EFI",
        }
    }

    /// The machine type that the PE header must have.
    pub fn pe_machine(self) -> u16 {
        match self {
            Self::Aa64 => 0xaa64,
            Self::X64 => 0x8664,
            // UEFI's IMAGE_FILE_MACHINE_ARMTHUMB_MIXED.
            Self::Arm => 0x01c2,
        }
    }
}

/// A boot loader at a removable media path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderFacts {
    /// Which path.
    pub path: RemovableLoader,
    /// Its length in bytes.
    pub file_bytes: u32,
    /// Whether it can be started.
    pub image: PeVerdict,
}

/// Whether a file is a whole PE image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum PeVerdict {
    /// It is.
    Pe {
        /// For which processor, for example 0xaa64.
        machine: u16,
        /// PE32+ rather than PE32.
        pe32_plus: bool,
        /// 10 is an EFI application.
        subsystem: u16,
    },
    /// It is not.
    Invalid {
        /// Why.
        problem: String,
    },
}
