//! The checked configuration of a virtual machine.
//!
//! [`VmConfig`] has private fields and exists only valid. It is made from a
//! [`VirtualMachineSpec`] or through [`VmConfigBuilder`]; either way all broken rules are reported at
//! once. Checking never touches the host.

mod builder;
mod checks;
mod mac;
mod name;

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::domain::topology::virtualization::{
    AcceleratorChoice, ConsoleLog, CpuProfile, DataDisk, DiskSource, FirmwareChoice, FirstBoot,
    KernelBoot, NetworkCard, ShareDriver, SharedDirectory, VirtualMachineSpec, VmArchitecture,
    VmNetwork,
};

pub use super::violation::Violation;
pub(super) use super::violation::Violations;
pub use builder::VmConfigBuilder;
#[cfg(feature = "kvm")]
pub(super) use checks::{check_card, check_disk};
pub use mac::MacAddress;
pub use name::{DeviceTag, SerialNumber, VmName};

/// Network cards at most.
pub const MAX_NETWORKS: usize = 8;
/// Data disks at most.
pub const MAX_DISKS: usize = 63;
/// Shared directories at most.
pub const MAX_SHARES: usize = 8;

/// A network card whose every value is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardConfig {
    /// What it is connected to.
    pub network: VmNetwork,
    /// Its address, when it was given one.
    pub mac: Option<MacAddress>,
}

/// A data disk whose every value is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// Its name in the VM.
    pub tag: DeviceTag,
    /// Where its content is.
    pub source: DiskSource,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A shared directory whose every value is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConfig {
    /// What the guest mounts it by.
    pub tag: DeviceTag,
    /// The host's directory.
    pub path: PathBuf,
    /// How it crosses.
    pub driver: ShareDriver,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A virtual machine whose every value is within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmConfig {
    name: VmName,
    architecture: VmArchitecture,
    vcpus: u32,
    memory_mib: u64,
    memory_overcommit: bool,
    disk_gib: u64,
    image: PathBuf,
    networks: Vec<CardConfig>,
    disks: Vec<DiskConfig>,
    shares: Vec<ShareConfig>,
    accelerator: AcceleratorChoice,
    cpu: CpuProfile,
    machine: Option<String>,
    firmware: FirmwareChoice,
    kernel: Option<KernelBoot>,
    console: ConsoleLog,
    uuid: Option<Uuid>,
    serial: Option<SerialNumber>,
    first_boot: Option<FirstBoot>,
}

impl VmConfig {
    /// The domain's name.
    pub fn name(&self) -> &VmName {
        &self.name
    }
    /// The guest's instruction set.
    pub fn architecture(&self) -> VmArchitecture {
        self.architecture
    }
    /// Virtual CPUs.
    pub fn vcpus(&self) -> u32 {
        self.vcpus
    }
    /// Memory in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.memory_mib
    }
    /// Whether there may be more memory than the host has.
    pub fn memory_overcommit(&self) -> bool {
        self.memory_overcommit
    }
    /// The disk's size in GiB.
    pub fn disk_gib(&self) -> u64 {
        self.disk_gib
    }
    /// The absolute path of the backing image.
    pub fn image(&self) -> &Path {
        &self.image
    }
    /// The network cards.
    pub fn networks(&self) -> &[CardConfig] {
        &self.networks
    }
    /// The data disks.
    pub fn disks(&self) -> &[DiskConfig] {
        &self.disks
    }
    /// The shared directories.
    pub fn shares(&self) -> &[ShareConfig] {
        &self.shares
    }
    /// Which accelerator was asked for.
    pub fn accelerator(&self) -> AcceleratorChoice {
        self.accelerator
    }
    /// Which CPU was asked for.
    pub fn cpu(&self) -> &CpuProfile {
        &self.cpu
    }
    /// Which machine type was asked for.
    pub fn machine(&self) -> Option<&str> {
        self.machine.as_deref()
    }
    /// Which firmware was asked for.
    pub fn firmware(&self) -> FirmwareChoice {
        self.firmware
    }
    /// The kernel from outside.
    pub fn kernel(&self) -> Option<&KernelBoot> {
        self.kernel.as_ref()
    }
    /// Where the serial console's output goes.
    pub fn console(&self) -> &ConsoleLog {
        &self.console
    }
    /// The machine's UUID, when it was given one.
    pub fn uuid(&self) -> Option<Uuid> {
        self.uuid
    }
    /// The machine's serial number, when it was given one.
    pub fn serial(&self) -> Option<&SerialNumber> {
        self.serial.as_ref()
    }
    /// What cloud-init sets up.
    pub fn first_boot(&self) -> Option<&FirstBoot> {
        self.first_boot.as_ref()
    }

    /// The spec that this configuration was made from, for storing.
    pub fn to_spec(&self) -> VirtualMachineSpec {
        let Self {
            name,
            architecture,
            vcpus,
            memory_mib,
            memory_overcommit,
            disk_gib,
            image,
            networks,
            disks,
            shares,
            accelerator,
            cpu,
            machine,
            firmware,
            kernel,
            console,
            uuid,
            serial,
            first_boot,
        } = self.clone();
        VirtualMachineSpec {
            name: name.into(),
            architecture,
            vcpus,
            memory_mib,
            memory_overcommit,
            disk_gib,
            image: Some(image),
            networks: networks.into_iter().map(Into::into).collect(),
            disks: disks.into_iter().map(Into::into).collect(),
            shares: shares.into_iter().map(Into::into).collect(),
            accelerator,
            cpu,
            machine,
            firmware,
            kernel,
            console,
            uuid,
            serial: serial.map(Into::into),
            first_boot,
        }
    }
}

impl From<CardConfig> for NetworkCard {
    fn from(CardConfig { network, mac }: CardConfig) -> Self {
        Self {
            network,
            mac: mac.map(|mac| mac.to_string()),
        }
    }
}

impl From<DiskConfig> for DataDisk {
    fn from(disk: DiskConfig) -> Self {
        let DiskConfig {
            tag,
            source,
            read_only,
        } = disk;
        Self {
            tag: tag.to_string(),
            source,
            read_only,
        }
    }
}

impl From<ShareConfig> for SharedDirectory {
    fn from(share: ShareConfig) -> Self {
        let ShareConfig {
            tag,
            path,
            driver,
            read_only,
        } = share;
        Self {
            tag: tag.to_string(),
            path,
            driver,
            read_only,
        }
    }
}

impl TryFrom<&VirtualMachineSpec> for VmConfig {
    type Error = super::error::KvmError;

    fn try_from(spec: &VirtualMachineSpec) -> Result<Self, Self::Error> {
        VmConfigBuilder::from(spec.clone()).build()
    }
}

#[cfg(test)]
mod tests;
