//! The loops of the agent and what flows between them.

use std::cell::Cell;

use iot_contracts::DeviceId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Loaded;
use crate::desired::DesiredState;
use crate::follow::Follower;
use crate::heartbeat::Heartbeats;
use crate::keep::{self, Gate, Keeper, Kept};
use crate::nats::Nats;
use crate::order::Rules;
use crate::problems::Problems;
use crate::reconcile::{self, Executor, Statuses};
use crate::status::{self, Identity};
use crate::update::{Progress, Proving, Updater};
use crate::watchdog::ServiceManager;

/// What is told where signed orders are obeyed, and nothing outlives the agent.
const NOT_KEPT: &str = "the counters of signed orders are not kept on the device (expected a STATE_DIRECTORY): \
    after a restart an older order is obeyed again";

/// Runs until `updater` has placed another program, which takes this one's place. Dropping it leaves the containers as
/// they are. `keeper` is where the desired state is kept, if it is; `nothing_since` is for [`reconcile::run`]; `manager`
/// hears that the containers are looked after, and what reports prove.
///
/// # Errors
///
/// The kernel gives no timer for the heartbeats.
pub async fn run<E: Executor>(
    config: &Loaded,
    identity: Identity,
    executor: &E,
    keeper: Option<&Keeper>,
    nothing_since: Option<Instant>,
    manager: &ServiceManager,
    updater: &Updater,
) -> std::io::Result<()> {
    let (kept, ignored) = keeper.map(Keeper::recall).unwrap_or_default();
    let rules = Rules::of(config.config());
    let waits = rules.are_signed() && keeper.is_some();
    let Kept { memory, ran } = kept;
    let known = watch::Sender::new(memory.obeying(rules.clone()));
    // What was kept may be older than what runs: until the platform is asked, nothing is removed by it.
    let desired = watch::Sender::new(known.borrow().desired_unasked());
    // What is ordered, where that is not obeyed before it is kept.
    let ordered = watch::Sender::new(DesiredState::default());
    let signing = rules.are_signed() && keeper.is_none();
    let problems = watch::Sender::new(Problems {
        recalling: ignored,
        signing: signing.then(|| NOT_KEPT.to_owned()),
        ..Problems::default()
    });
    let statuses = watch::Sender::new(Statuses::new());
    let (release, update) = (
        watch::Sender::new(None),
        watch::Sender::new(updater.status()),
    );
    let device_id: &DeviceId = config.device_id();
    tracing::info!(%device_id, version = env!("CARGO_PKG_VERSION"), "agent starts");
    let heartbeats = Heartbeats::every(config.config().heartbeat_seconds.duration())?;
    let progress = Progress::default();
    let proving = Proving {
        progress: &progress,
        desired: &desired,
        manager,
        updater,
        told: Cell::default(),
    };
    let platform = async {
        let nats = Nats::connect(config).await;
        let follower = Follower {
            nats: &nats,
            device_id,
            key: nats.key(),
            known: &known,
            desired: if waits { &ordered } else { &desired },
            problems: &problems,
            release: &release,
            progress: &progress,
        };
        let watched = status::Watched {
            statuses: statuses.subscribe(),
            problems: problems.subscribe(),
            tell: problems.clone(),
            known: known.subscribe(),
            update: update.subscribe(),
        };
        // The first report goes out before anything is asked of the platform.
        tokio::select! {
            biased;
            ended = status::run(&nats, &identity, watched, &heartbeats, &proving) => ended,
            () = follower.run() => Ok(()),
        }
    };
    let keeping = async {
        match keeper {
            Some(keeper) => {
                let gate = waits.then(|| Gate {
                    ordered: ordered.subscribe(),
                    desired: &desired,
                });
                let watched = keep::Watched {
                    known: known.subscribe(),
                    statuses: statuses.subscribe(),
                    gate,
                };
                keeper.run(watched, ran.clone(), &problems).await;
            }
            None => std::future::pending().await,
        }
    };
    let watchdog = manager.watchdog().noting(&progress);
    let dir = keeper.map(Keeper::dir);
    // What runs is looked after from the first moment on, also while NATS cannot be reached.
    tokio::select! {
        ended = platform => ended,
        () = keeping => Ok(()),
        () = updater.run(release.subscribe(), &update, &progress) => {
            tracing::info!("ends for its update, which the launcher tries");
            Ok(())
        }
        () = reconcile::run(executor, desired.subscribe(), &statuses, ran.clone(), nothing_since, dir, &watchdog) => Ok(()),
    }
}
