//! What a resolution gathers on its way: one function a knob.

use std::path::PathBuf;

use crate::domain::topology::virtualization::{
    Accelerator, ConsoleLog, FirmwareChoice, ShareDriver, VmArchitecture, VmNetwork,
};
use crate::modules::host::{
    DomainCapabilities, EmulatorFact, HostFacts, LibvirtVersion, QemuVersion,
};
use crate::modules::kvm::error::KvmError;
use crate::modules::kvm::firmware_selection::{
    FirmwareRequest, FirmwareSelection, RejectedFirmware, select_firmware,
};
use crate::modules::kvm::types::{ShareConfig, Violation, Violations, VmConfig};

use super::accelerator::choose_accelerator;
use super::connections::{check_network, choose_share_driver};
use super::cpu::{self, CpuModel, QemuGlobal};
use super::decision::Decisions;
use super::{Firmware, SerialPort};

/// GICv2 has interfaces for 8 processors (GIC Architecture Specification 2.0).
const GIC2_MAX_VCPUS: u32 = 8;

/// The translation cache that is asked for on a host with memory enough: with 512 MiB an emulated boot took
/// 47 to 51 s, with QEMU's default of an eighth of the host's memory, at most 1 GiB, 45 to 58 s; the bound
/// keeps several devices from growing into each other.
const TRANSLATION_CACHE_MIB: u64 = 512;

/// What libvirt has since which version (libvirt's own documentation of its domain format, and its news).
const TB_CACHE_SINCE: LibvirtVersion = LibvirtVersion::new(8, 0);
const QCOW2_FIRMWARE_SINCE: LibvirtVersion = LibvirtVersion::new(9, 2);

/// The UEFI firmware of a host for a machine: without Secure Boot, and of a format that its libvirt knows.
///
/// # Errors
/// [`KvmError::MissingFirmware`] with each candidate and why it was not taken.
pub fn select_host_firmware(
    architecture: VmArchitecture,
    machine: &str,
    host: &HostFacts,
) -> Result<FirmwareSelection, KvmError> {
    let libvirt = host.libvirt_version();
    let request = FirmwareRequest {
        architecture,
        machine,
        secure_boot: false,
        enrolled_keys: false,
        raw_only: libvirt.is_none_or(|version| version < QCOW2_FIRMWARE_SINCE),
    };
    select_firmware(&host.firmware, &request).map_err(|rejected| KvmError::MissingFirmware {
        architecture,
        rejected,
    })
}

/// The decisions so far, and what speaks against them.
#[derive(Default)]
pub(super) struct Resolution {
    pub(super) decisions: Decisions,
    pub(super) warnings: Vec<String>,
    pub(super) violations: Violations,
    pub(super) firmware_rejected: Vec<RejectedFirmware>,
}

impl Resolution {
    pub(super) fn accelerator(
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

    pub(super) fn emulator(
        &mut self,
        arch: VmArchitecture,
        host: &HostFacts,
    ) -> Result<(PathBuf, QemuVersion), KvmError> {
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

    pub(super) fn machine(
        &mut self,
        config: &VmConfig,
        capabilities: &DomainCapabilities,
    ) -> String {
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

    pub(super) fn cpu(
        &mut self,
        question: &cpu::Question<'_>,
    ) -> Option<(CpuModel, Option<QemuGlobal>)> {
        let choice = self.violations.keep(cpu::choose(question))?;
        self.warnings.extend(choice.warning);
        let model = self.decisions.note("cpu", choice.model, choice.reason);
        if let Some(global) = choice.global {
            let reason = "libvirt has no name for it, so it is passed to QEMU as it is";
            self.decisions.note("qemu -global", global, reason);
        }
        Some((model, choice.global))
    }

    pub(super) fn gic(
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

    /// Nothing is said to QEMU of its translator's threads: its default is the right one.
    pub(super) fn translator_threads(
        &mut self,
        arch: VmArchitecture,
        accelerator: Accelerator,
        host: &HostFacts,
    ) {
        if accelerator == Accelerator::Kvm {
            return;
        }
        // QEMU translates on one thread where the guest's memory model is stronger than the host's.
        let stronger =
            (arch, host.architecture) == (VmArchitecture::X86_64, Some(VmArchitecture::Aarch64));
        let (value, reason) = if stronger {
            (
                "one",
                "QEMU's default where the guest's memory model is stronger than the host's",
            )
        } else {
            (
                "one a vCPU",
                "multi-threaded TCG is QEMU's default for this guest on this host",
            )
        };
        self.decisions.note("translator threads", value, reason);
    }

    pub(super) fn clock(&mut self, arch: VmArchitecture) {
        let reason = match arch {
            VmArchitecture::X86_64 => "the PC's clock catches up on ticks that were late",
            VmArchitecture::Aarch64 => "Arm's PL031, which is part of the machine",
        };
        self.decisions.note("clock", "utc", reason);
    }

    pub(super) fn translation_cache(
        &mut self,
        accelerator: Accelerator,
        host: &HostFacts,
    ) -> Option<u64> {
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

    pub(super) fn firmware(
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
        let selection = select_host_firmware(architecture, machine, host)?;
        let reason = format!("from {}", selection.origin.display());
        self.firmware_rejected = selection.rejected;
        let firmware = Firmware::Uefi(selection.firmware);
        Ok(self.decisions.note("firmware", firmware, reason))
    }

    /// The PC's firmware does not wait.
    pub(super) fn boot_menu_wait(&mut self, arch: VmArchitecture) -> Option<u16> {
        (arch == VmArchitecture::Aarch64).then(|| {
            self.decisions.note(
                "firmware's wait",
                "0 s",
                "nobody is there to press a key for its menu, for which it waits 5 s",
            );
            0
        })
    }

    pub(super) fn serial_port(&mut self, arch: VmArchitecture, console: &ConsoleLog) -> SerialPort {
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
    pub(super) fn bounds(
        &mut self,
        config: &VmConfig,
        host: &HostFacts,
        capabilities: &DomainCapabilities,
    ) {
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

    pub(super) fn shares(&mut self, shares: &[ShareConfig], host: &HostFacts) -> Vec<ShareDriver> {
        let mut resolved = Vec::with_capacity(shares.len());
        for (place, share) in shares.iter().enumerate() {
            let choice = choose_share_driver(place, share, host);
            if let Some((driver, reason)) = self.violations.keep(choice) {
                let reason = format!("{}: {reason}", share.tag);
                resolved.push(self.decisions.note("share", driver, reason));
            }
        }
        resolved
    }

    pub(super) fn networks(
        &mut self,
        config: &VmConfig,
        host: &HostFacts,
        capabilities: &DomainCapabilities,
    ) {
        for (place, card) in config.networks().iter().enumerate() {
            let field = format!("networks[{place}].network");
            let checked = check_network(&field, &card.network, Some(capabilities), host);
            if let Some(mut reason) = self.violations.keep(checked) {
                if place == 0 && matches!(card.network, VmNetwork::User { .. }) {
                    reason.push_str("; SSH gets a forwarded port of 127.0.0.1");
                }
                self.decisions.note("network", &card.network, reason);
            }
        }
        if config.networks().is_empty() {
            let reason = "asked for; the guest cannot be reached over a network";
            self.decisions.note("network", "none", reason);
        }
    }
}
