//! Resolving what the caller wants and what the host can do into every knob of the machine.
//!
//! Pure: the same configuration and the same facts give the same parameters on every machine. Each knob is
//! resolved by one function and noted with its reason.

mod accelerator;
mod connections;
mod cpu;
mod decision;
mod resolution;

use std::fmt;
use std::path::PathBuf;

use crate::domain::topology::virtualization::{Accelerator, ShareDriver, VmArchitecture};
use crate::modules::host::{DomainCapabilities, HostFacts, LibvirtFacts, older_than_mttcg};

use super::error::KvmError;
use super::firmware_selection::{RejectedFirmware, UefiFirmware};
use super::types::VmConfig;

pub use accelerator::{AcceleratorDecision, choose_accelerator};
#[cfg(feature = "kvm")]
pub(in crate::modules) use connections::check_network;
pub use cpu::{CpuModel, IMPDEF, QemuGlobal};
pub use decision::{Decision, Decisions};
use resolution::Resolution;
pub use resolution::select_host_firmware;

/// How many empty PCIe root ports a guest gets, into which devices can be plugged while it runs.
pub const SPARE_ROOT_PORTS: u32 = 4;

/// How the guest finds its boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, built into QEMU.
    Bios,
    /// UEFI from a pair of pflash images; the variables are copied for each VM.
    Uefi(UefiFirmware),
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("bios"),
            Self::Uefi(firmware) => {
                write!(f, "uefi {} ({})", firmware.code.display(), firmware.format)
            }
        }
    }
}

/// The first serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerialPort {
    /// Arm's UART, `ttyAMA0`.
    Pl011,
    /// The PC's UART, `ttyS0`.
    Isa,
}

impl SerialPort {
    /// The guest's name of it, for `console=`.
    pub fn device(self) -> &'static str {
        match self {
            Self::Pl011 => "ttyAMA0",
            Self::Isa => "ttyS0",
        }
    }
}

/// Every knob of the machine, resolved.
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
    /// What only QEMU's own command line can say.
    pub qemu_globals: Vec<QemuGlobal>,
    /// The version of Arm's interrupt controller.
    pub gic: Option<u8>,
    /// The size of TCG's translation cache in MiB; QEMU's default when none.
    pub translation_cache_mib: Option<u64>,
    /// The firmware.
    pub firmware: Firmware,
    /// How long the firmware waits for a key to its menu, in milliseconds; its default when none.
    pub boot_menu_wait_ms: Option<u16>,
    /// The first serial port.
    pub serial_port: SerialPort,
    /// Empty PCIe root ports.
    pub spare_root_ports: u32,
    /// How each shared directory crosses: one for each share, in their order, never `auto`.
    pub share_drivers: Vec<ShareDriver>,
    /// What was decided against the caller's likely wish, for a log.
    pub warnings: Vec<String>,
    /// Every knob with its reason.
    pub decisions: Decisions,
    /// Every firmware that was not taken, and why.
    pub firmware_rejected: Vec<RejectedFirmware>,
}

impl DomainXmlParams {
    /// Resolves them.
    ///
    /// # Errors
    /// [`KvmError::Invalid`] with everything in the configuration that this host cannot do; else the
    /// first thing that the host lacks: libvirt, an emulator, KVM although it was asked for, firmware.
    pub fn resolve(config: &VmConfig, host: &HostFacts) -> Result<Self, KvmError> {
        let mut resolution = Resolution::default();
        let arch = config.architecture();
        let accelerator = resolution.accelerator(config, host)?;
        let (emulator, version) = resolution.emulator(arch, host)?;
        let capabilities = capabilities(host, arch, accelerator)?;
        let machine = resolution.machine(config, capabilities);
        let cpu = resolution.cpu(&cpu::Question {
            profile: config.cpu(),
            accelerator,
            capabilities,
            qemu: version,
            libvirt: host.libvirt_version(),
            machine: &machine,
        });
        let gic = resolution.gic(arch, config.vcpus(), capabilities);
        resolution.translator_threads(arch, accelerator, host);
        resolution.clock(arch);
        let translation_cache_mib = resolution.translation_cache(accelerator, host);
        let firmware = resolution.firmware(config, host, &machine);
        let boot_menu_wait_ms = resolution.boot_menu_wait(arch);
        let serial_port = resolution.serial_port(arch, config.console());
        resolution.bounds(config, host, capabilities);
        let share_drivers = resolution.shares(config.shares(), host);
        resolution.networks(config, host, capabilities);
        let spare_root_ports = resolution.decisions.note(
            "root ports",
            SPARE_ROOT_PORTS,
            "so many devices can be plugged in while the guest runs",
        );
        let old = (arch, accelerator) == (VmArchitecture::Aarch64, Accelerator::Tcg);
        let old = old.then(|| older_than_mttcg(version)).flatten();
        resolution.warnings.extend(old);
        let (Some((cpu, globals)), true) = (cpu, resolution.violations.is_empty()) else {
            return Err(KvmError::Invalid {
                violations: resolution.violations.into_vec(),
            });
        };
        Ok(Self {
            arch,
            accelerator,
            machine,
            emulator,
            cpu,
            qemu_globals: globals.into_iter().collect(),
            gic,
            translation_cache_mib,
            firmware: firmware?,
            boot_menu_wait_ms,
            serial_port,
            spare_root_ports,
            share_drivers,
            warnings: resolution.warnings,
            decisions: resolution.decisions,
            firmware_rejected: resolution.firmware_rejected,
        })
    }
}

fn capabilities(
    host: &HostFacts,
    arch: VmArchitecture,
    accelerator: Accelerator,
) -> Result<&DomainCapabilities, KvmError> {
    host.capabilities(arch, accelerator)
        .ok_or_else(|| KvmError::NoCapabilities {
            architecture: arch,
            accelerator,
            reason: match &host.libvirt {
                LibvirtFacts::Unasked => "libvirt was not asked".to_owned(),
                LibvirtFacts::Silent { reason } => reason.clone(),
                LibvirtFacts::Answers { uri, .. } => format!("{uri} does not offer them"),
            },
        })
}
