//! The domain XML document: typed elements, one small function for each part.
//!
//! Pure and total: UUID, MAC address, port and paths are inputs, and nothing is looked up here.

use std::path::{Path, PathBuf};

use crate::domain::topology::virtualization::{VmArchitecture, VmNetwork};

use super::element::Element;
use super::error::KvmError;
use super::params::{Accelerator, CpuModel, DomainXmlParams, Firmware};
use super::record::{DomainRecord, NAMESPACE};
use super::types::{MacAddress, VmConfig};

/// What is particular to one VM on one host: its identity and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The domain's UUID.
    pub uuid: uuid::Uuid,
    /// The network card's address.
    pub mac: MacAddress,
    /// The guest's disk, a qcow2 overlay on the image.
    pub overlay: PathBuf,
    /// The cloud-init seed, a raw image.
    pub seed: Option<PathBuf>,
    /// The UEFI variable store; not used with BIOS.
    pub nvram: PathBuf,
    /// Where the serial console is logged.
    pub console_log: PathBuf,
    /// The port of 127.0.0.1 for SSH, with user networking.
    pub ssh_port: Option<u16>,
}

/// How many empty PCIe root ports a guest gets, into which devices can be plugged while it runs.
const SPARE_ROOT_PORTS: usize = 4;

/// The domain XML of a VM.
///
/// # Errors
/// Only [`KvmError::Internal`], when a document cannot be serialised.
pub fn domain_xml(
    config: &VmConfig,
    params: &DomainXmlParams,
    placement: &Placement,
) -> Result<String, KvmError> {
    let record = DomainRecord {
        spec: config.to_spec(),
        uuid: placement.uuid,
        mac: placement.mac,
        accelerator: params.accelerator,
        ssh_port: placement.ssh_port,
    };
    let internal = |what: String| KvmError::Internal { what };
    let json = serde_json::to_string(&record).map_err(|e| internal(e.to_string()))?;
    Element::new("domain")
        .attr("type", params.accelerator.domain_type())
        .child(Element::text("name", config.name()))
        .child(Element::text("uuid", placement.uuid))
        .child(metadata(&json))
        .child(Element::text("memory", config.memory_mib()).attr("unit", "MiB"))
        .child(Element::text("vcpu", config.vcpus()).attr("placement", "static"))
        .child(os(params, placement))
        .child(features(params))
        .child(cpu(params.cpu))
        .child(Element::new("clock").attr("offset", "utc"))
        .child(Element::text("on_poweroff", "destroy"))
        .child(Element::text("on_reboot", "restart"))
        .child(Element::text("on_crash", "destroy"))
        .child(devices(config, params, placement))
        .to_document()
        .map_err(|e| internal(e.to_string()))
}

fn metadata(record: &str) -> Element {
    Element::new("metadata")
        .child(Element::text("harmony:vm", record).attr("xmlns:harmony", NAMESPACE))
}

fn os(params: &DomainXmlParams, placement: &Placement) -> Element {
    let kind = Element::text("type", "hvm")
        .attr("arch", params.arch)
        .attr("machine", &params.machine);
    let os = Element::new("os").child(kind);
    match &params.firmware {
        Firmware::Bios => os,
        Firmware::Uefi(firmware) => os
            .child(
                Element::text("loader", firmware.code.display())
                    .attr("readonly", "yes")
                    .attr("type", "pflash")
                    .attr("format", "raw"),
            )
            .child(Element::text("nvram", placement.nvram.display()).attr("format", "raw")),
    }
}

fn features(params: &DomainXmlParams) -> Element {
    let features = Element::new("features");
    match params.arch {
        VmArchitecture::X86_64 => features
            .child(Element::new("acpi"))
            .child(Element::new("apic")),
        // Without ACPI tables the firmware hands the guest a complete device tree, as the ARM VM System
        // Specification asks and as the real device has. GICv3 has no limit of 8 vCPUs.
        VmArchitecture::Aarch64 => features.child(gic(params.accelerator)),
    }
}

fn gic(accelerator: Accelerator) -> Element {
    match accelerator {
        Accelerator::Tcg => Element::new("gic").attr("version", "3"),
        // KVM guests can only have the version of the host's own controller.
        Accelerator::Kvm => Element::new("gic").attr("version", "host"),
    }
}

fn cpu(model: CpuModel) -> Element {
    let cpu = Element::new("cpu");
    match model {
        CpuModel::HostModel => cpu.attr("mode", "host-model"),
        CpuModel::HostPassthrough => cpu.attr("mode", "host-passthrough"),
        CpuModel::Maximum => cpu.attr("mode", "maximum"),
        CpuModel::MaximumWithoutPointerAuthentication => cpu
            .attr("mode", "custom")
            .attr("match", "exact")
            .attr("check", "none")
            .child(Element::text("model", "max").attr("fallback", "forbid"))
            .child(
                Element::new("feature")
                    .attr("policy", "disable")
                    .attr("name", "pauth"),
            ),
    }
}

fn devices(config: &VmConfig, params: &DomainXmlParams, placement: &Placement) -> Element {
    let root_ports = (0..SPARE_ROOT_PORTS).map(|_| {
        Element::new("controller")
            .attr("type", "pci")
            .attr("model", "pcie-root-port")
    });
    Element::new("devices")
        .child(Element::text("emulator", params.emulator.display()))
        .child(system_disk(placement))
        .children(placement.seed.as_deref().map(seed_disk))
        .child(
            Element::new("controller")
                .attr("type", "pci")
                .attr("model", "pcie-root"),
        )
        .children(root_ports)
        .child(
            Element::new("controller")
                .attr("type", "usb")
                .attr("model", "none"),
        )
        .child(interface(config.network(), placement))
        .child(serial(placement))
        .child(guest_agent_channel())
        .child(Element::new("audio").attr("id", "1").attr("type", "none"))
        .child(Element::new("memballoon").attr("model", "none"))
        .child(random_numbers())
}

fn system_disk(placement: &Placement) -> Element {
    let driver = driver("qcow2").attr("discard", "unmap");
    virtio_disk(driver, &placement.overlay, "vda").child(Element::new("boot").attr("order", "1"))
}

fn seed_disk(seed: &Path) -> Element {
    virtio_disk(driver("raw"), seed, "vdb").child(Element::new("readonly"))
}

fn driver(format: &str) -> Element {
    Element::new("driver")
        .attr("name", "qemu")
        .attr("type", format)
}

fn virtio_disk(driver: Element, file: &Path, target: &str) -> Element {
    Element::new("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(driver)
        .child(Element::new("source").attr("file", file.display()))
        .child(
            Element::new("target")
                .attr("dev", target)
                .attr("bus", "virtio"),
        )
}

fn interface(network: &VmNetwork, placement: &Placement) -> Element {
    let mac = Element::new("mac").attr("address", placement.mac);
    let model = Element::new("model").attr("type", "virtio");
    match network {
        VmNetwork::User => Element::new("interface")
            .attr("type", "user")
            .child(mac)
            .child(model)
            .child(Element::new("backend").attr("type", "passt"))
            .children(placement.ssh_port.map(forwarded_ssh)),
        VmNetwork::Nat { network } => Element::new("interface")
            .attr("type", "network")
            .child(mac)
            .child(Element::new("source").attr("network", network))
            .child(model),
        VmNetwork::Bridge { name } => Element::new("interface")
            .attr("type", "bridge")
            .child(mac)
            .child(Element::new("source").attr("bridge", name))
            .child(model),
    }
}

fn forwarded_ssh(port: u16) -> Element {
    Element::new("portForward")
        .attr("proto", "tcp")
        .attr("address", "127.0.0.1")
        .child(Element::new("range").attr("start", port).attr("to", 22))
}

/// The first serial port (`ttyAMA0` or `ttyS0`), logged to a file that survives power cycles.
fn serial(placement: &Placement) -> Element {
    Element::new("serial").attr("type", "pty").child(
        Element::new("log")
            .attr("file", placement.console_log.display())
            .attr("append", "on"),
    )
}

fn guest_agent_channel() -> Element {
    Element::new("channel").attr("type", "unix").child(
        Element::new("target")
            .attr("type", "virtio")
            .attr("name", "org.qemu.guest_agent.0"),
    )
}

fn random_numbers() -> Element {
    Element::new("rng")
        .attr("model", "virtio")
        .child(Element::text("backend", "/dev/urandom").attr("model", "random"))
}
