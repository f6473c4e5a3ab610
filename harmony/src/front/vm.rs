//! A virtual machine, as a handle.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::lease::Lease;
use super::login::Login;
use super::{Error, Result};
use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::LinuxHost;
use crate::domain::topology::virtualization::{
    GuestAddress, MachineIdentity, VirtualMachineHost, VirtualMachineSpec, VmStatus, while_running,
};
use crate::modules::iot::login::Login as Account;
use crate::modules::ssh::SshKeyPair;

/// A virtual machine of this host.
///
/// One that is [ephemeral](super::VmBuilder::ephemeral) is there as long as its handle or a [`Login`] of it is.
#[derive(Debug)]
#[must_use = "an ephemeral virtual machine is removed when its handle is dropped"]
pub struct Vm {
    pub(super) machine: Arc<Machine>,
}

/// What a handle and its logins share.
pub(super) struct Machine {
    pub(super) host: Arc<dyn VirtualMachineHost>,
    spec: VirtualMachineSpec,
    keys: SshKeyPair,
    lease: Option<Lease>,
    /// Whether the first boot was seen to have ended.
    has_booted: AtomicBool,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("host", &self.host.name())
            .field("name", &self.spec.name)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Machine {
    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    /// The user that logs in.
    pub(super) fn user(&self) -> Option<&str> {
        let first_boot = self.spec.first_boot.as_ref()?;
        Some(&first_boot.user)
    }

    /// Awaits something of the guest, and fails at once when the VM stops.
    pub(super) async fn while_running<T>(
        &self,
        awaited: &'static str,
        waited: impl Future<Output = Result<T, ExecutorError>>,
    ) -> Result<T> {
        Ok(while_running(&*self.host, self.name(), awaited, waited).await?)
    }
}

impl Vm {
    pub(super) fn new(
        host: Arc<dyn VirtualMachineHost>,
        spec: VirtualMachineSpec,
        keys: SshKeyPair,
        lease: Option<Lease>,
    ) -> Self {
        let machine = Machine {
            host,
            spec,
            keys,
            lease,
            has_booted: AtomicBool::new(false),
        };
        Self {
            machine: Arc::new(machine),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.machine.name()
    }

    /// What it was made from.
    pub fn spec(&self) -> &VirtualMachineSpec {
        &self.machine.spec
    }

    /// Its state.
    pub async fn status(&self) -> Result<VmStatus> {
        Ok(self.machine.host.vm_status(self.name()).await?)
    }

    /// Waits until the guest's SSH server answers, within the time that the guest may take to boot, and returns where.
    ///
    /// # Errors
    /// At once when the VM is off, paused or crashed; at the bound with the last thing seen.
    pub async fn address(&self) -> Result<GuestAddress> {
        let host = &self.machine.host;
        let bound = host.boot_timeout(self.name()).await?;
        Ok(host.wait_for_address(self.name(), bound).await?)
    }

    /// Logs in, within the time that the guest may take to boot, and waits until its first boot has ended: from then on a
    /// power cut does no harm. The server must present the VM's own host key.
    ///
    /// # Errors
    /// As [`Self::address`]; a VM without a first boot; a first boot that failed.
    pub async fn login(&self) -> Result<Login> {
        let machine = &self.machine;
        let account = Account::of(&machine.spec, &machine.keys)?;
        let address = self.address().await?;
        let session = account.open(&*machine.host, self.name(), &address);
        let session = machine.while_running("a login over SSH", session).await?;
        if !machine.has_booted.load(Ordering::Acquire) {
            let ended = session.wait_first_boot();
            machine
                .while_running("the end of the first boot", ended)
                .await?;
            machine.has_booted.store(true, Ordering::Release);
        }
        Ok(Login::new(Arc::clone(machine), session))
    }

    /// Powers it on; nothing to do when it runs.
    pub async fn power_on(&self) -> Result<()> {
        Ok(self.machine.host.start_vm(self.name()).await?)
    }

    /// Cuts the power and turns it on again: what was not on disk is lost, as on a real device. Logins from before are
    /// worth nothing then.
    pub async fn power_cycle(&self) -> Result<()> {
        Ok(self.machine.host.power_cycle_vm(self.name()).await?)
    }

    /// Asks the guest to shut down and waits until it is off.
    ///
    /// # Errors
    /// When the guest is not off within `bound`; it is left running.
    pub async fn shut_down(&self, bound: Duration) -> Result<()> {
        Ok(self.machine.host.stop_vm(self.name(), bound).await?)
    }

    /// Waits until it no longer runs, however long that takes, and returns its state then.
    pub async fn wait_until_not_running(&self) -> Result<VmStatus> {
        let host = &self.machine.host;
        Ok(host.wait_until_not_running(self.name()).await?)
    }

    /// What the machine is known by: UUID, serial number, Ethernet addresses.
    pub async fn identity(&self) -> Result<MachineIdentity> {
        Ok(self.machine.host.identity(self.name()).await?)
    }

    /// What can be said about it when something went wrong: state, addresses, the console's tail.
    pub async fn diagnose(&self) -> String {
        self.machine.host.diagnose_vm(self.name()).await
    }

    /// Ends the use of this VM: an ephemeral one is removed with everything that was made for it, also when there are
    /// logins of it still; any other one runs on.
    ///
    /// # Errors
    /// When it cannot be removed. The removal is then tried again as if the handle had been dropped.
    pub async fn close(self) -> Result<()> {
        match &self.machine.lease {
            Some(lease) => lease.end().await,
            None => Ok(()),
        }
    }

    /// Cuts the power and removes the VM, ephemeral or not, with everything that was made for it.
    ///
    /// # Errors
    /// When it cannot be removed; calling it again on [what is found](super::Host::find) goes on.
    pub async fn destroy(self) -> Result<()> {
        if let Some(lease) = &self.machine.lease {
            return lease.end().await;
        }
        let destroyed = self.machine.host.destroy_vm(self.name()).await;
        destroyed.map(|_| ()).map_err(Error::from)
    }
}
