//! Makes the device's reports and publishes them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iot_contracts::{
    AgentStatus, DeploymentName, DeviceId, OWN_BOOT_ID, RefusedEntry, UpdateStatus,
};
use tokio::sync::watch;

use crate::error::chain;
use crate::followed::Followed;
use crate::heartbeat::Heartbeats;
use crate::nats::{Nats, NatsError};
use crate::problems::Problems;
use crate::reconcile::Statuses;
use crate::report::{BUDGET, fitted};
use crate::told::Told;
use crate::update::Proving;

/// Where the kernel tells its boot id.
pub const KERNELS_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The longest wait for another try when a report could not be published.
const RETRY: Duration = Duration::from_secs(3);

/// How long an id is.
const UUID_CHARS: usize = 36;

/// What stays the same in all reports of one agent.
#[derive(Debug, Clone)]
pub struct Identity {
    device_id: DeviceId,
    boot_id: String,
    operator_keys: usize,
}

impl Identity {
    /// This device, by the name `device_id`, which obeys that many operator keys.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its boot id.
    pub fn of_this_device(device_id: DeviceId, operator_keys: usize) -> std::io::Result<Self> {
        Ok(Self {
            device_id,
            boot_id: boot_id(Path::new(OWN_BOOT_ID), Path::new(KERNELS_BOOT_ID))?,
            operator_keys,
        })
    }

    fn report(&self, sequence: u64, watched: &mut Watched) -> AgentStatus {
        let problems = watched.problems();
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
            operator_keys: self.operator_keys,
            deployments: watched.statuses.borrow_and_update().clone(),
            problems,
            shortened: false,
            deployments_left_out: 0,
            update: Some(watched.update.borrow_and_update().clone()),
        }
    }
}

/// The boot's id: that of `own`, where a restored guest has one, else the `kernel`'s.
fn boot_id(own: &Path, kernel: &Path) -> std::io::Result<String> {
    let is_id = |text: &str| {
        let is_digit = |c: char| c.is_ascii_hexdigit() || c == '-';
        text.len() == UUID_CHARS && text.chars().all(is_digit)
    };
    let own = std::fs::read_to_string(own).unwrap_or_default();
    match own.trim() {
        own if is_id(own) => Ok(own.to_owned()),
        _ => Ok(std::fs::read_to_string(kernel)?.trim().to_owned()),
    }
}

/// What reports are made of.
pub struct Watched {
    /// How the deployments fare.
    pub statuses: watch::Receiver<Statuses>,
    /// What is wrong.
    pub problems: watch::Receiver<Problems>,
    /// The same, for who finds something.
    pub tell: watch::Sender<Problems>,
    /// What is known of the desired state, for what of it is not obeyed.
    pub known: watch::Receiver<Followed>,
    /// How the agent's own program fares.
    pub update: watch::Receiver<UpdateStatus>,
}

impl Watched {
    fn problems(&mut self) -> Vec<String> {
        let known = self.known.borrow();
        self.problems.borrow_and_update().told(known.refused())
    }

    fn tell_of_credentials(&self, error: Option<String>) {
        self.tell.send_if_modified(|problems| {
            let is_news = problems.credentials != error;
            if let Some(error) = error.as_ref().filter(|_| is_news) {
                tracing::warn!(error, "renewed NATS credentials are not used");
            }
            problems.credentials = error;
            is_news
        });
    }

    /// Waits until other entries than `refused` are not obeyed.
    async fn other_refused(
        known: &mut watch::Receiver<Followed>,
        refused: &[(DeploymentName, RefusedEntry)],
    ) -> Result<(), watch::error::RecvError> {
        let is_other = |known: &Followed| {
            let now = known.refused();
            !now.eq(refused.iter().map(|(name, entry)| (name, entry)))
        };
        known.wait_for(is_other).await.map(drop)
    }
}

/// Publishes at once, at each change, at each new connection and at each heartbeat, which is when it looks whether the
/// credentials were renewed. A report which cannot be published is not kept: the next one says it all. `proving` is told of
/// each that was stored. Ends when the others have.
///
/// # Errors
///
/// The kernel's timer fails.
pub async fn run(
    nats: &Nats,
    identity: &Identity,
    mut watched: Watched,
    heartbeats: &Heartbeats,
    proving: &Proving<'_>,
) -> std::io::Result<()> {
    let mut connections = nats.connections();
    let mut sequence = 0;
    let mut told = Told::default();
    loop {
        connections.mark_unchanged();
        sequence += 1;
        let proof = proving.now();
        let report = identity.report(sequence, &mut watched);
        let refused: Vec<_> = {
            let known = watched.known.borrow();
            let refused = known.refused();
            refused
                .map(|(name, entry)| (name.clone(), entry.clone()))
                .collect()
        };
        let retry = match nats.publish_status(&fitted(report, BUDGET)).await {
            Ok(()) => {
                proving.stored(proof);
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
            beat = heartbeats.next() => {
                beat?;
                watched.tell_of_credentials(nats.take_up_credentials().await);
            }
            changed = watched.statuses.changed() => if changed.is_err() { return Ok(()) },
            changed = watched.update.changed() => if changed.is_err() { return Ok(()) },
            changed = watched.problems.changed() => if changed.is_err() { return Ok(()) },
            changed = Watched::other_refused(&mut watched.known, &refused) => {
                if changed.is_err() { return Ok(()) }
            }
            changed = connections.changed() => if changed.is_err() { return Ok(()) },
            () = proving.proves_more_than(proof) => {}
            () = tokio::time::sleep(retry) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::boot_id;

    #[test]
    fn a_restored_guest_has_a_boot_id_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (own, kernel) = (dir.path().join("own"), dir.path().join("kernel"));
        let id = |n: char| format!("6f0c2ab5-13bd-4c36-8f0e-0a3f6f2b1a7{n}");
        assert!(boot_id(&own, &kernel).is_err());
        std::fs::write(&kernel, format!("{}\n", id('1'))).unwrap();
        assert_eq!(boot_id(&own, &kernel).unwrap(), id('1'));
        for odd in ["", "\n", "x", "6f0c2ab5\n6f0c2ab5", &"x".repeat(36)] {
            std::fs::write(&own, odd).unwrap();
            assert_eq!(boot_id(&own, &kernel).unwrap(), id('1'), "{odd:?}");
        }
        std::fs::write(&own, format!("{}\n", id('2'))).unwrap();
        assert_eq!(boot_id(&own, &kernel).unwrap(), id('2'));
    }
}
