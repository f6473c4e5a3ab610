//! The capability itself: a host on which virtual machines are made, reached, changed and removed.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use serde::Serialize;

use super::VirtualMachineSpec;
use super::identity::MachineIdentity;
use super::network::{NetworkCard, NetworkHandle};
use super::storage::{DataDisk, DiskHandle};
use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
use crate::domain::topology::Topology;

/// What to do when a VM of that name exists and differs from the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// Report the differences as an error and touch nothing.
    #[default]
    Refuse,
    /// Destroy the VM with its disk and make it anew.
    Replace,
}

/// What ensuring a VM did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ensured {
    /// It existed as specified and was running.
    Unchanged,
    /// It existed as specified and was started.
    Started,
    /// It was made and started.
    Created,
    /// It differed, was destroyed, made anew and started.
    Replaced,
}

/// The state of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum VmStatus {
    /// There is no VM of that name.
    Absent,
    /// It is defined and off.
    Off,
    /// It executes.
    Running,
    /// It is stopped while on; the reason is the hypervisor's.
    Paused(String),
    /// It died; the reason is the hypervisor's.
    Crashed(String),
}

impl fmt::Display for VmStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Off => f.write_str("off"),
            Self::Running => f.write_str("running"),
            Self::Paused(reason) => write!(f, "paused ({reason})"),
            Self::Crashed(reason) => write!(f, "crashed ({reason})"),
        }
    }
}

/// Where a guest's SSH answers, seen from its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestAddress {
    /// The address to connect to; 127.0.0.1 for a forwarded port.
    pub ip: IpAddr,
    /// The TCP port of SSH.
    pub ssh_port: u16,
    /// The guest's SSH host key in OpenSSH's one-line form, known before the first connection; none
    /// for a VM without a first boot.
    pub host_key: Option<String>,
}

/// A host that can run virtual machines.
#[async_trait]
pub trait VirtualMachineHost: Topology {
    /// Makes the VM exist as specified, and run.
    ///
    /// # Guarantees
    /// The same spec again changes nothing. A VM that this library did not make is never touched. A
    /// failure while making it leaves nothing behind. A VM that is replaced keeps its identity, unless the
    /// spec has another; it is touched only after everything that can be checked before has been.
    ///
    /// # Errors
    /// A spec that is wrong or that this host cannot run; a VM that differs, unless `on_change` is
    /// [`OnChange::Replace`]; a name that is taken by someone else's VM; a failure of the host.
    async fn ensure_vm(
        &self,
        spec: &VirtualMachineSpec,
        on_change: OnChange,
    ) -> Result<Ensured, ExecutorError>;

    /// Powers the VM on; nothing to do when it runs.
    async fn start_vm(&self, name: &str) -> Result<(), ExecutorError>;

    /// Asks the guest to shut down and waits until it is off.
    ///
    /// # Errors
    /// When the guest is not off within `timeout`; it is left running.
    async fn stop_vm(&self, name: &str, timeout: Duration) -> Result<(), ExecutorError>;

    /// Cuts the power and turns it on again: what was not on disk is lost, as on a real device.
    async fn power_cycle_vm(&self, name: &str) -> Result<(), ExecutorError>;

    /// Puts a VM back to the checkpoint that it was made from: memory, disk and variable store as they were saved.
    /// It is the same machine, and its guest has the same names; what was done in the guest since is gone, and its
    /// SSH host key is a new one.
    ///
    /// # Errors
    /// A VM that was booted, or whose checkpoint is not there or was altered: it stays as it is. When it cannot be
    /// restored, it is gone.
    async fn reset(&self, name: &str) -> Result<(), ExecutorError>;

    /// Cuts the power and removes the VM with everything that was made for it. Returns whether there
    /// was one.
    async fn destroy_vm(&self, name: &str) -> Result<bool, ExecutorError>;

    /// Plugs a disk into the running guest. It is there until it is unplugged or the power is cut: a VM
    /// that starts has what its spec says. A blank disk's file goes with the VM: plugged in again by its tag,
    /// it has what was written to it.
    ///
    /// # Errors
    /// A disk that is not valid, a tag that is taken, a blank disk of another size than it had before, a VM
    /// that does not run, no room left on the bus.
    async fn attach_disk(&self, name: &str, disk: &DataDisk) -> Result<DiskHandle, ExecutorError>;

    /// Unplugs a disk from the running guest and waits until the guest has let go of it.
    ///
    /// # Errors
    /// No such disk, a VM that does not run, a guest that does not let go within 60 s.
    async fn detach_disk(&self, name: &str, disk: &DiskHandle) -> Result<(), ExecutorError>;

    /// Plugs a network card into the running guest, with the life of a plugged-in disk.
    ///
    /// # Errors
    /// A card that is not valid, a VM that does not run, a network that is not there, no room left on the
    /// bus.
    async fn attach_network(
        &self,
        name: &str,
        card: &NetworkCard,
    ) -> Result<NetworkHandle, ExecutorError>;

    /// Unplugs a network card from the running guest and waits until the guest has let go of it.
    ///
    /// # Errors
    /// As [`detach_disk`](Self::detach_disk).
    async fn detach_network(&self, name: &str, card: &NetworkHandle) -> Result<(), ExecutorError>;

    /// What the machine is known by: to be stored, and given back to a spec with
    /// [`VirtualMachineSpec::with_identity`].
    ///
    /// # Errors
    /// When there is no such VM.
    async fn identity(&self, name: &str) -> Result<MachineIdentity, ExecutorError>;

    /// The VM's state.
    async fn vm_status(&self, name: &str) -> Result<VmStatus, ExecutorError>;

    /// Waits until the guest's SSH server answers, and returns where. `timeout` bounds the wait;
    /// [`boot_timeout`](Self::boot_timeout) is the bound that fits the guest's accelerator.
    ///
    /// # Errors
    /// At once when the VM is off, paused or crashed; at the bound with the last thing seen.
    async fn wait_for_address(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<GuestAddress, ExecutorError>;

    /// Waits until the VM no longer runs, however long that takes, and returns its state then.
    async fn wait_until_not_running(&self, name: &str) -> Result<VmStatus, ExecutorError>;

    /// How long this guest may take to boot: longer when it is emulated.
    async fn boot_timeout(&self, name: &str) -> Result<Duration, ExecutorError>;

    /// What can be said about the VM when something went wrong: state, addresses, the console's tail.
    async fn diagnose_vm(&self, name: &str) -> String;
}

/// A VM that stopped while something of its guest was awaited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the virtual machine '{name}' is {status} while waiting for {awaited}")]
pub struct StoppedWhileWaiting {
    /// The VM.
    pub name: String,
    /// Its state.
    pub status: VmStatus,
    /// What was awaited.
    pub awaited: &'static str,
}

impl HintedError for StoppedWhileWaiting {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn hint(&self) -> Option<String> {
        Some("its console log and QEMU's own log say what happened".to_owned())
    }
}

/// Awaits something of a VM's guest, and fails at once when the VM stops, pauses or crashes: what is awaited
/// would never come, and its own bound may be many minutes away.
///
/// # Errors
/// [`StoppedWhileWaiting`], or the error of what is awaited.
pub async fn while_running<T>(
    host: &(impl VirtualMachineHost + ?Sized),
    name: &str,
    awaited: &'static str,
    waited: impl Future<Output = Result<T, ExecutorError>>,
) -> Result<T, ExecutorError> {
    let stopped = host.wait_until_not_running(name);
    match select(std::pin::pin!(waited), stopped).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right((Ok(status), _)) => Err(StoppedWhileWaiting {
            name: name.to_owned(),
            status,
            awaited,
        }
        .into()),
        Either::Right((Err(error), _)) => Err(error),
    }
}
