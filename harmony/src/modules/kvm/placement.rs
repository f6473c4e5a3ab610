//! What is particular to one VM on one host.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::topology::virtualization::{ConsoleLog, MachineIdentity};
use crate::modules::image::Sha256Digest;
use crate::modules::image::format::DiskFormat;

use super::files::VmFiles;
use super::types::{MacAddress, SerialNumber, VmConfig};

/// What is particular to one VM on one host: its identity and its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The domain's UUID.
    pub uuid: Uuid,
    /// The machine's serial number.
    pub serial: SerialNumber,
    /// The address of each network card, in their order.
    pub macs: Vec<MacAddress>,
    /// The guest's disk, a qcow2 overlay on the image.
    pub overlay: PathBuf,
    /// The cloud-init seed, a raw image.
    pub seed: Option<PathBuf>,
    /// Each data disk's file, in their order.
    pub disks: Vec<PlacedDisk>,
    /// The UEFI variable store; not used with BIOS.
    pub nvram: PathBuf,
    /// The kernel from outside where QEMU can read it, and its initial RAM disk.
    pub kernel: Option<(PathBuf, Option<PathBuf>)>,
    /// Where the serial console is logged.
    pub console_log: Option<PathBuf>,
    /// The port of 127.0.0.1 for SSH, with user networking on the first card.
    pub ssh_port: Option<u16>,
    /// The image's SHA-256, once it has been read.
    pub image_sha256: Option<Sha256Digest>,
}

/// A data disk's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedDisk {
    /// Where it is.
    pub file: PathBuf,
    /// What it is, by inspection.
    pub format: DiskFormat,
}

impl Placement {
    /// The placement of a VM with this UUID, but for what has to be looked up or made: data disks, kernel,
    /// the port for SSH, the image's digest.
    pub(super) fn new(config: &VmConfig, uuid: Uuid, files: &VmFiles) -> Self {
        let given: Vec<_> = config.networks().iter().map(|card| card.mac).collect();
        let serial = config.serial().cloned();
        Self {
            uuid,
            serial: serial.unwrap_or_else(|| SerialNumber::derived(uuid)),
            macs: MacAddress::for_cards(uuid, &given),
            overlay: files.overlay.clone(),
            seed: config.first_boot().map(|_| files.seed.clone()),
            disks: Vec::new(),
            nvram: files.nvram.clone(),
            kernel: None,
            console_log: match config.console() {
                ConsoleLog::Managed => Some(files.console_log.clone()),
                ConsoleLog::File { path } => Some(path.clone()),
                ConsoleLog::Discarded => None,
            },
            ssh_port: None,
            image_sha256: None,
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
}
