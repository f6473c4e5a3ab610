//! Brings what is there to what is desired, again and again.
//!
//! A look observes, plans, begins what is to be done and publishes how everything fares. What is being done goes on
//! beside: nothing waits for anything else, and each end of something is followed by a look. What a change overtakes is
//! dropped where it stands: the next look goes on from what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use iot_contracts::{DeploymentName, DeploymentStatus, ImageReference, RegistryLogin};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::assess::{Ran, assess, unknown};
use crate::container::{ContainerKey, ObservedContainer};
use crate::desired::{DesiredState, Target};
use crate::error::{chain, masked};
use crate::flights::{Done, Flights, starts_only};
use crate::history::{History, retry_after};
use crate::plan::{Plan, Step, World, desired_keys, goal, plan};
use crate::room::ages::Ages;
use crate::room::keeper::Keeper;
use crate::room::{Image, Space};
use crate::sight::Sight;
use crate::told::Told;
use crate::watchdog::Watchdog;

/// The longest time between two looks while there is something to be kept running: what has vanished, or has ended
/// unnoticed, is back after it.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The same while something is being done. Podman's service is up then, and a look costs little.
pub const BUSY_INTERVAL: Duration = Duration::from_secs(8);

/// The shortest time to a look for which nothing but time gives a reason.
const SOONEST: Duration = Duration::from_millis(100);

/// How long after the end of a container it is looked at: Podman notices a little later.
const ENDED_PAUSE: Duration = Duration::from_millis(500);

/// How often it is looked at after that, for [`ENDED_FOR`]: a slow device's Podman notices a little later still.
const ENDED_INTERVAL: Duration = Duration::from_secs(2);

/// How long after its end a container may be listed as running.
const ENDED_FOR: Duration = Duration::from_secs(5);

/// The time between two looks while there is nothing to be kept running. Each look starts Podman's service, which takes
/// an emulated guest a second of processor time.
const IDLE_INTERVAL: Duration = Duration::from_secs(300);

/// The longest time between two looks while Podman cannot be seen. Asking costs a connection to a socket, and
/// at boot the user's Podman comes up a while after the agent.
const BLIND_INTERVAL: Duration = Duration::from_secs(8);

/// How long a look may take until the loop counts as hanging. Podman may take a minute to say what is there, and nothing
/// else is waited for longer than a moment.
const LONGEST_LOOK: Duration = Duration::from_secs(300);

/// How each deployment fares.
pub type Statuses = BTreeMap<DeploymentName, DeploymentStatus>;

/// What runs containers. Each call may be cancelled at any await.
pub trait Executor {
    /// Why it could not.
    type Error: std::error::Error + 'static;

    /// The agent's own containers.
    async fn observe(&self) -> Result<Vec<ObservedContainer>, Self::Error>;

    /// The containers that are not there any more, and whose volumes wait for the next ones.
    fn orphans(&self) -> BTreeSet<ContainerKey>;

    /// Waits until a container that ran has ended, as far as that can be noticed without asking.
    async fn ended(&self);

    /// Whether an image is on the device.
    async fn has_image(&self, image: &ImageReference) -> Result<bool, Self::Error>;

    /// Fetches an image, and has it on the disk. Its registry is logged in to where `login` says how.
    async fn pull(
        &self,
        image: &ImageReference,
        login: Option<&RegistryLogin>,
    ) -> Result<(), Self::Error>;

    /// Does one step; one that is done already succeeds.
    async fn execute(&self, step: &Step) -> Result<(), Self::Error>;

    /// The images on the device.
    async fn images(&self) -> Result<Vec<Image>, Self::Error>;

    /// Removes an image, unless a container is of it.
    async fn discard(&self, image: &Image) -> Result<(), Self::Error>;

    /// The space for images; `None` when it cannot be told.
    async fn space(&self) -> Option<Space>;

    /// Whether a step failed because the image of its container is damaged.
    fn is_damage(error: &Self::Error) -> bool;

    /// Whether something failed for want of space.
    fn is_no_space(error: &Self::Error) -> bool;
}

/// Reconciles until `desired` has no sender any more. `ran` is what ran before the agent started. `nothing_since` is when
/// it was last seen that no container of the agent's is there, if it was: until something is desired, the first look can
/// wait as any other. In `dir` is written down what the next agent goes on with. `watchdog` hears that this goes on.
pub async fn run<E: Executor>(
    executor: &E,
    mut desired: watch::Receiver<DesiredState>,
    statuses: &watch::Sender<Statuses>,
    ran: Ran,
    nothing_since: Option<Instant>,
    dir: Option<&Path>,
    watchdog: &Watchdog<'_>,
) {
    let target = desired.borrow_and_update().clone();
    let mut reconciler = Reconciler {
        statuses,
        flights: Flights::new(executor),
        history: History::default(),
        target,
        ran,
        nothing_since,
        blind: 0,
        told: Told::default(),
        keeper: Keeper::new(Ages::of(dir.map(Path::to_owned)), Instant::now()),
        watchdog,
    };
    let mut sight = Sight::new(executor);
    let mut due = reconciler.next_look(Instant::now());
    let mut ended = None;
    loop {
        let changed = tokio::select! {
            biased;
            changed = desired.changed() => Some(changed),
            done = reconciler.flights.next() => {
                reconciler.note(done);
                due = Instant::now();
                None
            }
            () = sight.late() => {
                due = Instant::now();
                None
            }
            () = executor.ended() => {
                let now = Instant::now();
                ended = Some(now + ENDED_FOR);
                due = due.min(now + ENDED_PAUSE);
                None
            }
            () = watchdog.due() => {
                watchdog.goes_on();
                None
            }
            () = tokio::time::sleep_until(due) => None,
        };
        match changed {
            Some(Ok(())) => {
                reconciler.change(desired.borrow_and_update().clone());
                due = reconciler.next_look(due);
            }
            Some(Err(_)) => return,
            None => {}
        }
        if due > Instant::now() {
            continue;
        }
        due = match reconciler.look(&mut sight, &mut desired).await {
            Some(due) => due,
            None => return,
        };
        let now = Instant::now();
        if ended.is_some_and(|until| now < until) {
            due = due.min(now + ENDED_INTERVAL);
        }
    }
}

struct Reconciler<'a, E: Executor> {
    statuses: &'a watch::Sender<Statuses>,
    flights: Flights<'a, E>,
    history: History,
    target: DesiredState,
    ran: Ran,
    nothing_since: Option<Instant>,
    /// How many looks in a row have found no Podman.
    blind: u32,
    told: Told,
    keeper: Keeper,
    watchdog: &'a Watchdog<'a>,
}

impl<'a, E: Executor> Reconciler<'a, E> {
    /// Takes over what is desired, and ends what that overtakes.
    fn change(&mut self, target: DesiredState) {
        let before = std::mem::replace(&mut self.target, target);
        let target = &self.target;
        let images = desired_images(target);
        self.flights.overtake(|key| goal(target, key).0, &images);
        self.history
            .forget_failures(|key| goal(&before, key).0 != goal(target, key).0);
        self.blind = 0;
    }

    /// The time of the next look after a change, when it would have been `due` without.
    fn next_look(&self, due: Instant) -> Instant {
        match self.nothing_since {
            Some(since) if self.target.names().next().is_none() => due.max(since + IDLE_INTERVAL),
            _ => Instant::now(),
        }
    }

    fn note(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Chain {
                key,
                started,
                result,
                damaged,
                mended,
                no_space,
            } => {
                if let Some(image) = mended {
                    self.history.mended(&image);
                }
                if no_space {
                    self.keeper.wants_space();
                }
                if started {
                    self.history.started(&key);
                }
                match result {
                    Ok(()) => self.history.succeeded(&key),
                    Err(error) => {
                        let error = masked(&error, secrets(&self.target, &key));
                        tracing::warn!(container = %key, error, "step failed");
                        self.history.failed(&key, error, now);
                        if let (_, Some(service)) = goal(&self.target, &key) {
                            self.history.doubts(service.image());
                            if damaged {
                                self.history.damaged(service.image(), &key, now);
                            }
                        }
                    }
                }
            }
            Done::Pull {
                image,
                result,
                damaged,
                no_space,
            } => match result {
                Ok(()) => {
                    tracing::info!(%image, "image is there");
                    self.history.pulled(&image);
                }
                Err(error) => {
                    let error = masked(&error, logins(&self.target));
                    if damaged {
                        self.history.replaceable(&image);
                    }
                    tracing::warn!(%image, error, "image is not to be had");
                    if no_space {
                        self.keeper.wants_space();
                        self.history.no_space_for(&image, error, now);
                    } else {
                        self.history.pull_failed(&image, error, now);
                    }
                }
            },
            Done::Sweep(unused) => self.keeper.swept(unused, now),
            Done::Nothing => {}
        }
    }

    /// Looks at what is there and begins what is to be done; gives the time of the next look, or `None` at the end of
    /// everything. What is being done goes on meanwhile, and so do changes.
    async fn look(
        &mut self,
        sight: &mut Sight<'a, E>,
        desired: &mut watch::Receiver<DesiredState>,
    ) -> Option<Instant> {
        let mut worked_on = self.flights.containers();
        let mut again = false;
        self.nothing_since = None;
        let target = self.target.clone();
        let looking = sight.look(&target, self.flights.pulls());
        tokio::pin!(looking);
        let since = Instant::now();
        let seen = loop {
            tokio::select! {
                biased;
                changed = desired.changed() => {
                    changed.ok()?;
                    self.change(desired.borrow_and_update().clone());
                    again = true;
                }
                done = self.flights.next() => {
                    self.note(done);
                    again = true;
                }
                seen = &mut looking => break seen,
                () = self.watchdog.due(), if since.elapsed() < LONGEST_LOOK => {
                    self.watchdog.goes_on();
                }
            }
        };
        // What was begun before the look may have been seen half done.
        worked_on.extend(self.flights.containers());
        let now = Instant::now();
        let sees = seen.is_ok();
        let due = match seen {
            Ok(world) => self.act(&world, &worked_on, now),
            Err(error) => self.cannot_see(&chain(&error), now),
        };
        self.watchdog.looked(&self.target, sees);
        Some(if again { now } else { due })
    }

    fn act(&mut self, world: &World, worked_on: &BTreeSet<ContainerKey>, now: Instant) -> Instant {
        self.blind = 0;
        self.tell_blindness(None);
        self.history.look(&world.containers, now);
        self.history.judge(&world.containers, worked_on, now);
        let mut plan = plan(&self.target, world, &self.history, now);
        let images = desired_images(&self.target);
        self.history
            .keep_only(&plan.keys().cloned().collect(), &images);
        let held_back = self.begin(&plan, world, worked_on, now);
        let (flights, history) = (&mut self.flights, &mut self.history);
        if self
            .keeper
            .pull(flights, history, &plan, world.space, &images)
        {
            plan = crate::plan::plan(&self.target, world, &self.history, now);
        }
        let assessed = assess(&self.target, &plan, world, &self.history, &self.ran);
        self.ran = ran(&assessed);
        publish(self.statuses, assessed);
        if plan.is_empty() && self.target.names().next().is_none() {
            self.nothing_since = Some(now);
            return now + IDLE_INTERVAL;
        }
        let pulls = plan.values().filter_map(|verdict| {
            let failure = self.history.pull_failure(verdict.image.as_ref()?)?;
            (failure.retry_at > now).then_some(failure.retry_at)
        });
        let waits = plan
            .values()
            .filter_map(|verdict| verdict.look_at)
            .chain(pulls);
        let interval = match self.flights.is_empty() && !held_back && world.unseen.is_empty() {
            true => LOOK_INTERVAL,
            false => BUSY_INTERVAL,
        };
        let at = waits.min().unwrap_or(now + interval);
        at.clamp(now + SOONEST, now + interval)
    }

    /// Begins what is to be done, starts first; whether something has to wait for its turn.
    fn begin(
        &mut self,
        plan: &Plan,
        world: &World,
        worked_on: &BTreeSet<ContainerKey>,
        now: Instant,
    ) -> bool {
        let mut to_do: Vec<_> = plan
            .iter()
            .filter(|(key, verdict)| !verdict.steps.is_empty() && !worked_on.contains(key))
            .collect();
        to_do.sort_by_key(|(_, verdict)| !starts_only(&verdict.steps));
        let mut held_back = false;
        for (key, verdict) in to_do {
            if !self.flights.begin(key, &verdict.goal, &verdict.steps) {
                held_back = true;
                continue;
            }
            self.history.begins(key, &world.containers);
            if let Some(image) = &verdict.mends {
                tracing::warn!(container = %key, %image, "the image is damaged, it is fetched anew");
                self.history.mends(image);
            }
            if let Some((digest, reason)) = &verdict.gives_up {
                tracing::warn!(container = %key, reason, "given up, the one before comes back");
                self.history.give_up(key, digest, reason.clone(), now);
            }
        }
        held_back
    }

    /// Without Podman nothing is known of any deployment.
    fn cannot_see(&mut self, error: &str, now: Instant) -> Instant {
        self.blind = self.blind.saturating_add(1);
        let known: Vec<_> = self
            .statuses
            .borrow()
            .keys()
            .chain(self.target.names())
            .cloned()
            .collect();
        let (target, ran) = (&self.target, &self.ran);
        let failed = known.into_iter().map(|name| {
            let status = unknown(target, &name, ran, error);
            (name, status)
        });
        publish(self.statuses, failed.collect());
        self.tell_blindness(Some(error));
        now + retry_after(self.blind).min(BLIND_INTERVAL)
    }

    /// Tells why the containers cannot be seen, once for as long as it stays the same.
    fn tell_blindness(&mut self, error: Option<&str>) {
        if self.told.is_news(error) {
            match error {
                Some(error) => tracing::warn!(error, "cannot see the containers"),
                None => tracing::info!("sees the containers again"),
            }
        }
    }
}

fn desired_images(target: &DesiredState) -> BTreeSet<ImageReference> {
    let keys = desired_keys(target);
    keys.values()
        .map(|service| service.image().clone())
        .collect()
}

/// All that the deployment of `key` has and nobody may see.
fn secrets<'a>(target: &'a DesiredState, key: &ContainerKey) -> impl Iterator<Item = &'a str> {
    let services = match target.target(&key.deployment) {
        Target::Services(services) => services,
        Target::Absent | Target::Hold => &[],
    };
    services.iter().flat_map(|service| service.secrets())
}

/// The passwords of registries.
fn logins(target: &DesiredState) -> Vec<&str> {
    let services = desired_keys(target).into_values();
    let logins = services.filter_map(|service| service.definition.registry_login.as_ref());
    logins.map(|login| login.password.expose()).collect()
}

/// What ran, by these statuses.
pub fn ran(statuses: &Statuses) -> Ran {
    let all = statuses.iter();
    all.filter_map(|(name, status)| Some((name.clone(), status.ran.clone()?)))
        .collect()
}

fn publish(statuses: &watch::Sender<Statuses>, new: Statuses) {
    statuses.send_if_modified(|old| {
        let changed = *old != new;
        *old = new;
        changed
    });
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
