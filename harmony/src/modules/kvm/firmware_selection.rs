//! Choosing UEFI firmware among candidates. Pure: the same candidates and request give the same answer everywhere.

mod rejection;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::host::firmware::{
    CandidateContent, DescribedFirmware, FirmwareCandidate, FirmwareFile, FlashFormat, FlashState,
};

pub use rejection::{RejectedFirmware, RejectionReason};

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

/// Each flash chip of machine `virt` has exactly this size (QEMU `hw/arm/virt.c`, `VIRT_FLASH` halved),
/// and QEMU refuses an image of another.
const VIRT_FLASH_BYTES: u64 = 64 * 1024 * 1024;

/// The flash of a PC lies below 4 GiB, in blocks of this size.
const PC_FLASH_BLOCK_BYTES: u64 = 4096;

/// How much of it there may be in all: the default of the machine property `max-fw-size`.
const PC_FLASH_LIMIT_BYTES: u64 = 8 * 1024 * 1024;

/// What a guest needs of its firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmwareRequest<'a> {
    /// The guest's architecture.
    pub architecture: VmArchitecture,
    /// The versioned machine type, for example `virt-10.0`; an alias matches no descriptor.
    pub machine: &'a str,
    /// Whether the firmware must check signatures. Firmware that can and need not is not taken either.
    pub secure_boot: bool,
    /// Whether the variable template must have keys enrolled.
    pub enrolled_keys: bool,
    /// Whether qcow2 cannot be used.
    pub raw_only: bool,
}

/// The firmware that was chosen, and why none of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirmwareSelection {
    /// The first candidate that fits.
    pub firmware: UefiFirmware,
    /// Its descriptor, or its code file when it was found by the table of known paths.
    pub origin: PathBuf,
    /// Every other candidate, in order. Those behind the chosen one that would fit as well have
    /// [`RejectionReason::Later`].
    pub rejected: Vec<RejectedFirmware>,
}

/// Takes the first candidate that fits.
///
/// # Errors
/// Every candidate with its reason when none fits.
pub fn select_firmware(
    candidates: &[FirmwareCandidate],
    request: &FirmwareRequest<'_>,
) -> Result<FirmwareSelection, Vec<RejectedFirmware>> {
    let mut chosen: Option<(UefiFirmware, PathBuf)> = None;
    let mut rejected = Vec::new();
    for candidate in candidates {
        let reason = match (judge(candidate, request), &chosen) {
            (Ok(firmware), None) => {
                chosen = Some((firmware, candidate.origin.clone()));
                continue;
            }
            (Ok(_), Some((_, origin))) => RejectionReason::Later {
                chosen: origin.clone(),
            },
            (Err(reason), _) => reason,
        };
        rejected.push(RejectedFirmware {
            candidate: candidate.origin.clone(),
            reason,
        });
    }
    match chosen {
        Some((firmware, origin)) => Ok(FirmwareSelection {
            firmware,
            origin,
            rejected,
        }),
        None => Err(rejected),
    }
}

fn judge(
    candidate: &FirmwareCandidate,
    request: &FirmwareRequest<'_>,
) -> Result<UefiFirmware, RejectionReason> {
    let described = match &candidate.content {
        CandidateContent::Described(described) => described,
        CandidateContent::Broken { reason } => {
            return Err(RejectionReason::Broken {
                reason: reason.clone(),
            });
        }
    };
    let DescribedFirmware {
        interface_types,
        targets: _,
        features,
        mapping,
        code,
        vars_template,
    } = described;
    if !interface_types.iter().any(|interface| interface == "uefi") {
        return Err(RejectionReason::Interface {
            found: interface_types.clone(),
        });
    }
    check_target(described, request)?;
    check_features(features, request)?;
    if mapping.device != "flash" {
        return Err(RejectionReason::Device {
            device: mapping.device.clone(),
        });
    }
    if let Some(mode) = mapping.mode.as_ref().filter(|mode| *mode != "split") {
        return Err(RejectionReason::Mode { mode: mode.clone() });
    }
    let missing = |part| RejectionReason::NoFile { part };
    let code = code.as_ref().ok_or(missing("executable"))?;
    let vars = vars_template.as_ref().ok_or(missing("nvram-template"))?;
    check_pair(code, vars, request)
}

fn check_target(
    described: &DescribedFirmware,
    request: &FirmwareRequest<'_>,
) -> Result<(), RejectionReason> {
    let wanted = request.architecture;
    let ours: Vec<_> = described
        .targets
        .iter()
        .filter(|target| target.architecture == wanted.as_str())
        .collect();
    if ours.is_empty() {
        let found = described.targets.iter().map(|t| t.architecture.clone());
        return Err(RejectionReason::Architecture {
            found: found.collect(),
            wanted,
        });
    }
    let globs = || ours.iter().flat_map(|target| &target.machines);
    for glob in globs() {
        let pattern = glob::Pattern::new(glob).map_err(|error| RejectionReason::Glob {
            glob: glob.clone(),
            problem: error.msg,
        })?;
        if pattern.matches(request.machine) {
            return Ok(());
        }
    }
    Err(RejectionReason::Machine {
        found: globs().cloned().collect(),
        wanted: request.machine.to_owned(),
    })
}

fn check_features(
    features: &[String],
    request: &FirmwareRequest<'_>,
) -> Result<(), RejectionReason> {
    let has = |name: &str| features.iter().any(|feature| feature == name);
    for (feature, wanted) in [
        ("secure-boot", request.secure_boot),
        ("enrolled-keys", request.enrolled_keys),
    ] {
        match (has(feature), wanted) {
            (true, false) => return Err(RejectionReason::UnwantedFeature { feature }),
            (false, true) => return Err(RejectionReason::MissingFeature { feature }),
            _ => {}
        }
    }
    if has("requires-smm") && !request.secure_boot {
        return Err(RejectionReason::NeedsSmm);
    }
    Ok(())
}

fn check_pair(
    code: &FirmwareFile,
    vars: &FirmwareFile,
    request: &FirmwareRequest<'_>,
) -> Result<UefiFirmware, RejectionReason> {
    if code.format != vars.format {
        return Err(RejectionReason::MixedFormats {
            code: code.format,
            vars_template: vars.format,
        });
    }
    if request.raw_only && code.format != FlashFormat::Raw {
        return Err(RejectionReason::Format { found: code.format });
    }
    let (code_bytes, vars_bytes) = (flash_bytes(code)?, flash_bytes(vars)?);
    let sizes = [(code, code_bytes), (vars, vars_bytes)];
    match request.architecture {
        VmArchitecture::Aarch64 => check_virt_flash(&sizes)?,
        VmArchitecture::X86_64 => check_pc_flash(&sizes)?,
    }
    Ok(UefiFirmware {
        code: code.path.clone(),
        vars_template: vars.path.clone(),
        format: code.format,
    })
}

fn flash_bytes(file: &FirmwareFile) -> Result<u64, RejectionReason> {
    match &file.state {
        FlashState::Present { flash_bytes } => Ok(*flash_bytes),
        FlashState::Unusable { reason } => Err(RejectionReason::File {
            path: file.path.clone(),
            reason: reason.clone(),
        }),
    }
}

/// Why code of this size can no longer be mapped beside the variable store that a guest has.
#[cfg(feature = "kvm")]
pub(in crate::modules::kvm) fn code_size_problem(
    architecture: VmArchitecture,
    bytes: u64,
) -> Option<String> {
    let (fits, expected) = match architecture {
        VmArchitecture::Aarch64 => (bytes == VIRT_FLASH_BYTES, VIRT_FLASH_BYTES.to_string()),
        VmArchitecture::X86_64 => (
            bytes > 0 && bytes.is_multiple_of(PC_FLASH_BLOCK_BYTES) && bytes < PC_FLASH_LIMIT_BYTES,
            format!("a multiple of {PC_FLASH_BLOCK_BYTES} below {PC_FLASH_LIMIT_BYTES}"),
        ),
    };
    (!fits).then(|| format!("has {bytes} bytes (expected {expected})"))
}

fn check_virt_flash(sizes: &[(&FirmwareFile, u64)]) -> Result<(), RejectionReason> {
    match sizes.iter().find(|(_, bytes)| *bytes != VIRT_FLASH_BYTES) {
        Some((file, bytes)) => Err(RejectionReason::ChipSize {
            path: file.path.clone(),
            bytes: *bytes,
            expected: VIRT_FLASH_BYTES,
        }),
        None => Ok(()),
    }
}

fn check_pc_flash(sizes: &[(&FirmwareFile, u64)]) -> Result<(), RejectionReason> {
    let uneven = |bytes: u64| bytes == 0 || !bytes.is_multiple_of(PC_FLASH_BLOCK_BYTES);
    if let Some((file, bytes)) = sizes.iter().find(|(_, bytes)| uneven(*bytes)) {
        return Err(RejectionReason::BlockSize {
            path: file.path.clone(),
            bytes: *bytes,
            block: PC_FLASH_BLOCK_BYTES,
        });
    }
    let bytes = sizes
        .iter()
        .fold(0_u64, |sum, (_, b)| sum.saturating_add(*b));
    if bytes > PC_FLASH_LIMIT_BYTES {
        return Err(RejectionReason::TotalSize {
            bytes,
            limit: PC_FLASH_LIMIT_BYTES,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
