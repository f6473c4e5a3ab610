//! Finding UEFI firmware for guests of both architectures.
//!
//! ```text
//! descriptors in the search directories --+
//!                                         +-- read --> candidates, in order -- select --> UefiFirmware
//! table of known paths -------------------+   (files)                          (pure)     or each reason
//! ```
//!
//! QEMU's interop rule comes first: descriptors are merged by file name across the directories, a name
//! in an earlier directory masks the same name in a later one, an empty file masks without replacing,
//! and the rest is walked in name order. Then a table of known paths, whose entries are candidates of
//! the same shape. `read` owns every look at the host and judges nothing; `select` judges and looks at
//! nothing, so that the choice on another host can be repeated from its recorded candidates. Every
//! candidate that is not taken has its reason, and a broken descriptor is a candidate like any other.

mod candidate;
mod descriptor;
mod known;
mod read;
mod rejection;
mod select;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::error::KvmError;
use crate::domain::topology::virtualization::VmArchitecture;

pub use candidate::{
    CandidateContent, DescribedFirmware, FirmwareCandidate, FirmwareFile, FirmwareMapping,
    FirmwareTarget, FlashFormat, FlashState,
};
pub(super) use read::candidate_of_pair;
#[cfg(feature = "kvm")]
pub(super) use read::look_at_flash;
pub use read::{firmware_directories, read_firmware_candidates, read_firmware_candidates_below};
pub use rejection::{RejectedFirmware, RejectionReason};
#[cfg(feature = "kvm")]
pub(super) use select::code_size_problem;
pub use select::{FirmwareRequest, FirmwareSelection, select_firmware};

/// A pair of flash images that makes a machine boot through UEFI, both of the same format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UefiFirmware {
    /// The code, mapped read-only and shared by all guests.
    pub code: PathBuf,
    /// What a guest's own variable store (NVRAM) begins as.
    pub vars_template: PathBuf,
    /// The format of both files.
    pub format: FlashFormat,
}

/// Firmware for an aarch64 guest.
pub type AarchFirmware = UefiFirmware;

/// What stands for "any version of `virt`" where no machine has been resolved: descriptors list
/// `virt-*`, which the alias `virt` does not match. A descriptor for some versions only is passed over.
const ANY_VIRT_MACHINE: &str = "virt-0.0";

/// Finds the firmware of this host for aarch64 guests without Secure Boot, raw or qcow2, on any version
/// of machine `virt`. Where the machine is resolved, [`select_firmware`] is the exact answer.
///
/// # Errors
/// [`KvmError::MissingFirmware`] with each candidate and why it was not taken.
pub fn discover_aarch64_firmware() -> Result<AarchFirmware, KvmError> {
    let request = FirmwareRequest {
        architecture: VmArchitecture::Aarch64,
        machine: ANY_VIRT_MACHINE,
        secure_boot: false,
        enrolled_keys: false,
        raw_only: false,
    };
    let selection = select_firmware(&read_firmware_candidates(), &request).map_err(|rejected| {
        KvmError::MissingFirmware {
            architecture: VmArchitecture::Aarch64,
            rejected,
        }
    })?;
    debug!(origin = %selection.origin.display(), "firmware found");
    Ok(selection.firmware)
}

#[cfg(test)]
mod tests;
