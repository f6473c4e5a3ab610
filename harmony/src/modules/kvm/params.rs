//! Resolving what the caller wants and what the host can do into every knob of the machine.
//!
//! Pure: the same configuration and the same facts give the same parameters on every machine. Each knob is
//! resolved by one function and noted with its reason.

mod accelerator;
mod connections;
mod cpu;
mod decision;

use std::fmt;
use std::path::PathBuf;

use crate::domain::topology::virtualization::{
    Accelerator, ConsoleLog, FirmwareChoice, ShareDriver, VmArchitecture,
};
use crate::modules::host::{
    DomainCapabilities, EmulatorFact, HostFacts, LibvirtFacts, LibvirtVersion, older_than_mttcg,
};

use super::error::KvmError;
use super::firmware::{FirmwareRequest, RejectedFirmware, UefiFirmware, select_firmware};
use super::types::{ShareConfig, Violation, Violations, VmConfig};

pub use accelerator::{AcceleratorDecision, choose_accelerator};
pub use cpu::{CpuModel, IMPDEF, QemuGlobal};
pub use decision::{Decision, Decisions};

/// How many empty PCIe root ports a guest gets, into which devices can be plugged while it runs.
pub const SPARE_ROOT_PORTS: u32 = 4;

/// GICv2 has interfaces for 8 processors (GIC Architecture Specification 2.0).
const GIC2_MAX_VCPUS: u32 = 8;

/// The translation cache that is asked for on a host with memory enough: with 512 MiB an emulated boot took
/// 47 to 51 s, with QEMU's default of an eighth of the host's memory, at most 1 GiB, 45 to 58 s; the bound
/// keeps several devices from growing into each other.
const TRANSLATION_CACHE_MIB: u64 = 512;

/// What libvirt has since which version (libvirt's own documentation of its domain format, and its news).
const TB_CACHE_SINCE: LibvirtVersion = LibvirtVersion::new(8, 0);
const QCOW2_FIRMWARE_SINCE: LibvirtVersion = LibvirtVersion::new(9, 2);

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
        let translation_cache_mib = resolution.translation_cache(accelerator, host);
        let firmware = resolution.firmware(config, host, &machine);
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

/// What a resolution gathers on its way: one function a knob.
#[derive(Default)]
struct Resolution {
    decisions: Decisions,
    warnings: Vec<String>,
    violations: Violations,
    firmware_rejected: Vec<RejectedFirmware>,
}

impl Resolution {
    fn accelerator(
        &mut self,
        config: &VmConfig,
        host: &HostFacts,
    ) -> Result<Accelerator, KvmError> {
        let (guest, asked) = (config.architecture(), config.accelerator());
        let choice = choose_accelerator(guest, asked, config.cpu(), host)?;
        self.warnings.extend(choice.warning);
        Ok(self
            .decisions
            .note("accelerator", choice.accelerator, choice.reason))
    }

    fn emulator(
        &mut self,
        arch: VmArchitecture,
        host: &HostFacts,
    ) -> Result<(PathBuf, crate::modules::host::QemuVersion), KvmError> {
        match host.emulators.get(arch.as_str()) {
            None => Err(KvmError::MissingEmulator { architecture: arch }),
            Some(EmulatorFact::Broken { path, said }) => Err(KvmError::BrokenEmulator {
                path: path.clone(),
                said: said.clone(),
            }),
            Some(EmulatorFact::Usable { path, version }) => {
                let reason = format!("emulates {arch}; QEMU {version}");
                self.decisions.note("emulator", path.display(), reason);
                Ok((path.clone(), *version))
            }
        }
    }

    fn machine(&mut self, config: &VmConfig, capabilities: &DomainCapabilities) -> String {
        let newest = &capabilities.machine;
        let (machine, reason) = match config.machine() {
            Some(machine) => (machine, "asked for".to_owned()),
            None => {
                let reason = "the newest that this QEMU has; a version, so that the guest's hardware stays as it is when QEMU is renewed";
                (newest.as_str(), reason.to_owned())
            }
        };
        self.decisions.note("machine", machine.to_owned(), reason)
    }

    fn cpu(&mut self, question: &cpu::Question<'_>) -> Option<(CpuModel, Option<QemuGlobal>)> {
        let choice = self.violations.keep(cpu::choose(question))?;
        self.warnings.extend(choice.warning);
        let model = self.decisions.note("cpu", choice.model, choice.reason);
        if let Some(global) = choice.global {
            let reason = "libvirt has no name for it, so it is passed to QEMU as it is";
            self.decisions.note("qemu -global", global, reason);
        }
        Some((model, choice.global))
    }

    fn gic(
        &mut self,
        arch: VmArchitecture,
        vcpus: u32,
        capabilities: &DomainCapabilities,
    ) -> Option<u8> {
        if arch != VmArchitecture::Aarch64 {
            return None;
        }
        let newest = capabilities.gic_versions.iter().copied().max();
        let (version, reason) = match newest {
            Some(version @ 3..) => (version.min(3), "has no limit of 8 vCPUs, as GICv2 has"),
            Some(version) => (version, "the newest that this host's KVM has"),
            None => (
                3,
                "libvirt does not say which there are; 3 has no limit of 8 vCPUs",
            ),
        };
        self.violations
            .require(version > 2 || vcpus <= GIC2_MAX_VCPUS, || {
                let expected = format!("1 to {GIC2_MAX_VCPUS} with the interrupt controller GICv2, the only one that this host has for guests");
                Violation::new("vcpus", vcpus, expected)
            });
        Some(self.decisions.note("gic", version, reason))
    }

    fn translation_cache(&mut self, accelerator: Accelerator, host: &HostFacts) -> Option<u64> {
        if accelerator == Accelerator::Kvm {
            return None;
        }
        if host.libvirt_version().is_none_or(|v| v < TB_CACHE_SINCE) {
            let reason = format!("libvirt can say it since {TB_CACHE_SINCE}");
            self.decisions
                .note("translation cache", "QEMU's default", reason);
            return None;
        }
        let eighth = host.memory_mib / 8;
        let (mib, reason) = if eighth < TRANSLATION_CACHE_MIB {
            (eighth.max(32), "an eighth of the host's memory")
        } else {
            (TRANSLATION_CACHE_MIB, "as fast as more, and bounded")
        };
        self.decisions
            .note("translation cache", format!("{mib} MiB"), reason);
        Some(mib)
    }

    fn firmware(
        &mut self,
        config: &VmConfig,
        host: &HostFacts,
        machine: &str,
    ) -> Result<Firmware, KvmError> {
        let architecture = config.architecture();
        let bios = match (config.firmware(), architecture) {
            (FirmwareChoice::Bios, _) => Some("asked for"),
            (FirmwareChoice::Auto, VmArchitecture::X86_64) => Some("part of QEMU"),
            (FirmwareChoice::Auto, VmArchitecture::Aarch64) | (FirmwareChoice::Uefi, _) => None,
        };
        if let Some(reason) = bios {
            return Ok(self.decisions.note("firmware", Firmware::Bios, reason));
        }
        let request = FirmwareRequest {
            architecture,
            machine,
            secure_boot: false,
            enrolled_keys: false,
            raw_only: host
                .libvirt_version()
                .is_none_or(|v| v < QCOW2_FIRMWARE_SINCE),
        };
        let selection = select_firmware(&host.firmware, &request).map_err(|rejected| {
            KvmError::MissingFirmware {
                architecture,
                rejected,
            }
        })?;
        let reason = format!("from {}", selection.origin.display());
        self.firmware_rejected = selection.rejected;
        let firmware = Firmware::Uefi(selection.firmware);
        Ok(self.decisions.note("firmware", firmware, reason))
    }

    fn serial_port(&mut self, arch: VmArchitecture, console: &ConsoleLog) -> SerialPort {
        let port = match arch {
            VmArchitecture::X86_64 => SerialPort::Isa,
            VmArchitecture::Aarch64 => SerialPort::Pl011,
        };
        let log = match console {
            ConsoleLog::Managed => "logged among the VM's own files".to_owned(),
            ConsoleLog::File { path } => format!("logged to {}", path.display()),
            ConsoleLog::Discarded => "not logged, as asked for".to_owned(),
        };
        self.decisions.note("console", port.device(), log);
        port
    }

    /// What the host has less of than the caller wants.
    fn bounds(&mut self, config: &VmConfig, host: &HostFacts, capabilities: &DomainCapabilities) {
        let (memory, max_memory) = (config.memory_mib(), host.memory_mib);
        self.violations
            .require(memory <= max_memory || config.memory_overcommit(), || {
                let expected = format!("at most {max_memory} MiB, which is what this host has");
                Violation::new("memory_mib", memory, expected)
                    .fix("ask for less, or set memory_overcommit")
            });
        let (vcpus, max_vcpus) = (config.vcpus(), capabilities.max_vcpus);
        self.violations.require(vcpus <= max_vcpus, || {
            let machine = &capabilities.machine;
            Violation::new("vcpus", vcpus, format!("1 to {max_vcpus} on {machine}"))
        });
        self.decisions.note(
            "memory",
            format!("{memory} MiB"),
            format!("asked for, of {max_memory} MiB"),
        );
        let count = host.cpu.count;
        self.decisions
            .note("vcpus", vcpus, format!("asked for, on {count} host CPUs"));
    }

    fn shares(&mut self, shares: &[ShareConfig], host: &HostFacts) -> Vec<ShareDriver> {
        let mut resolved = Vec::with_capacity(shares.len());
        for (place, share) in shares.iter().enumerate() {
            let choice = connections::choose_share_driver(place, share, host);
            if let Some((driver, reason)) = self.violations.keep(choice) {
                let reason = format!("{}: {reason}", share.tag);
                resolved.push(self.decisions.note("share", driver, reason));
            }
        }
        resolved
    }

    fn networks(&mut self, config: &VmConfig, host: &HostFacts, capabilities: &DomainCapabilities) {
        for (place, card) in config.networks().iter().enumerate() {
            let checked = connections::check_network(place, &card.network, capabilities, host);
            if let Some(reason) = self.violations.keep(checked) {
                self.decisions.note("network", &card.network, reason);
            }
        }
        if config.networks().is_empty() {
            let reason = "asked for; the guest cannot be reached over a network";
            self.decisions.note("network", "none", reason);
        }
    }
}
