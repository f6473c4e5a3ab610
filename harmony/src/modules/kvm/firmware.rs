//! Choosing UEFI firmware for guests of both architectures.
//!
//! ```text
//! candidates of the host, in order -- select --> UefiFirmware, or each candidate with its reason
//! ```
//!
//! What a host has is read by [`host::firmware`](crate::modules::host::firmware), which judges nothing.
//! [`select_firmware`] judges and looks at nothing, so that the choice on another host can be repeated
//! from its recorded candidates. Every candidate that is not taken has its reason.

use tracing::debug;

use super::error::KvmError;
use crate::domain::topology::virtualization::VmArchitecture;

pub use super::firmware_selection::{
    FirmwareRequest, FirmwareSelection, RejectedFirmware, RejectionReason, UefiFirmware,
    select_firmware,
};
pub use crate::modules::host::firmware::{
    CandidateContent, DescribedFirmware, FirmwareCandidate, FirmwareFile, FirmwareMapping,
    FirmwareTarget, FlashFormat, FlashState, firmware_directories, read_firmware_candidates,
    read_firmware_candidates_below,
};

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
mod tests {
    /// The machine that runs this must find what `setup-host.sh` installed.
    #[test]
    #[ignore = "needs the package of UEFI firmware for aarch64: reads /usr/share"]
    fn this_host_has_firmware() {
        let firmware = super::discover_aarch64_firmware().expect("found");
        assert!(firmware.code.is_file() && firmware.vars_template.is_file());
    }
}
