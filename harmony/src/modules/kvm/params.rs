//! Resolving what the caller wants and what the host has into every machine knob.
//!
//! Pure: the same inputs give the same parameters on every machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::topology::virtualization::{AcceleratorChoice, VmArchitecture};
use crate::modules::host::{HostFacts, KvmProof, QemuVersion};

use super::error::KvmError;
use super::firmware::AarchFirmware;
use super::types::VmConfig;

/// How a guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the host's CPU.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// libvirt's `<domain type>`.
    pub fn domain_type(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "qemu",
        }
    }
}

/// The guest's CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuModel {
    /// A named model close to the host's, which can be migrated (x86_64 under KVM).
    HostModel,
    /// The host's CPU as it is (aarch64 under KVM).
    HostPassthrough,
    /// Everything that QEMU can emulate. For aarch64 with QEMU 10.0 and machine `virt-10.0` or newer,
    /// where pointer authentication is cheap.
    Maximum,
    /// The same without pointer authentication: on older QEMU it would be computed by QARMA5, which
    /// more than doubles the boot time under TCG, and libvirt has no name for the cheap algorithm.
    MaximumWithoutPointerAuthentication,
}

/// How the guest finds its boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, built into QEMU.
    Bios,
    /// UEFI from a pair of pflash images; the variables are copied for each VM.
    Uefi(AarchFirmware),
}

/// Every knob that depends on the architecture and the host, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainXmlParams {
    /// The guest's architecture.
    pub arch: VmArchitecture,
    /// KVM or TCG.
    pub accelerator: Accelerator,
    /// The versioned machine type, for example `virt-10.0`.
    pub machine: String,
    /// The emulator's path.
    pub emulator: PathBuf,
    /// The CPU.
    pub cpu: CpuModel,
    /// The firmware.
    pub firmware: Firmware,
    /// What was decided against the caller's likely wish, for a log.
    pub warnings: Vec<String>,
}

/// The machine type to ask the host about, without a version.
pub fn machine_alias(architecture: VmArchitecture) -> &'static str {
    match architecture {
        VmArchitecture::X86_64 => "q35",
        VmArchitecture::Aarch64 => "virt",
    }
}

/// Chooses the accelerator: KVM only for a guest of the host's own architecture, and only when it was
/// proven to execute.
///
/// # Errors
/// [`KvmError::NoKvm`] when KVM was asked for and cannot be had.
pub fn resolve_accelerator(
    config: &VmConfig,
    host: &HostFacts,
) -> Result<(Accelerator, Option<String>), KvmError> {
    let architecture = config.architecture();
    let no_kvm = |reason: String| KvmError::NoKvm {
        architecture,
        reason,
    };
    let native = host.architecture == Some(architecture);
    match (config.accelerator(), native, &host.kvm) {
        (AcceleratorChoice::Tcg, ..) | (AcceleratorChoice::Auto, false, _) => {
            Ok((Accelerator::Tcg, None))
        }
        (_, true, KvmProof::Executes) => Ok((Accelerator::Kvm, None)),
        (AcceleratorChoice::Auto, true, KvmProof::Absent { .. }) => Ok((Accelerator::Tcg, None)),
        (AcceleratorChoice::Auto, true, KvmProof::Broken { reason }) => Ok((
            Accelerator::Tcg,
            Some(format!(
                "KVM is here but does not work, so TCG is used: {reason}"
            )),
        )),
        (AcceleratorChoice::Kvm, false, _) => {
            Err(no_kvm(format!("this host is {}", std::env::consts::ARCH)))
        }
        (
            AcceleratorChoice::Kvm,
            true,
            KvmProof::Absent { reason } | KvmProof::Broken { reason },
        ) => Err(no_kvm(reason.clone())),
    }
}

impl DomainXmlParams {
    /// Resolves them. `machine` is what [`machine_alias`] stands for on this host, and `firmware` is
    /// what was found for aarch64 guests.
    ///
    /// # Errors
    /// When the host has no emulator, no firmware or no KVM although it was asked for.
    pub fn resolve(
        config: &VmConfig,
        host: &HostFacts,
        machine: String,
        firmware: Option<AarchFirmware>,
    ) -> Result<Self, KvmError> {
        let arch = config.architecture();
        let emulator = host
            .emulators
            .get(&arch)
            .ok_or(KvmError::MissingEmulator { architecture: arch })?;
        let (accelerator, warning) = resolve_accelerator(config, host)?;
        let cpu = match (arch, accelerator) {
            (VmArchitecture::X86_64, Accelerator::Kvm) => CpuModel::HostModel,
            (VmArchitecture::Aarch64, Accelerator::Kvm) => CpuModel::HostPassthrough,
            (VmArchitecture::X86_64, Accelerator::Tcg) => CpuModel::Maximum,
            (VmArchitecture::Aarch64, Accelerator::Tcg) => {
                if signs_pointers_cheaply(emulator.version, &machine) {
                    CpuModel::Maximum
                } else {
                    CpuModel::MaximumWithoutPointerAuthentication
                }
            }
        };
        let firmware = match arch {
            VmArchitecture::X86_64 => Firmware::Bios,
            VmArchitecture::Aarch64 => {
                Firmware::Uefi(firmware.ok_or(KvmError::MissingFirmware {
                    rejected: Vec::new(),
                })?)
            }
        };
        let old = (arch == VmArchitecture::Aarch64 && accelerator == Accelerator::Tcg)
            .then(|| super::error::older_than_mttcg(emulator.version))
            .flatten();
        Ok(Self {
            arch,
            accelerator,
            machine,
            emulator: emulator.path.clone(),
            cpu,
            firmware,
            warnings: warning.into_iter().chain(old).collect(),
        })
    }
}

/// Whether CPU `max` of this QEMU on this machine type uses the implementation-defined algorithm.
fn signs_pointers_cheaply(qemu: QemuVersion, machine: &str) -> bool {
    let machine_version = machine
        .strip_prefix("virt-")
        .and_then(|v| v.split_once('.'))
        .and_then(|(major, minor)| {
            Some(QemuVersion {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        });
    qemu >= QemuVersion::IMPDEF_PAUTH
        && machine_version.is_some_and(|v| v >= QemuVersion::IMPDEF_PAUTH)
}

#[cfg(test)]
mod tests;
