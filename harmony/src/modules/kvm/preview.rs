//! What would be made of a spec on a host, on paper: nothing is looked at but the facts.

use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use crate::domain::topology::virtualization::{
    DiskSource, VirtualMachineSpec, VmArchitecture, VmNetwork,
};
use crate::modules::host::{HostFacts, LibvirtFacts};
use crate::modules::image::format::DiskFormat;
use crate::modules::image::inspect::ConformanceReport;

use super::conformance::domain_conformance;
use super::error::KvmError;
use super::files::{SYSTEM_POOL, VmFiles};
use super::firmware_selection::RejectedFirmware;
use super::params::{Decisions, DomainXmlParams};
use super::placement::{PlacedDisk, Placement};
use super::types::VmConfig;
use super::xml::domain_xml;

/// The first of the ports that harmony gives to guests' SSH.
const FIRST_SSH_PORT: u16 = 20_000;

/// A domain on paper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The document.
    pub xml: String,
    /// Every knob with its reason.
    pub decisions: Decisions,
    /// Every firmware that was not taken, and why.
    pub firmware_rejected: Vec<RejectedFirmware>,
    /// What was decided against the caller's likely wish.
    pub warnings: Vec<String>,
    /// What Arm's VM System Specification asks of the machine; none for x86_64.
    pub conformance: Option<ConformanceReport>,
}

impl Preview {
    /// What a resolution and its document come to.
    pub(super) fn new(params: DomainXmlParams, xml: String) -> Self {
        Self {
            conformance: machine_conformance(&params),
            xml,
            decisions: params.decisions,
            firmware_rejected: params.firmware_rejected,
            warnings: params.warnings,
        }
    }
}

/// The clauses of Arm's VM System Specification for a machine of Arm's.
pub(super) fn machine_conformance(params: &DomainXmlParams) -> Option<ConformanceReport> {
    (params.arch == VmArchitecture::Aarch64).then(|| domain_conformance(params))
}

/// The domain that would be made of a spec on the host that these facts tell of.
///
/// What only making it decides has a stand-in that depends on the name alone: a UUID, and with it the
/// Ethernet addresses and the serial number; the port for SSH is the first there is; a data disk's format is
/// what its file's name says.
///
/// # Errors
/// A spec that is wrong, or that such a host cannot run.
pub fn preview(spec: &VirtualMachineSpec, host: &HostFacts) -> Result<Preview, KvmError> {
    let config = VmConfig::try_from(spec)?;
    let params = DomainXmlParams::resolve(&config, host)?;
    let pool = match &host.libvirt {
        LibvirtFacts::Answers { pool, .. } => pool.as_path(),
        LibvirtFacts::Unasked | LibvirtFacts::Silent { .. } => Path::new(SYSTEM_POOL),
    };
    let uuid = config.uuid().unwrap_or_else(|| stand_in_uuid(&config));
    let placement = on_paper(&config, uuid, pool);
    let xml = domain_xml(&config, &params, &placement)?;
    Ok(Preview::new(params, xml))
}

fn stand_in_uuid(config: &VmConfig) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, config.name().as_str().as_bytes())
}

fn on_paper(config: &VmConfig, uuid: Uuid, pool: &Path) -> Placement {
    let files = VmFiles::below(pool, config.name().as_str());
    let user = |config: &VmConfig| {
        let first = config.networks().first()?;
        matches!(first.network, VmNetwork::User { .. }).then_some(FIRST_SSH_PORT)
    };
    let disks = config.disks().iter().map(|disk| match &disk.source {
        DiskSource::Blank { .. } => PlacedDisk {
            file: files.data_disk(disk.tag.as_str()),
            format: DiskFormat::Qcow2,
        },
        DiskSource::File { path } => PlacedDisk {
            file: path.clone(),
            format: if path.extension().is_some_and(|e| e == "qcow2") {
                DiskFormat::Qcow2
            } else {
                DiskFormat::Raw
            },
        },
    });
    Placement {
        disks: disks.collect(),
        kernel: config
            .kernel()
            .map(|kernel| (kernel.image.clone(), kernel.initrd.clone())),
        ssh_port: user(config),
        ..Placement::new(config, uuid, &files)
    }
}
