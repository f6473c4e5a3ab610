//! The domain XML document: typed elements, one small function for each part.
//!
//! Pure and total: identity, ports and paths are inputs, and nothing is looked up here.

mod devices;
#[cfg(feature = "kvm")]
mod link;

use crate::domain::topology::virtualization::{Accelerator, ShareDriver, VmArchitecture};
use crate::modules::host::firmware::FlashFormat;

use super::element::Element;
use super::error::KvmError;
use super::params::{CpuModel, DomainXmlParams, Firmware, QemuGlobal};
use super::placement::Placement;
use super::record::{NAMESPACE, record_text};
use super::types::{SerialNumber, VmConfig};

#[cfg(feature = "kvm")]
pub(super) use devices::{
    DiskTarget, data_disk, disk_alias, interface, network_alias, plugged_card, plugged_disk,
};
#[cfg(feature = "kvm")]
pub(super) use link::{LinkState, cards_with_link};

/// The namespace of what libvirt passes to QEMU as it is.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// The domain XML of a VM.
///
/// # Errors
/// Only [`KvmError::Internal`], when a document cannot be serialised.
pub fn domain_xml(
    config: &VmConfig,
    params: &DomainXmlParams,
    placement: &Placement,
) -> Result<String, KvmError> {
    let internal = |what: String| KvmError::Internal { what };
    let json = record_text(config, params, placement)?;
    let domain = Element::new("domain").attr("type", domain_type(params.accelerator));
    let domain = if params.qemu_globals.is_empty() {
        domain
    } else {
        domain.attr("xmlns:qemu", QEMU_NAMESPACE)
    };
    domain
        .child(Element::text("name", config.name()))
        .child(Element::text("uuid", placement.uuid))
        .child(metadata(&json))
        .child(Element::text("memory", config.memory_mib()).attr("unit", "MiB"))
        .children(memory_backing(params))
        .child(Element::text("vcpu", config.vcpus()).attr("placement", "static"))
        .child(sysinfo(&placement.serial))
        .child(os(config, params, placement))
        .child(features(params))
        .child(cpu(&params.cpu))
        .child(clock(params))
        .child(Element::text("on_poweroff", "destroy"))
        .child(Element::text("on_reboot", "restart"))
        .child(Element::text("on_crash", "destroy"))
        .child(devices::devices(config, params, placement))
        .children(qemu_command_line(&params.qemu_globals))
        .to_document()
        .map_err(|e| internal(e.to_string()))
}

/// libvirt's `<domain type>`.
pub(super) fn domain_type(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    }
}

fn metadata(record: &str) -> Element {
    Element::new("metadata")
        .child(Element::text("harmony:vm", record).attr("xmlns:harmony", NAMESPACE))
}

/// virtiofsd serves a guest from the guest's own memory, which must then be shared.
fn memory_backing(params: &DomainXmlParams) -> Option<Element> {
    params
        .share_drivers
        .contains(&ShareDriver::Virtiofs)
        .then(|| {
            Element::new("memoryBacking")
                .child(Element::new("source").attr("type", "memfd"))
                .child(Element::new("access").attr("mode", "shared"))
        })
}

/// The serial number, which a guest reads as `/sys/class/dmi/id/product_serial`.
fn sysinfo(serial: &SerialNumber) -> Element {
    let entry = Element::text("entry", serial).attr("name", "serial");
    Element::new("sysinfo")
        .attr("type", "smbios")
        .child(Element::new("system").child(entry))
}

fn os(config: &VmConfig, params: &DomainXmlParams, placement: &Placement) -> Element {
    let kind = Element::text("type", "hvm")
        .attr("arch", params.arch.as_str())
        .attr_of("machine", &params.machine);
    let os = Element::new("os").child(kind);
    let os = match &params.firmware {
        Firmware::Bios => os,
        Firmware::Uefi(firmware) => {
            let loader = Element::text("loader", firmware.code.display())
                .attr("readonly", "yes")
                .attr("type", "pflash");
            let nvram = Element::text("nvram", placement.nvram.display());
            os.child(flash_format(loader, firmware.format))
                .child(flash_format(nvram, firmware.format))
        }
    };
    let os = match (&placement.kernel, config.kernel()) {
        (Some((image, initrd)), Some(kernel)) => os
            .child(Element::text("kernel", image.display()))
            .children(
                initrd
                    .as_ref()
                    .map(|i| Element::text("initrd", i.display())),
            )
            .child(Element::text("cmdline", kernel.arguments.join(" "))),
        _ => os,
    };
    os.children(params.boot_menu_wait_ms.map(|milliseconds| {
        Element::new("bootmenu")
            .attr("enable", "yes")
            .attr_of("timeout", milliseconds)
    }))
    .child(Element::new("smbios").attr("mode", "sysinfo"))
}

/// The format where it is not libvirt's default: its schema before 9.2 knows no other.
fn flash_format(element: Element, format: FlashFormat) -> Element {
    match format {
        FlashFormat::Raw => element,
        FlashFormat::Qcow2 => element.attr("format", format.as_str()),
    }
}

fn features(params: &DomainXmlParams) -> Element {
    let features = Element::new("features");
    let features = match params.arch {
        VmArchitecture::X86_64 => features
            .child(Element::new("acpi"))
            .child(Element::new("apic")),
        // Without ACPI tables the firmware hands the guest a complete device tree, as the ARM VM System
        // Specification asks and as the real device has.
        VmArchitecture::Aarch64 => features,
    };
    features
        .children(
            params
                .gic
                .map(|v| Element::new("gic").attr_of("version", v)),
        )
        .children(params.translation_cache_mib.map(|mib| {
            Element::new("tcg").child(Element::text("tb-cache", mib).attr("unit", "MiB"))
        }))
}

fn cpu(model: &CpuModel) -> Element {
    let cpu = Element::new("cpu");
    let custom = |model: &str| {
        Element::new("cpu")
            .attr("mode", "custom")
            .attr("match", "exact")
            .attr("check", "none")
            .child(Element::text("model", model).attr("fallback", "forbid"))
    };
    match model {
        CpuModel::HostModel => cpu.attr("mode", "host-model"),
        CpuModel::HostPassthrough => cpu.attr("mode", "host-passthrough"),
        CpuModel::Maximum => cpu.attr("mode", "maximum"),
        CpuModel::MaximumWithoutPointerAuthentication => custom("max").child(
            Element::new("feature")
                .attr("policy", "disable")
                .attr("name", "pauth"),
        ),
        CpuModel::Named(model) => custom(model),
    }
}

/// The real-time clock runs in UTC. A PC's periodic timer catches up on ticks that the host was too busy to
/// deliver.
fn clock(params: &DomainXmlParams) -> Element {
    let clock = Element::new("clock").attr("offset", "utc");
    let timer = |name| Element::new("timer").attr("name", name);
    match params.arch {
        VmArchitecture::X86_64 => clock
            .child(timer("rtc").attr("tickpolicy", "catchup"))
            .child(timer("hpet").attr("present", "no")),
        VmArchitecture::Aarch64 => clock,
    }
}

fn qemu_command_line(globals: &[QemuGlobal]) -> Option<Element> {
    let argument = |value: String| Element::new("qemu:arg").attr("value", &value);
    let arguments = globals
        .iter()
        .flat_map(|global| [argument("-global".to_owned()), argument(global.to_string())]);
    (!globals.is_empty()).then(|| Element::new("qemu:commandline").children(arguments))
}
