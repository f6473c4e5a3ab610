//! The three loops of the agent and what flows between them.

use iot_contracts::DeviceId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Loaded;
use crate::desired::DesiredState;
use crate::heartbeat::Heartbeats;
use crate::nats::Nats;
use crate::reconcile::{self, Executor, Statuses};
use crate::status::{self, Identity};

/// Runs for ever. Dropping it leaves the containers as they are. `nothing_since` is for [`reconcile::run`].
///
/// # Errors
///
/// The kernel gives no timer for the heartbeats.
pub async fn run<E: Executor>(
    config: &Loaded,
    identity: Identity,
    executor: &E,
    nothing_since: Option<Instant>,
) -> std::io::Result<()> {
    let desired = watch::Sender::new(DesiredState::default());
    let statuses = watch::Sender::new(Statuses::new());
    let device_id: &DeviceId = config.device_id();
    tracing::info!(%device_id, version = env!("CARGO_PKG_VERSION"), "agent starts");
    let heartbeats = Heartbeats::every(config.config().heartbeat_seconds.duration())?;
    let platform = async {
        let nats = Nats::connect(config).await;
        // The first report goes out before anything is asked of the platform.
        tokio::select! {
            biased;
            ended = status::run(&nats, &identity, statuses.subscribe(), &heartbeats) => ended,
            () = nats.follow_desired_state(device_id, &desired) => Ok(()),
        }
    };
    // What runs is looked after from the first moment on, also while NATS cannot be reached.
    tokio::select! {
        ended = platform => ended,
        () = reconcile::run(executor, desired.subscribe(), &statuses, nothing_since) => Ok(()),
    }
}
