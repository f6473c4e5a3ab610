//! Collecting what a [`VmConfig`] is made of.

use std::path::PathBuf;

use uuid::Uuid;

use crate::domain::topology::virtualization::{
    AcceleratorChoice, ConsoleLog, CpuProfile, DataDisk, DiskHandle, FirmwareChoice, FirstBoot,
    IdentityMismatch, KernelBoot, MachineIdentity, NetworkCard, NetworkHandle, SharedDirectory,
    VirtualMachineSpec, VmArchitecture,
};
use crate::modules::kvm::error::KvmError;

use super::VmConfig;
use super::checks::check;

/// Collects what a [`VmConfig`] is made of, and checks it.
///
/// Devices are pushed; each push returns the handle by which the device is unplugged from the running
/// guest. A builder begins with one network card, with user networking.
#[derive(Debug, Clone, Default)]
pub struct VmConfigBuilder {
    spec: VirtualMachineSpec,
}

impl From<VirtualMachineSpec> for VmConfigBuilder {
    fn from(spec: VirtualMachineSpec) -> Self {
        Self { spec }
    }
}

impl VmConfigBuilder {
    /// A configuration with the spec's defaults.
    pub fn new(name: impl Into<String>, image: impl Into<PathBuf>) -> Self {
        Self {
            spec: VirtualMachineSpec {
                name: name.into(),
                image: Some(image.into()),
                ..VirtualMachineSpec::default()
            },
        }
    }

    /// The guest's instruction set.
    #[must_use]
    pub fn architecture(mut self, architecture: VmArchitecture) -> Self {
        self.spec.architecture = architecture;
        self
    }

    /// Virtual CPUs.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.spec.vcpus = vcpus;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.spec.memory_mib = memory_mib;
        self
    }

    /// Allows more memory than the host has.
    #[must_use]
    pub fn memory_overcommit(mut self, allowed: bool) -> Self {
        self.spec.memory_overcommit = allowed;
        self
    }

    /// The disk's size in GiB.
    #[must_use]
    pub fn disk_gib(mut self, disk_gib: u64) -> Self {
        self.spec.disk_gib = disk_gib;
        self
    }

    /// Replaces all network cards by one with these settings; more are pushed.
    #[must_use]
    pub fn network(mut self, card: impl Into<NetworkCard>) -> Self {
        self.spec.networks = vec![card.into()];
        self
    }

    /// Takes all network cards out.
    #[must_use]
    pub fn unconnected(mut self) -> Self {
        self.spec.networks.clear();
        self
    }

    /// Adds a network card.
    pub fn push_network(&mut self, card: impl Into<NetworkCard>) -> NetworkHandle {
        let place = u32::try_from(self.spec.networks.len()).unwrap_or(u32::MAX);
        self.spec.networks.push(card.into());
        NetworkHandle::of(place)
    }

    /// Adds a data disk.
    pub fn push_disk(&mut self, disk: DataDisk) -> DiskHandle {
        let handle = DiskHandle::of(&disk.tag);
        self.spec.disks.push(disk);
        handle
    }

    /// Adds a shared directory.
    pub fn push_share(&mut self, share: SharedDirectory) {
        self.spec.shares.push(share);
    }

    /// Which accelerator to use.
    #[must_use]
    pub fn accelerator(mut self, accelerator: AcceleratorChoice) -> Self {
        self.spec.accelerator = accelerator;
        self
    }

    /// Which CPU the guest sees.
    #[must_use]
    pub fn cpu(mut self, cpu: CpuProfile) -> Self {
        self.spec.cpu = cpu;
        self
    }

    /// The versioned machine type.
    #[must_use]
    pub fn machine(mut self, machine: impl Into<String>) -> Self {
        self.spec.machine = Some(machine.into());
        self
    }

    /// What the guest's CPU runs first.
    #[must_use]
    pub fn firmware(mut self, firmware: FirmwareChoice) -> Self {
        self.spec.firmware = firmware;
        self
    }

    /// A kernel from outside.
    #[must_use]
    pub fn kernel(mut self, kernel: KernelBoot) -> Self {
        self.spec.kernel = Some(kernel);
        self
    }

    /// Where the serial console's output goes.
    #[must_use]
    pub fn console(mut self, console: ConsoleLog) -> Self {
        self.spec.console = console;
        self
    }

    /// The machine's UUID.
    #[must_use]
    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.spec.uuid = Some(uuid);
        self
    }

    /// The machine's serial number.
    #[must_use]
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.spec.serial = Some(serial.into());
        self
    }

    /// Gives a stored identity back, after all network cards were pushed.
    ///
    /// # Errors
    /// When the identity does not have one address for each card.
    pub fn identity(mut self, identity: &MachineIdentity) -> Result<Self, IdentityMismatch> {
        self.spec = self.spec.with_identity(identity)?;
        Ok(self)
    }

    /// What cloud-init sets up.
    #[must_use]
    pub fn first_boot(mut self, first_boot: FirstBoot) -> Self {
        self.spec.first_boot = Some(first_boot);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`KvmError::Invalid`] with every rule that is broken.
    pub fn build(self) -> Result<VmConfig, KvmError> {
        check(self.spec).map_err(|violations| KvmError::Invalid { violations })
    }
}
