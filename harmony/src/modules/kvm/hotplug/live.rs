//! What is read of a running domain's description.

use std::collections::HashSet;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde::Deserialize;

use crate::domain::topology::virtualization::{DiskHandle, NetworkHandle};
use crate::modules::kvm::types::MacAddress;
use crate::modules::kvm::xml::{disk_alias, network_alias};

/// The devices of a running domain.
#[derive(Debug, Deserialize)]
pub(super) struct LiveDevices {
    #[serde(rename = "disk", default)]
    disks: Vec<LiveDisk>,
    #[serde(rename = "interface", default)]
    cards: Vec<LiveCard>,
    /// PCIe root ports without a device.
    #[serde(skip)]
    pub(super) empty_root_ports: usize,
}

/// A disk.
#[derive(Debug, Deserialize)]
pub(super) struct LiveDisk {
    pub(super) target: LiveTarget,
    alias: Option<LiveAlias>,
}

/// What libvirt tells disks apart by.
#[derive(Debug, Deserialize)]
pub(super) struct LiveTarget {
    #[serde(rename = "@dev")]
    pub(super) dev: String,
}

/// A network card.
#[derive(Debug, Deserialize)]
pub(super) struct LiveCard {
    #[serde(rename = "@type")]
    pub(super) kind: String,
    pub(super) mac: LiveMac,
    alias: Option<LiveAlias>,
}

/// A card's Ethernet address.
#[derive(Debug, Deserialize)]
pub(super) struct LiveMac {
    #[serde(rename = "@address")]
    pub(super) address: String,
}

#[derive(Debug, Deserialize)]
struct LiveAlias {
    #[serde(rename = "@name")]
    name: String,
}

#[derive(Debug, Deserialize)]
struct LiveDomain {
    devices: LiveDevices,
}

/// A description that is not libvirt's of a domain.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotUnderstood {
    #[error("{0}")]
    Document(#[from] quick_xml::DeError),
    #[error("{0}")]
    Syntax(#[from] quick_xml::Error),
    #[error("{0}")]
    Attribute(#[from] quick_xml::events::attributes::AttrError),
}

impl LiveDevices {
    /// The devices of the domain with this description.
    pub(super) fn read(xml: &str) -> Result<Self, NotUnderstood> {
        let domain: LiveDomain = quick_xml::de::from_str(xml)?;
        Ok(Self {
            empty_root_ports: empty_root_ports(xml)?,
            ..domain.devices
        })
    }

    /// The names by which libvirt tells the disks apart.
    pub(super) fn targets(&self) -> HashSet<&str> {
        self.disks.iter().map(|d| d.target.dev.as_str()).collect()
    }

    pub(super) fn disk(&self, handle: &DiskHandle) -> Option<&LiveDisk> {
        let alias = disk_alias(handle);
        let mut disks = self.disks.iter();
        disks.find(|disk| disk.alias.as_ref().is_some_and(|a| a.name == alias))
    }

    pub(super) fn card(&self, handle: &NetworkHandle) -> Option<&LiveCard> {
        let alias = network_alias(handle);
        let mut cards = self.cards.iter();
        cards.find(|card| card.alias.as_ref().is_some_and(|a| a.name == alias))
    }

    pub(super) fn macs(&self) -> Vec<MacAddress> {
        let macs = self.cards.iter().map(|card| card.mac.address.parse());
        macs.filter_map(Result::ok).collect()
    }
}

/// Root ports whose bus no device is on. A port is a controller, and its index is the number of its bus;
/// whatever kind a device is of, its address has the number of its bus.
fn empty_root_ports(xml: &str) -> Result<usize, NotUnderstood> {
    let mut reader = Reader::from_str(xml);
    let (mut ports, mut taken) = (HashSet::new(), HashSet::new());
    loop {
        let element = match reader.read_event()? {
            Event::Start(element) | Event::Empty(element) => element,
            Event::Eof => break,
            _ => continue,
        };
        let is = |key, value| attribute(&element, key).map(|found| found.as_deref() == Some(value));
        match element.name().as_ref() {
            "controller" if is("model", "pcie-root-port")? => {
                let index = attribute(&element, "index")?;
                ports.extend(index.and_then(|index| index.parse::<u32>().ok()));
            }
            "address" if is("type", "pci")? => {
                let bus = attribute(&element, "bus")?;
                taken.extend(bus.and_then(|bus| hexadecimal(&bus)));
            }
            _ => {}
        }
    }
    Ok(ports.difference(&taken).count())
}

fn attribute(element: &BytesStart<'_>, key: &str) -> Result<Option<String>, NotUnderstood> {
    let found = element.try_get_attribute(key)?;
    Ok(found.map(|a| a.value.into_owned()))
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::LiveDevices;
    use crate::domain::topology::virtualization::{DiskHandle, NetworkHandle};

    const RUNNING: &str = "<domain id='1'><devices>\
        <disk type='file'><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>\
          <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></disk>\
        <controller type='pci' index='0' model='pcie-root'/>\
        <controller type='pci' index='1' model='pcie-root-port'><target chassis='1' port='0x8'/>\
          <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'/></controller>\
        <controller type='pci' index='10' model='pcie-root-port'>\
          <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x1'/></controller>\
        <controller type='pci' index='11' model='pcie-root-port'>\
          <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x2'/></controller>\
        <controller type='virtio-serial' index='12'>\
          <address type='pci' domain='0x0000' bus='0x0a' slot='0x00' function='0x0'/></controller>\
        <interface type='user'><mac address='52:54:00:00:00:01'/><alias name='ua-net-0'/>\
          <address type='virtio-mmio'/></interface>\
        <disk type='file'><target dev='vdc' bus='virtio'/><alias name='ua-disk-data'/></disk>\
        </devices></domain>";

    #[test]
    fn devices_are_found_by_their_handles_and_ports_by_what_is_in_them() {
        let devices = LiveDevices::read(RUNNING).expect("a domain");
        let disk = devices.disk(&DiskHandle::of("data")).expect("there");
        assert_eq!(disk.target.dev, "vdc");
        assert!(devices.disk(&DiskHandle::of("dat")).is_none());
        let card = devices.card(&NetworkHandle::of(0)).expect("there");
        assert_eq!(card.kind, "user");
        assert!(devices.card(&NetworkHandle::of(1)).is_none());
        assert_eq!(devices.macs().len(), 1);
        assert_eq!(devices.targets(), ["vda", "vdc"].into());
        assert_eq!(devices.empty_root_ports, 1, "only the bus 11 is empty");
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in ["", "<domain/>", "<domain><devices>"] {
            assert!(LiveDevices::read(text).is_err(), "{text}");
        }
    }
}
