//! Plugging a running virtual machine, and going back to its checkpoint.

use super::Result;
use super::vm::Vm;
use crate::domain::topology::virtualization::{DataDisk, DiskHandle, NetworkCard, NetworkHandle};

impl Vm {
    /// Plugs a disk in. It is there until it is unplugged or the power is cut.
    ///
    /// # Errors
    /// Those of [`attach_disk`](crate::domain::topology::virtualization::VirtualMachineHost::attach_disk).
    pub async fn attach_disk(&self, disk: &DataDisk) -> Result<DiskHandle> {
        Ok(self.machine.host.attach_disk(self.name(), disk).await?)
    }

    /// Unplugs a disk and waits until the guest has let go of it.
    ///
    /// # Errors
    /// No such disk, a VM that does not run, a guest that does not let go within 60 s.
    pub async fn detach_disk(&self, disk: &DiskHandle) -> Result<()> {
        Ok(self.machine.host.detach_disk(self.name(), disk).await?)
    }

    /// Plugs a network card in, with the life of a plugged-in disk.
    ///
    /// # Errors
    /// Those of [`attach_network`](crate::domain::topology::virtualization::VirtualMachineHost::attach_network).
    pub async fn attach_network(&self, card: &NetworkCard) -> Result<NetworkHandle> {
        Ok(self.machine.host.attach_network(self.name(), card).await?)
    }

    /// Unplugs a network card and waits until the guest has let go of it.
    ///
    /// # Errors
    /// As [`Self::detach_disk`].
    pub async fn detach_network(&self, card: &NetworkHandle) -> Result<()> {
        Ok(self.machine.host.detach_network(self.name(), card).await?)
    }

    /// Goes back to the checkpoint that it was made from: memory, disk and variable store as they were saved. Logins from
    /// before are worth nothing then.
    ///
    /// # Errors
    /// Those of [`reset`](crate::domain::topology::virtualization::VirtualMachineHost::reset).
    pub async fn revert(&self) -> Result<()> {
        Ok(self.machine.host.reset(self.name()).await?)
    }
}
