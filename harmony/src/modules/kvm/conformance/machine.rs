//! The clauses that concern the machine, judged by its resolved parameters. Pure.

use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::inspect::{Clause, ClauseId, ConformanceReport, Level, Verdict};
use crate::modules::kvm::params::{DomainXmlParams, Firmware, SerialPort};

const MIN_GIC: u8 = 2;
const NO_UEFI: &str = "the machine has no UEFI firmware";

/// Judges a machine by what the specification asks of one.
///
/// What concerns Arm alone is left out for x86_64, and UEFI is then only recommended.
pub fn domain_conformance(params: &DomainXmlParams) -> ConformanceReport {
    let arm = params.arch == VmArchitecture::Aarch64;
    let uefi = match arm {
        true => Level::Must,
        false => Level::Should,
    };
    let mut clauses = vec![
        Clause::new(ClauseId::Uefi, uefi, firmware(params)),
        Clause::new(ClauseId::FirmwareOutside, Level::Should, with_uefi(params)),
        Clause::new(
            ClauseId::PersistentVariables,
            Level::Should,
            with_uefi(params),
        ),
        Clause::new(ClauseId::Rtc, uefi, rtc(params)),
    ];
    if arm {
        clauses.push(Clause::new(
            ClauseId::DeviceTree,
            Level::Must,
            device_tree(params),
        ));
    }
    clauses.push(Clause::new(
        ClauseId::SerialConsole,
        Level::Must,
        console(params),
    ));
    if arm {
        clauses.push(Clause::new(ClauseId::Gic, Level::Must, gic(params)));
        clauses.push(Clause::new(
            ClauseId::VirtualTimer,
            Level::Must,
            timer(params),
        ));
    }
    clauses.push(Clause::new(
        ClauseId::HotplugBus,
        Level::Should,
        hotplug(params),
    ));
    ConformanceReport {
        architecture: params.arch,
        clauses,
    }
}

fn firmware(params: &DomainXmlParams) -> Verdict {
    match &params.firmware {
        Firmware::Uefi(_) => Verdict::Pass,
        Firmware::Bios => Verdict::fail("BIOS", "UEFI"),
    }
}

/// Code and variables are pflash images of the host's: the code is shared, the variables are copied for each
/// machine into its own file.
fn with_uefi(params: &DomainXmlParams) -> Verdict {
    match &params.firmware {
        Firmware::Uefi(_) => Verdict::Pass,
        Firmware::Bios => Verdict::unknown(NO_UEFI),
    }
}

/// Whether the machine is QEMU's `virt`, which has a PL031, the generic timer and, without ACPI, hands a device
/// tree to its firmware.
fn is_virt(params: &DomainXmlParams) -> bool {
    params.machine == "virt" || params.machine.starts_with("virt-")
}

fn unknown_machine(params: &DomainXmlParams) -> Verdict {
    Verdict::unknown(format!(
        "what machine {} has is not known here",
        params.machine
    ))
}

fn rtc(params: &DomainXmlParams) -> Verdict {
    let known = match params.arch {
        VmArchitecture::Aarch64 => is_virt(params),
        // Every PC has its CMOS clock.
        VmArchitecture::X86_64 => true,
    };
    match known {
        true => Verdict::Pass,
        false => unknown_machine(params),
    }
}

fn device_tree(params: &DomainXmlParams) -> Verdict {
    match (&params.firmware, is_virt(params)) {
        (Firmware::Bios, _) => Verdict::unknown(NO_UEFI),
        (Firmware::Uefi(_), true) => Verdict::Pass,
        (Firmware::Uefi(_), false) => unknown_machine(params),
    }
}

fn console(params: &DomainXmlParams) -> Verdict {
    match (params.arch, params.serial_port) {
        (VmArchitecture::Aarch64, SerialPort::Pl011)
        | (VmArchitecture::X86_64, SerialPort::Isa) => Verdict::Pass,
        (VmArchitecture::Aarch64, SerialPort::Isa) => {
            Verdict::fail("an ISA serial port", "a pl011")
        }
        (VmArchitecture::X86_64, SerialPort::Pl011) => {
            Verdict::fail("a pl011", "an ISA serial port")
        }
    }
}

fn gic(params: &DomainXmlParams) -> Verdict {
    match params.gic {
        Some(version) if version >= MIN_GIC => Verdict::Pass,
        Some(version) => Verdict::fail(format!("GICv{version}"), "GICv2 or newer"),
        None => Verdict::unknown("the version is left to QEMU"),
    }
}

fn timer(params: &DomainXmlParams) -> Verdict {
    match is_virt(params) {
        true => Verdict::Pass,
        false => unknown_machine(params),
    }
}

fn hotplug(params: &DomainXmlParams) -> Verdict {
    match params.spare_root_ports {
        0 => Verdict::fail("no empty PCIe root port", "at least one"),
        _ => Verdict::Pass,
    }
}
