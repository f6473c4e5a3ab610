//! Whether the firmware that a VM's variable store belongs to is what it was.

use crate::modules::host::firmware::{FlashState, look_at_flash};

use super::error::KvmError;
use super::firmware_selection::{UefiFirmware, code_size_problem};
use super::record::DomainRecord;

/// Checks that the firmware that a VM's variable store belongs to is still there and of its kind.
pub(super) fn check_recorded_firmware(record: &DomainRecord) -> Result<(), KvmError> {
    let Some(UefiFirmware { code, format, .. }) = &record.firmware else {
        return Ok(());
    };
    let problem = match look_at_flash(code, *format) {
        FlashState::Unusable { reason } => reason,
        FlashState::Present { flash_bytes } => {
            match code_size_problem(record.spec.architecture, flash_bytes) {
                None => return Ok(()),
                Some(problem) => problem,
            }
        }
    };
    Err(KvmError::FirmwareChanged {
        name: record.spec.name.clone(),
        path: code.clone(),
        problem,
    })
}
