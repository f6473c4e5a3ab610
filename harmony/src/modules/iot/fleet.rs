//! Many virtual devices at once.
//!
//! As many at a time as the host has cores: emulated guests that share a core only wait for each other. A device
//! that fails is removed and made anew once; the others go on.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use tracing::{info, warn};

use crate::domain::error::{ErrorKind, ExecutorError, HintedError, error_chain};
use crate::domain::interpret::{Change, Interpret, Outcome};
use crate::domain::inventory::Inventory;
use crate::domain::score::Score;
use crate::domain::topology::virtualization::{
    NetworkCard, PortForward, VirtualMachineHost, VmNetwork, VmStatus,
};
use crate::modules::kvm::topology::KvmVirtualMachineHost;

use super::platform::Platform;
use super::virtual_device::{ReadyDevice, Stages, VirtualDevice, bring_up};

mod memory;

/// How often a device is tried.
const ATTEMPTS: u32 = 2;

/// What is wrong with a fleet, or has become of it.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Two devices would be one.
    #[error("two devices of the fleet have the {what} '{value}' (expected one each)")]
    Duplicate {
        /// What they share.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The host has not the memory.
    #[error(
        "{count} more devices need {needed_mib} MiB of memory (expected at most {available_mib} MiB, which this host has free)"
    )]
    Memory {
        /// How many are to be made or started.
        count: usize,
        /// What they may use.
        needed_mib: u64,
        /// What is free.
        available_mib: u64,
    },
    /// Some are not there.
    #[error("{} of {count} devices failed:{}", failed.len(), listed(failed))]
    Partial {
        /// How many there should be.
        count: usize,
        /// Those that failed.
        failed: Vec<FailedDevice>,
    },
    /// Some are still there.
    #[error("{} of {count} devices could not be removed:{}", failed.len(), listed(failed))]
    NotRemoved {
        /// How many there should be none of.
        count: usize,
        /// Those that are there.
        failed: Vec<FailedDevice>,
    },
}

fn listed(failed: &[FailedDevice]) -> String {
    let lines = failed.iter().map(|device| {
        let error = error_chain(&device.error).replace('\n', " ");
        format!("\n  {}: {error}", device.name)
    });
    lines.collect()
}

impl HintedError for FleetError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Duplicate { .. } => ErrorKind::InvalidRequest,
            Self::Memory { .. } => ErrorKind::Unavailable,
            Self::Partial { .. } | Self::NotRemoved { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Duplicate { .. } => {
                "a device id is the machine's name in lower case, with '-' for '_' and '.'; a port of the host leads to one \
                 guest; UUIDs and Ethernet addresses are made for each device that is given none"
                    .to_owned()
            }
            Self::Memory {
                count,
                needed_mib,
                available_mib,
            } => {
                let each = needed_mib / (*count).max(1) as u64;
                let fit = available_mib / each.max(1);
                format!(
                    "make at most {fit} of them, give each less memory, or allow overcommitment"
                )
            }
            Self::Partial { .. } => {
                "run it again: devices that are ready stay as they are".to_owned()
            }
            Self::NotRemoved { .. } => "run it again: it goes on".to_owned(),
        })
    }
}

/// A device that did not become ready.
#[derive(Debug)]
pub struct FailedDevice {
    /// The machine's name.
    pub name: String,
    /// Why, the last time.
    pub error: ExecutorError,
    /// The machine's state and the end of its console, then.
    pub diagnosis: String,
}

/// What became of a fleet.
#[derive(Debug, Default)]
pub struct Fleet {
    /// The devices that report, in the order of the request.
    pub ready: Vec<ReadyDevice>,
    /// Those that do not.
    pub failed: Vec<FailedDevice>,
}

/// Brings up all devices, at most `concurrency` at a time, or as many as the host has cores. `ended` hears of each
/// device as it becomes ready or fails.
///
/// # Errors
/// [`FleetError::Duplicate`] and [`FleetError::Memory`] before anything is made. What befalls single devices is in
/// the [`Fleet`].
pub async fn bring_up_fleet(
    host: &KvmVirtualMachineHost,
    platform: &Platform,
    inventory: &Inventory,
    devices: &[VirtualDevice],
    concurrency: Option<NonZeroUsize>,
    ended: impl Fn(Result<&ReadyDevice, &FailedDevice>),
) -> Result<Fleet, ExecutorError> {
    check_distinct(devices)?;
    memory::check(host, devices).await?;
    let at_once = match concurrency {
        Some(at_once) => at_once.get(),
        None => cores(host).await,
    };
    info!(devices = devices.len(), at_once, "bringing up");
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    let mut waiting = devices.iter().enumerate();
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < at_once
            && let Some((index, device)) = waiting.next()
        {
            let outcome = try_device(host, platform, inventory, device);
            under_way.push(indexed(index, outcome));
        }
        let Some((index, outcome)) = under_way.next().await else {
            break;
        };
        ended(outcome.as_ref());
        match outcome {
            Ok(device) => ready.push((index, device)),
            Err(device) => failed.push((index, device)),
        }
    }
    ready.sort_by_key(|(index, _)| *index);
    failed.sort_by_key(|(index, _)| *index);
    Ok(Fleet {
        ready: ready.into_iter().map(|(_, device)| device).collect(),
        failed: failed.into_iter().map(|(_, device)| device).collect(),
    })
}

/// Removes the machines of that names, as many at a time as the host has cores, and returns which were there.
///
/// # Errors
/// [`FleetError::NotRemoved`] when some could not be removed; all others are.
pub async fn destroy_fleet(
    host: &KvmVirtualMachineHost,
    names: &[String],
) -> Result<Vec<String>, ExecutorError> {
    let each = names
        .iter()
        .map(|name| async move { (name, host.destroy_vm(name).await) });
    let removed = stream::iter(each).buffered(cores(host).await);
    let removed: Vec<_> = removed.collect().await;
    let (mut existed, mut failed) = (Vec::new(), Vec::new());
    for (name, outcome) in removed {
        match outcome {
            Ok(true) => existed.push(name.clone()),
            Ok(false) => {}
            Err(error) => failed.push(FailedDevice {
                name: name.clone(),
                error,
                diagnosis: host.diagnose_vm(name).await,
            }),
        }
    }
    if failed.is_empty() {
        return Ok(existed);
    }
    let count = names.len();
    Err(FleetError::NotRemoved { count, failed }.into())
}

/// How many guests are handled at a time unless the caller says otherwise.
async fn cores(host: &KvmVirtualMachineHost) -> usize {
    let count = host.facts().await.cpu.count;
    usize::try_from(count).unwrap_or(1).max(1)
}

async fn indexed<T>(index: usize, outcome: impl Future<Output = T>) -> (usize, T) {
    (index, outcome.await)
}

/// One device, and a second time when it could not be made.
async fn try_device(
    host: &KvmVirtualMachineHost,
    platform: &Platform,
    inventory: &Inventory,
    device: &VirtualDevice,
) -> Result<ReadyDevice, FailedDevice> {
    let name = &device.spec.name;
    let mut attempt = 1;
    loop {
        let before = host.vm_status(name).await;
        let stages = Stages::default();
        let error = match bring_up(host, platform, inventory, device, stages).await {
            Ok(ready) => return Ok(ready),
            Err(error) => error,
        };
        let diagnosis = host.diagnose_vm(name).await;
        // What was there before this run is somebody's; what never works is not tried again.
        let again = attempt < ATTEMPTS
            && matches!(before, Ok(VmStatus::Absent))
            && !matches!(
                error.kind(),
                ErrorKind::InvalidRequest | ErrorKind::Conflict
            );
        if !again {
            return Err(FailedDevice {
                name: name.clone(),
                error,
                diagnosis,
            });
        }
        let reason = error_chain(&error);
        warn!(device = %name, reason, diagnosis, "failed, making it anew");
        if let Err(error) = host.destroy_vm(name).await {
            return Err(FailedDevice {
                name: name.clone(),
                error,
                diagnosis,
            });
        }
        attempt += 1;
    }
}

fn check_distinct(devices: &[VirtualDevice]) -> Result<(), FleetError> {
    let mut seen = BTreeSet::new();
    for (what, value) in devices.iter().flat_map(its_own) {
        if !seen.insert((what, value.clone())) {
            return Err(FleetError::Duplicate { what, value });
        }
    }
    Ok(())
}

/// What no other device may have.
fn its_own(device: &VirtualDevice) -> Vec<(&'static str, String)> {
    let spec = &device.spec;
    let mut own = vec![
        ("name", spec.name.clone()),
        ("device id", device.agent.device_id.to_string()),
    ];
    own.extend(spec.uuid.map(|uuid| ("UUID", uuid.to_string())));
    for card in &spec.networks {
        let mac = card.mac.as_ref();
        own.extend(mac.map(|mac| ("Ethernet address", mac.to_lowercase())));
        own.extend(forwards(card).iter().map(|forward| {
            let port = format!("{} ({:?})", forward.host, forward.protocol).to_lowercase();
            ("forwarded port", port)
        }));
    }
    own
}

fn forwards(card: &NetworkCard) -> &[PortForward] {
    match &card.network {
        VmNetwork::User { forwards } => forwards,
        VmNetwork::Nat { .. } | VmNetwork::Bridge { .. } => &[],
    }
}

/// Virtual devices that should exist and report.
#[derive(Debug, Clone)]
pub struct ProvisionVirtualDevicesScore {
    /// The devices.
    pub devices: Vec<VirtualDevice>,
    /// Where they report.
    pub platform: Platform,
    /// How many are made at a time; as many as the host has cores unless said.
    pub concurrency: Option<NonZeroUsize>,
}

impl Score<KvmVirtualMachineHost> for ProvisionVirtualDevicesScore {
    fn name(&self) -> String {
        format!("ProvisionVirtualDevices({})", self.devices.len())
    }

    fn create_interpret(&self) -> Box<dyn Interpret<KvmVirtualMachineHost>> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Interpret<KvmVirtualMachineHost> for ProvisionVirtualDevicesScore {
    async fn execute(
        &self,
        inventory: &Inventory,
        host: &KvmVirtualMachineHost,
    ) -> Result<Outcome, ExecutorError> {
        let (devices, at_once) = (&self.devices, self.concurrency);
        let fleet = bring_up_fleet(host, &self.platform, inventory, devices, at_once, |_| {});
        let Fleet { ready, failed } = fleet.await?;
        let count = devices.len();
        if !failed.is_empty() {
            return Err(FleetError::Partial { count, failed }.into());
        }
        let change = ready.iter().map(|device| device.change);
        Ok(Outcome {
            change: change.fold(Change::Unchanged, Change::or),
            message: format!("{count} devices report"),
            details: ready.iter().map(ReadyDevice::summary).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
