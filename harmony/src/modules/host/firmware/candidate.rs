//! What a host offers as firmware, as facts that can be stored and read back.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file format of a flash image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashFormat {
    /// The flash's bytes as they are.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl FlashFormat {
    /// The name that QEMU and libvirt use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl fmt::Display for FlashFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of looking at a flash image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase", deny_unknown_fields)]
pub enum FlashState {
    /// It can be read.
    Present {
        /// The size that the guest sees, in bytes: the file's for raw, the header's virtual size for
        /// qcow2.
        flash_bytes: u64,
    },
    /// It is not there, cannot be read, or is not of its format.
    Unusable {
        /// Which, and why.
        reason: String,
    },
}

/// A flash image that a candidate names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareFile {
    /// Where it is, as the host sees it.
    pub path: PathBuf,
    /// The format that the candidate says it has.
    pub format: FlashFormat,
    /// What the file itself says.
    pub state: FlashState,
}

/// Machines that a firmware runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareTarget {
    /// QEMU's name of the architecture, for example `aarch64`.
    pub architecture: String,
    /// Globs of versioned machine types, for example `virt-*`.
    pub machines: Vec<String>,
}

/// How a firmware gets into the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareMapping {
    /// `flash`, `memory`, `kernel` or what later QEMU adds.
    pub device: String,
    /// For `flash`: `split`, `combined` or `stateless`; `split` where a descriptor has none.
    pub mode: Option<String>,
}

/// What a candidate says of itself, and what its files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedFirmware {
    /// `uefi`, `bios`, …
    pub interface_types: Vec<String>,
    /// What it runs on.
    pub targets: Vec<FirmwareTarget>,
    /// What it can do and what it needs, for example `secure-boot`.
    pub features: Vec<String>,
    /// How it is mapped.
    pub mapping: FirmwareMapping,
    /// The code, when it is mapped as flash.
    pub code: Option<FirmwareFile>,
    /// What a variable store begins as.
    pub vars_template: Option<FirmwareFile>,
}

/// A candidate's content, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "a few dozen, and nearly all are described"
)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum CandidateContent {
    /// It could be read.
    Described(DescribedFirmware),
    /// The descriptor cannot be read or is none.
    Broken {
        /// Why.
        reason: String,
    },
}

/// A firmware that a host may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareCandidate {
    /// The descriptor, or the code file of a known pair.
    pub origin: PathBuf,
    /// What it says, and what its files are.
    pub content: CandidateContent,
}
