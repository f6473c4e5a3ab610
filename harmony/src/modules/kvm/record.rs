//! What harmony stores with a domain, in its `<metadata>`: so it knows its own domains again, and can
//! say what differs.

use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use uuid::Uuid;

use crate::domain::topology::virtualization::{
    Accelerator, ConsoleLog, DataDisk, MachineIdentity, PortForward, VirtualMachineSpec,
};
use crate::modules::image::Sha256Digest;
use crate::modules::image::format::DiskFormat;

use super::changes::changes;
use super::error::KvmError;
use super::firmware_selection::UefiFirmware;
use super::params::{DomainXmlParams, Firmware};
use super::placement::Placement;
use super::types::{DiskConfig, MacAddress, SerialNumber, VmConfig};

pub use super::changes::FieldChange;

/// The XML namespace of the metadata element, which is called `vm`.
pub const NAMESPACE: &str = "https://github.com/nationtech/harmony/xmlns/domain/1";

/// The record of one domain. `S` is the spec, or its JSON as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainRecord<S = VirtualMachineSpec> {
    /// The version of harmony that made the domain.
    pub harmony: String,
    /// The spec that the domain was made from.
    pub spec: S,
    /// The SHA-256 of the spec as it is written here.
    pub spec_sha256: Sha256Digest,
    /// The SHA-256 of the image that the disk is backed by.
    pub image_sha256: Option<Sha256Digest>,
    /// The domain's UUID.
    pub uuid: Uuid,
    /// The machine's serial number.
    pub serial: SerialNumber,
    /// The network cards' addresses, in their order.
    pub macs: Vec<MacAddress>,
    /// How its instructions are executed.
    pub accelerator: Accelerator,
    /// The UEFI firmware that its variable store belongs to.
    pub firmware: Option<UefiFirmware>,
    /// The port of 127.0.0.1 that is forwarded to the guest's SSH, with user networking.
    pub ssh_port: Option<u16>,
    /// What each data disk's file was when the VM was made, in their order.
    pub disk_formats: Vec<DiskFormat>,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The element is not well-formed XML.
    #[error("the metadata element is not well-formed")]
    Xml(#[source] quick_xml::Error),
    /// The element's text is not a record.
    #[error("the metadata is not a record of this version of harmony")]
    Json(#[source] serde_json::Error),
}

/// The record of a domain that is made so, as JSON. The spec is written once, and hashed as it is written.
///
/// # Errors
/// [`KvmError::Internal`] when the spec cannot be serialised.
pub(super) fn record_text(
    config: &VmConfig,
    params: &DomainXmlParams,
    placement: &Placement,
) -> Result<String, KvmError> {
    let written = to_raw_value(&config.to_spec()).and_then(|spec| {
        serde_json::to_string(&DomainRecord {
            harmony: env!("CARGO_PKG_VERSION").to_owned(),
            spec_sha256: Sha256Digest::of(spec.get().as_bytes()),
            spec,
            image_sha256: placement.image_sha256,
            uuid: placement.uuid,
            serial: placement.serial.clone(),
            macs: placement.macs.clone(),
            accelerator: params.accelerator,
            firmware: match &params.firmware {
                Firmware::Bios => None,
                Firmware::Uefi(firmware) => Some(firmware.clone()),
            },
            ssh_port: placement.ssh_port,
            disk_formats: placement.disks.iter().map(|disk| disk.format).collect(),
        })
    });
    written.map_err(|error| KvmError::Internal {
        what: error.to_string(),
    })
}

impl DomainRecord {
    /// The ports that are forwarded to the guest besides the one for SSH.
    pub fn forwards(&self) -> Vec<PortForward> {
        let cards = self.spec.networks.iter();
        cards
            .flat_map(|card| card.network.forwards())
            .copied()
            .collect()
    }

    /// What a data disk's file was when the VM was made with that very disk.
    pub fn disk_format(&self, disk: &DiskConfig) -> Option<DiskFormat> {
        let disk = DataDisk::from(disk.clone());
        let mut formats = self.spec.disks.iter().zip(&self.disk_formats);
        formats
            .find(|(d, _)| **d == disk)
            .map(|(_, format)| *format)
    }

    /// Where the serial console is logged; `managed` is the file among the VM's own.
    pub fn console_log(&self, managed: &Path) -> Option<PathBuf> {
        match &self.spec.console {
            ConsoleLog::Managed => Some(managed.to_owned()),
            ConsoleLog::File { path } => Some(path.clone()),
            ConsoleLog::Discarded => None,
        }
    }

    /// What the machine is known by.
    pub fn identity(&self) -> MachineIdentity {
        MachineIdentity {
            uuid: self.uuid,
            serial: self.serial.to_string(),
            macs: self.macs.iter().map(ToString::to_string).collect(),
        }
    }

    /// The record in the metadata element that libvirt returned.
    ///
    /// # Errors
    /// When it is not well-formed, or was written by a version with another record.
    pub fn from_metadata(xml: &str) -> Result<Self, RecordError> {
        let mut reader = Reader::from_str(xml);
        let mut text = String::new();
        loop {
            match reader.read_event().map_err(RecordError::Xml)? {
                Event::Text(part) => text.push_str(&part.xml10_content()),
                Event::GeneralRef(reference) => {
                    match quick_xml::escape::resolve_predefined_entity(&reference) {
                        Some(resolved) => text.push_str(resolved),
                        None => {
                            text.extend(reference.resolve_char_ref().map_err(RecordError::Xml)?);
                        }
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        serde_json::from_str(text.trim()).map_err(RecordError::Json)
    }

    /// Each field of `requested` that differs from what the domain was made from.
    pub fn changes(&self, requested: &VirtualMachineSpec) -> Vec<FieldChange> {
        changes(&self.spec, requested)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{DomainRecord, FieldChange};
    use crate::domain::topology::virtualization::{Accelerator, VirtualMachineSpec, VmNetwork};
    use crate::modules::image::Sha256Digest;
    use crate::modules::kvm::types::{MacAddress, SerialNumber};

    fn record() -> DomainRecord {
        let uuid = Uuid::from_u128(7);
        DomainRecord {
            harmony: "0.1.0".to_owned(),
            spec: VirtualMachineSpec {
                image: Some("/images/<odd> & 'quoted'.qcow2".into()),
                ..VirtualMachineSpec::new_aarch64("pi")
            },
            spec_sha256: Sha256Digest::of(b"spec"),
            image_sha256: None,
            uuid,
            serial: SerialNumber::derived(uuid),
            macs: MacAddress::for_cards(uuid, &[None]),
            accelerator: Accelerator::Tcg,
            firmware: None,
            ssh_port: Some(20_000),
            disk_formats: Vec::new(),
        }
    }

    #[test]
    fn survives_the_way_through_xml() {
        let json = serde_json::to_string(&record()).expect("serialisable");
        let xml = crate::modules::kvm::element::Element::text("vm", &json)
            .attr_of("xmlns", super::NAMESPACE)
            .to_document()
            .expect("serialisable");
        assert_eq!(
            DomainRecord::from_metadata(&xml).expect("readable"),
            record()
        );
    }

    #[test]
    fn changes_are_named_field_by_field() {
        let record = record();
        assert_eq!(record.changes(&record.spec), []);
        let requested = VirtualMachineSpec {
            vcpus: 4,
            networks: vec![
                VmNetwork::Nat {
                    network: "lab".to_owned(),
                }
                .into(),
            ],
            ..record.spec.clone()
        };
        let change = |field: &str, recorded: &str, requested: &str| FieldChange {
            field: field.to_owned(),
            recorded: recorded.to_owned(),
            requested: requested.to_owned(),
        };
        assert_eq!(
            record.changes(&requested),
            [
                change("networks[0].network.network", "null", "\"lab\""),
                change("networks[0].network.type", "\"user\"", "\"nat\""),
                change("vcpus", "2", "4"),
            ]
        );
    }
}
