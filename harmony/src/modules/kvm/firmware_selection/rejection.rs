//! Why a candidate was not taken, with the value that decided and its bound.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::host::firmware::FlashFormat;

/// A candidate that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedFirmware {
    /// The descriptor, or the code file of a known pair.
    pub candidate: PathBuf,
    /// Why not.
    #[serde(serialize_with = "as_text")]
    pub reason: RejectionReason,
}

impl fmt::Display for RejectedFirmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.candidate.display(), self.reason)
    }
}

fn as_text<S: serde::Serializer>(reason: &RejectionReason, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(reason)
}

/// Why a candidate was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectionReason {
    /// There is no content to judge.
    #[error("{reason}")]
    Broken {
        /// Why.
        reason: String,
    },
    /// It offers the guest another interface.
    #[error("its interface is {}, not uefi", list(found))]
    Interface {
        /// What it offers.
        found: Vec<String>,
    },
    /// It is for other architectures.
    #[error("is for {}, not for {wanted}", list(found))]
    Architecture {
        /// What it is for.
        found: Vec<String>,
        /// The guest's.
        wanted: VmArchitecture,
    },
    /// It is for other machines of the architecture.
    #[error(
        "is for machines {}, which machine '{wanted}' does not match",
        list(found)
    )]
    Machine {
        /// Globs of machine types.
        found: Vec<String>,
        /// The guest's machine type.
        wanted: String,
    },
    /// A glob of machine types is not one.
    #[error("its machine '{glob}' is not a glob: {problem}")]
    Glob {
        /// The text.
        glob: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It can what is not wanted.
    #[error("has the feature {feature}, which is not asked for")]
    UnwantedFeature {
        /// Its name in QEMU's specification.
        feature: &'static str,
    },
    /// It cannot what is wanted.
    #[error("lacks the feature {feature}, which is asked for")]
    MissingFeature {
        /// Its name in QEMU's specification.
        feature: &'static str,
    },
    /// It runs only where system management mode is emulated.
    #[error("has the feature requires-smm, which a guest without Secure Boot does not get")]
    NeedsSmm,
    /// It does not go into flash.
    #[error("is mapped as {device}, not as flash")]
    Device {
        /// How it is mapped.
        device: String,
    },
    /// Code and variables are not two flash images.
    #[error("its flash mode is {mode}, not split")]
    Mode {
        /// The mode.
        mode: String,
    },
    /// One of the two flash images is not named.
    #[error("names no {part}")]
    NoFile {
        /// `executable` or `nvram-template`.
        part: &'static str,
    },
    /// A flash image cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Code and variable template differ in format.
    #[error("its code is {code} and its variable template {vars_template}; both must be the same")]
    MixedFormats {
        /// The code's.
        code: FlashFormat,
        /// The template's.
        vars_template: FlashFormat,
    },
    /// It is qcow2 where that cannot be used.
    #[error("is {found}, and only raw can be used")]
    Format {
        /// What it is.
        found: FlashFormat,
    },
    /// A flash image has not the size of the machine's flash chip.
    #[error("{}: has {bytes} bytes of flash, and the machine's chip {expected}", path.display())]
    ChipSize {
        /// The file.
        path: PathBuf,
        /// The size the guest would see.
        bytes: u64,
        /// The chip's.
        expected: u64,
    },
    /// A flash image does not fill blocks.
    #[error("{}: has {bytes} bytes of flash, not a multiple of {block}", path.display())]
    BlockSize {
        /// The file.
        path: PathBuf,
        /// The size the guest would see.
        bytes: u64,
        /// The block's.
        block: u64,
    },
    /// Both flash images are larger than the machine's flash.
    #[error("code and variables have {bytes} bytes of flash together, and the machine has {limit}")]
    TotalSize {
        /// Both sizes.
        bytes: u64,
        /// The machine's.
        limit: u64,
    },
    /// It fits, and another came first.
    #[error("fits, and comes after {}", chosen.display())]
    Later {
        /// The one that was taken.
        chosen: PathBuf,
    },
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        "nothing".to_owned()
    } else {
        items.join(", ")
    }
}
