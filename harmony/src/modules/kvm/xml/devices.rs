//! The devices of a domain.

use std::path::Path;

use crate::domain::topology::virtualization::{
    DiskHandle, NetworkHandle, PortForward, Protocol, ShareDriver, VmNetwork,
};
use crate::modules::image::format::DiskFormat;
use crate::modules::kvm::element::Element;
use crate::modules::kvm::params::{DomainXmlParams, SerialPort};
use crate::modules::kvm::placement::{PlacedDisk, Placement};
use crate::modules::kvm::types::{DiskConfig, MacAddress, ShareConfig, VmConfig};

pub(super) fn devices(
    config: &VmConfig,
    params: &DomainXmlParams,
    placement: &Placement,
) -> Element {
    let disks = config.disks().iter().zip(&placement.disks).enumerate();
    let disks = disks.map(|(place, (disk, file))| data_disk(disk, file, &DiskTarget::data(place)));
    let shares = config.shares().iter().zip(&params.share_drivers);
    Element::new("devices")
        .child(Element::text("emulator", params.emulator.display()))
        .child(system_disk(placement))
        .children(placement.seed.as_deref().map(seed_disk))
        .children(disks)
        .children(controllers(config, params, placement))
        .children(shares.map(|(share, driver)| filesystem(share, *driver)))
        .children(interfaces(config, placement))
        .child(serial(params.serial_port, placement))
        .child(guest_agent_channel())
        .child(Element::new("audio").attr("id", "1").attr("type", "none"))
        .child(Element::new("memballoon").attr("model", "none"))
        .child(random_numbers())
}

/// A root port for each device, and the spare ones: libvirt puts devices into the ports that there are, so
/// only what is beyond the devices stays empty.
fn controllers(config: &VmConfig, params: &DomainXmlParams, placement: &Placement) -> Vec<Element> {
    let pci = |model| {
        Element::new("controller")
            .attr("type", "pci")
            .attr("model", model)
    };
    // The system disk, the channel's virtio-serial controller and the source of random numbers.
    let fixed = 3;
    let devices = fixed
        + usize::from(placement.seed.is_some())
        + config.disks().len()
        + config.shares().len()
        + config.networks().len();
    let ports = devices + usize::try_from(params.spare_root_ports).unwrap_or(0);
    let usb = Element::new("controller")
        .attr("type", "usb")
        .attr("model", "none");
    let mut controllers = vec![pci("pcie-root")];
    controllers.extend((0..ports).map(|_| pci("pcie-root-port")));
    controllers.push(usb);
    controllers
}

/// The name by which libvirt tells disks apart: `vda`, `vdb`, …, `vdz`, `vdaa`. The guest need not use the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::modules::kvm) struct DiskTarget(String);

impl DiskTarget {
    const SYSTEM: usize = 0;
    const SEED: usize = 1;

    /// The target of the data disk at this place.
    pub(in crate::modules::kvm) fn data(place: usize) -> Self {
        Self::nth(place + 2)
    }

    fn nth(number: usize) -> Self {
        let mut letters = Vec::new();
        let mut rest = number + 1;
        while rest > 0 {
            let letter = u8::try_from((rest - 1) % 26).unwrap_or(0);
            letters.push(char::from(b'a' + letter));
            rest = (rest - 1) / 26;
        }
        Self(format!("vd{}", letters.iter().rev().collect::<String>()))
    }

    pub(in crate::modules::kvm) fn as_str(&self) -> &str {
        &self.0
    }
}

fn system_disk(placement: &Placement) -> Element {
    let driver = driver(DiskFormat::Qcow2).attr("discard", "unmap");
    virtio_disk(
        driver,
        &placement.overlay,
        &DiskTarget::nth(DiskTarget::SYSTEM),
    )
    .child(Element::new("boot").attr("order", "1"))
}

fn seed_disk(seed: &Path) -> Element {
    let target = DiskTarget::nth(DiskTarget::SEED);
    virtio_disk(driver(DiskFormat::Raw), seed, &target).child(Element::new("readonly"))
}

/// A data disk. Its serial number is its tag, by which the guest finds it.
pub(in crate::modules::kvm) fn data_disk(
    disk: &DiskConfig,
    placed: &PlacedDisk,
    target: &DiskTarget,
) -> Element {
    let driver = driver(placed.format).attr("discard", "unmap");
    virtio_disk(driver, &placed.file, target)
        .children(disk.read_only.then(|| Element::new("readonly")))
        .child(Element::text("serial", &disk.tag))
        .child(alias(disk_alias(&DiskHandle::of(disk.tag.as_str()))))
}

/// As much of a plugged-in disk as libvirt needs to know it by.
#[cfg(feature = "kvm")]
pub(in crate::modules::kvm) fn plugged_disk(handle: &DiskHandle, target: &str) -> Element {
    Element::new("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(
            Element::new("target")
                .attr("dev", target)
                .attr("bus", "virtio"),
        )
        .child(alias(disk_alias(handle)))
}

fn driver(format: DiskFormat) -> Element {
    Element::new("driver")
        .attr("name", "qemu")
        .attr("type", format.as_str())
}

fn virtio_disk(driver: Element, file: &Path, target: &DiskTarget) -> Element {
    Element::new("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(driver)
        .child(Element::new("source").attr("file", &file.to_string_lossy()))
        .child(
            Element::new("target")
                .attr("dev", target.as_str())
                .attr("bus", "virtio"),
        )
}

fn filesystem(share: &ShareConfig, driver: ShareDriver) -> Element {
    let filesystem = Element::new("filesystem").attr("type", "mount");
    let filesystem = match driver {
        ShareDriver::Virtiofs => filesystem
            .attr("accessmode", "passthrough")
            .child(Element::new("driver").attr("type", "virtiofs")),
        // Owners and modes are kept beside the files, so that the guest's root is not the host's.
        ShareDriver::NineP | ShareDriver::Auto => filesystem.attr("accessmode", "mapped"),
    };
    filesystem
        .child(Element::new("source").attr("dir", &share.path.to_string_lossy()))
        .child(Element::new("target").attr_of("dir", &share.tag))
        .children(share.read_only.then(|| Element::new("readonly")))
}

fn interfaces(config: &VmConfig, placement: &Placement) -> impl Iterator<Item = Element> {
    let cards = config.networks().iter().zip(&placement.macs).zip(0_u32..);
    cards.map(|((card, mac), place)| {
        let ssh = placement.ssh_port.filter(|_| place == 0);
        interface(&card.network, *mac, &NetworkHandle::of(place), ssh)
    })
}

/// A network card.
pub(in crate::modules::kvm) fn interface(
    network: &VmNetwork,
    mac: MacAddress,
    handle: &NetworkHandle,
    ssh_port: Option<u16>,
) -> Element {
    let mac = Element::new("mac").attr_of("address", mac);
    let model = Element::new("model").attr("type", "virtio");
    let alias = alias(network_alias(handle));
    let kind = |kind| Element::new("interface").attr("type", kind);
    match network {
        VmNetwork::User { forwards } => kind("user")
            .child(mac)
            .child(model)
            .child(Element::new("backend").attr("type", "passt"))
            .children(port_forwards(ssh_port, forwards))
            .child(alias),
        VmNetwork::Nat { network } => kind("network")
            .child(mac)
            .child(Element::new("source").attr("network", network))
            .child(model)
            .child(alias),
        VmNetwork::Bridge { name } => kind("bridge")
            .child(mac)
            .child(Element::new("source").attr("bridge", name))
            .child(model)
            .child(alias),
    }
}

/// As much of a plugged-in card as libvirt needs to know it by.
#[cfg(feature = "kvm")]
pub(in crate::modules::kvm) fn plugged_card(
    handle: &NetworkHandle,
    kind: &str,
    mac: &str,
) -> Element {
    Element::new("interface")
        .attr("type", kind)
        .child(Element::new("mac").attr_of("address", mac))
        .child(alias(network_alias(handle)))
}

/// One element for each protocol: passt takes its options once for each.
fn port_forwards(ssh_port: Option<u16>, forwards: &[PortForward]) -> Vec<Element> {
    let ssh = ssh_port.map(|host| PortForward {
        host,
        guest: 22,
        protocol: Protocol::Tcp,
    });
    let all: Vec<PortForward> = ssh.into_iter().chain(forwards.iter().copied()).collect();
    let elements = [Protocol::Tcp, Protocol::Udp].into_iter().map(|protocol| {
        let ranges = all.iter().filter(|forward| forward.protocol == protocol);
        let ranges: Vec<Element> = ranges
            .map(|forward| {
                Element::new("range")
                    .attr_of("start", forward.host)
                    .attr_of("to", forward.guest)
            })
            .collect();
        (!ranges.is_empty()).then(|| {
            Element::new("portForward")
                .attr("proto", protocol.as_str())
                .attr("address", "127.0.0.1")
                .children(ranges)
        })
    });
    elements.flatten().collect()
}

/// The first serial port, logged to a file that survives power cycles.
fn serial(port: SerialPort, placement: &Placement) -> Element {
    let (kind, model) = match port {
        SerialPort::Pl011 => ("system-serial", "pl011"),
        SerialPort::Isa => ("isa-serial", "isa-serial"),
    };
    let log = placement.console_log.as_ref().map(|file| {
        Element::new("log")
            .attr("file", &file.to_string_lossy())
            .attr("append", "on")
    });
    let target = Element::new("target")
        .attr("type", kind)
        .attr("port", "0")
        .child(Element::new("model").attr("name", model));
    Element::new("serial")
        .attr("type", "pty")
        .children(log)
        .child(target)
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

/// libvirt's alias of a data disk. It keeps aliases that begin with `ua-` as they are given.
pub(in crate::modules::kvm) fn disk_alias(handle: &DiskHandle) -> String {
    format!("ua-disk-{}", handle.tag())
}

/// libvirt's alias of a network card.
pub(in crate::modules::kvm) fn network_alias(handle: &NetworkHandle) -> String {
    format!("ua-net-{}", handle.place())
}

fn alias(name: String) -> Element {
    Element::new("alias").attr("name", &name)
}

#[cfg(test)]
mod tests {
    use super::DiskTarget;

    #[test]
    fn disks_are_told_apart_beyond_the_alphabet() {
        let targets = [0, 1, 25, 26, 27, 51, 52, 64].map(|n| DiskTarget::nth(n).0);
        let expected = ["vda", "vdb", "vdz", "vdaa", "vdab", "vdaz", "vdba", "vdbm"];
        assert_eq!(targets, expected);
        assert_eq!(DiskTarget::data(0).as_str(), "vdc");
    }
}
