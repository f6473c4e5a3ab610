//! What a checkpoint is known by.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::topology::virtualization::{
    Accelerator, DiskSource, NetworkCard, VirtualMachineSpec,
};
use crate::modules::host::{HostFacts, LibvirtFacts, cpu_features};
use crate::modules::image::{Sha256Digest, known_digest};
use crate::modules::kvm::KvmError;
use crate::modules::kvm::params::{DomainXmlParams, Firmware};
use crate::modules::kvm::preview::preview;
use crate::modules::kvm::types::VmConfig;

use super::CheckpointError;

/// Changes when what harmony does to a guest before it is saved, or after it was restored, does.
const LAYOUT: u32 = 6;

/// How many digits name a key's files.
const SHORT: usize = 16;

/// The name that stands for every name.
const STAND_IN: &str = "checkpoint";

/// The digest of everything that a saved guest's memory depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointKey(Sha256Digest);

impl CheckpointKey {
    /// Of a machine, and what the caller has done in its guest.
    pub(super) fn of(machine: Sha256Digest, content: &str) -> Self {
        Self(Sha256Digest::of(format!("{machine} {content}").as_bytes()))
    }

    /// Its first 16 hexadecimal digits, for names.
    pub fn short(&self) -> String {
        self.0.to_string().chars().take(SHORT).collect()
    }

    /// Whether a text is what [`short`](Self::short) makes of some key.
    pub fn is_short(text: &str) -> bool {
        text.len() == SHORT && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl fmt::Display for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CheckpointKey {
    type Err = <Sha256Digest as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a saved guest's machine depends on, as JSON.
#[derive(Serialize)]
struct Machine<'a> {
    layout: u32,
    harmony: &'static str,
    /// The document without identity: machine, CPU, devices, firmware, files of the host.
    document: &'a str,
    image: Sha256Digest,
    emulator: Sha256Digest,
    /// A kernel from outside, and its initrd.
    kernel: Vec<Sha256Digest>,
    firmware: Option<Sha256Digest>,
    /// Read-only disks of the caller's: the guest may have read them.
    disks: Vec<Sha256Digest>,
    libvirt: Option<String>,
    /// Under KVM the guest sees the host's CPU: its model, and its features.
    host_cpu: Option<(String, String)>,
}

/// The digest of everything that a saved guest's memory depends on, but for what was done in it. Reads the image, the
/// emulator and the firmware.
pub(super) fn machine(
    spec: &VirtualMachineSpec,
    host: &HostFacts,
) -> Result<Sha256Digest, CheckpointError> {
    let spec = without_identity(spec)?;
    let params = DomainXmlParams::resolve(&VmConfig::try_from(&spec)?, host)?;
    let document = preview(&spec, host)?.xml;
    let image = spec.image.clone().unwrap_or_default();
    let disks = spec.disks.iter().filter_map(|disk| match &disk.source {
        DiskSource::File { path } => Some(digest(path)),
        DiskSource::Blank { .. } => None,
    });
    let kernel = spec.kernel.iter();
    let kernel = kernel.flat_map(|kernel| std::iter::once(&kernel.image).chain(&kernel.initrd));
    let machine = Machine {
        layout: LAYOUT,
        harmony: env!("CARGO_PKG_VERSION"),
        document: &document,
        image: digest(&image)?,
        emulator: digest(&params.emulator)?,
        kernel: kernel.map(|file| digest(file)).collect::<Result<_, _>>()?,
        firmware: match &params.firmware {
            Firmware::Uefi(firmware) => Some(digest(&firmware.code)?),
            Firmware::Bios => None,
        },
        disks: disks.collect::<Result<_, _>>()?,
        libvirt: match &host.libvirt {
            LibvirtFacts::Answers { version, .. } => Some(version.to_string()),
            LibvirtFacts::Unasked | LibvirtFacts::Silent { .. } => None,
        },
        host_cpu: (params.accelerator == Accelerator::Kvm)
            .then(|| (host.cpu.model.clone(), cpu_features())),
    };
    let json = serde_json::to_vec(&machine).map_err(|error| KvmError::Internal {
        what: error.to_string(),
    })?;
    Ok(Sha256Digest::of(&json))
}

fn digest(file: &Path) -> Result<Sha256Digest, CheckpointError> {
    known_digest(file).map_err(CheckpointError::io("read", PathBuf::from(file)))
}

/// The spec of every VM that differs from this one in its identity alone.
pub(super) fn without_identity(
    spec: &VirtualMachineSpec,
) -> Result<VirtualMachineSpec, CheckpointError> {
    let ineligible = |what| Err(CheckpointError::Ineligible { what });
    if !spec.shares.is_empty() {
        return ineligible("shared directories");
    }
    if spec
        .disks
        .iter()
        .any(|disk| !matches!(disk.source, DiskSource::File { .. }) || !disk.read_only)
    {
        return ineligible("data disks of its own");
    }
    if spec.first_boot.is_none() {
        return ineligible("no first boot of harmony's");
    }
    if spec.serial.is_some() {
        return ineligible("a serial number of its own, which the guest has read already");
    }
    let networks = spec.networks.iter().map(|card| NetworkCard {
        mac: None,
        ..card.clone()
    });
    Ok(VirtualMachineSpec {
        name: STAND_IN.to_owned(),
        uuid: None,
        networks: networks.collect(),
        ..spec.clone()
    })
}
