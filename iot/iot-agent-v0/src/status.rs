//! Makes the device's reports and publishes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iot_contracts::{AgentStatus, DeviceId, UpdateStatus};
use tokio::sync::watch;

use crate::error::chain;
use crate::heartbeat::Heartbeats;
use crate::nats::{Nats, NatsError};
use crate::problems::Problems;
use crate::reconcile::Statuses;
use crate::report::{BUDGET, fitted};
use crate::told::Told;
use crate::watchdog::{REPORTED, ServiceManager};

/// Where the kernel tells its boot id.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The longest wait for another try when a report could not be published.
const RETRY: Duration = Duration::from_secs(3);

/// What stays the same in all reports of one agent.
#[derive(Debug, Clone)]
pub struct Identity {
    device_id: DeviceId,
    boot_id: String,
}

impl Identity {
    /// This device, by the name `device_id`.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its boot id.
    pub fn of_this_device(device_id: DeviceId) -> std::io::Result<Self> {
        let boot_id = std::fs::read_to_string(BOOT_ID)?.trim().to_owned();
        Ok(Self { device_id, boot_id })
    }

    fn report(&self, sequence: u64, reported: &mut Reported) -> AgentStatus {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        AgentStatus {
            device_id: self.device_id.clone(),
            timestamp_unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            boot_id: self.boot_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            sequence,
            deployments: reported.statuses.borrow_and_update().clone(),
            problems: reported.problems.borrow_and_update().told(),
            shortened: false,
            update: Some(reported.update.borrow_and_update().clone()),
        }
    }
}

/// What is reported.
pub struct Reported {
    /// How each deployment fares.
    pub statuses: watch::Receiver<Statuses>,
    /// What is wrong.
    pub problems: watch::Receiver<Problems>,
    /// How the agent's own program fares.
    pub update: watch::Receiver<UpdateStatus>,
}

/// Publishes at once, at each change, at each new connection and at each heartbeat. A report which cannot be
/// published is not kept: the next one says it all. `manager` hears of the first that was stored. Ends when the others
/// have.
///
/// # Errors
///
/// The kernel's timer fails.
pub async fn run(
    nats: &Nats,
    identity: &Identity,
    mut reported: Reported,
    heartbeats: &Heartbeats,
    manager: &ServiceManager,
) -> std::io::Result<()> {
    let mut connections = nats.connections();
    let mut sequence = 0;
    let mut told = Told::default();
    let mut has_reported = false;
    loop {
        connections.mark_unchanged();
        sequence += 1;
        let report = identity.report(sequence, &mut reported);
        let retry = match nats.publish_status(&fitted(report, BUDGET)).await {
            Ok(()) => {
                if !has_reported {
                    has_reported = manager.tell(REPORTED);
                }
                if told.is_news(None) {
                    tracing::info!("status published again");
                }
                Duration::MAX
            }
            // The client has told so already.
            Err(NatsError::Disconnected) => RETRY,
            Err(error) => {
                let error = chain(&error);
                if told.is_news(Some(&error)) {
                    tracing::warn!(error, "status not published");
                }
                RETRY
            }
        };
        tokio::select! {
            beat = heartbeats.next() => beat?,
            changed = reported.statuses.changed() => if changed.is_err() { return Ok(()) },
            changed = reported.update.changed() => if changed.is_err() { return Ok(()) },
            changed = reported.problems.changed() => if changed.is_err() { return Ok(()) },
            changed = connections.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(retry) => {}
        }
    }
}
