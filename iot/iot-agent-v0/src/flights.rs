//! What is being done at the moment: the steps of containers and the pulls of images, each beside the others.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{AbortHandle, abortable};
use futures::stream::FuturesUnordered;
use iot_contracts::{ImageReference, RegistryLogin};
use tokio::time::Instant;

use crate::container::ContainerKey;
use crate::error::chain;
use crate::plan::{Action, Goal, Step};
use crate::reconcile::Executor;
use crate::room::ages::Ages;
use crate::room::{Space, Unused, Wanted, sweep};

/// The most containers that are worked on at a time.
const MAX_CHAINS: usize = 8;

/// The most of them that are not only started.
const MAX_LONG_CHAINS: usize = 4;

/// The most with those that only wait for a container to stop.
const MAX_ALL_CHAINS: usize = 64;

/// A container that takes longer to stop makes room for another one: it may take ten minutes, as its score says.
const LONG_STOP: Duration = Duration::from_secs(20);

/// The most images that are pulled at a time.
const MAX_PULLS: usize = 8;

/// The most that are pulled at a time at the beginning of their pulls.
const MAX_YOUNG_PULLS: usize = 2;

/// A pull that takes longer makes room for another one: its registry may be one that never answers.
const YOUNG: Duration = Duration::from_secs(60);

/// How often it is looked at while an image is pulled how much space there is.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Something that was done.
#[derive(Debug)]
pub enum Done {
    /// The steps of a container.
    Chain {
        /// The container.
        key: ContainerKey,
        /// Whether one of them started it.
        started: bool,
        /// Why one of them failed.
        result: Result<(), String>,
        /// Whether it failed because its image is damaged.
        damaged: bool,
        /// The image that was removed because it is.
        mended: Option<ImageReference>,
        /// Whether it failed for want of space.
        no_space: bool,
    },
    /// A pull.
    Pull {
        /// The image.
        image: ImageReference,
        /// Why it failed.
        result: Result<(), String>,
        /// Whether it failed because what is there of it is damaged.
        damaged: bool,
        /// Whether there was no space for it.
        no_space: bool,
    },
    /// Unused images were removed; since when the others are unused.
    Sweep(Unused),
    /// It was overtaken.
    Nothing,
}

type Flight<'a> = Pin<Box<dyn Future<Output = Done> + 'a>>;

#[derive(Debug)]
struct Chain {
    goal: Goal,
    starts_only: bool,
    /// Since when it has waited for a container to stop, if it does.
    stopping: Rc<Cell<Option<Instant>>>,
    abort: AbortHandle,
}

impl Chain {
    fn only_waits(&self, now: Instant) -> bool {
        let since = self.stopping.get();
        since.is_some_and(|since| now - since >= LONG_STOP)
    }
}

#[derive(Debug)]
struct Pull {
    since: Instant,
    abort: AbortHandle,
}

/// All that is being done. Dropping it leaves everything where it stands.
pub struct Flights<'a, E> {
    executor: &'a E,
    flying: FuturesUnordered<Flight<'a>>,
    chains: BTreeMap<ContainerKey, Chain>,
    pulls: BTreeMap<ImageReference, Pull>,
    sweeps: bool,
    wanted: Rc<Wanted>,
}

impl<'a, E: Executor> Flights<'a, E> {
    /// Nothing yet.
    pub fn new(executor: &'a E) -> Self {
        Self {
            executor,
            flying: FuturesUnordered::new(),
            chains: BTreeMap::new(),
            pulls: BTreeMap::new(),
            sweeps: false,
            wanted: Rc::default(),
        }
    }

    /// Whether nothing is being done.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.pulls.is_empty() && !self.sweeps
    }

    /// Whether images are being pulled.
    pub fn pulls(&self) -> bool {
        !self.pulls.is_empty()
    }

    /// Whether unused images are being removed.
    pub fn sweeps(&self) -> bool {
        self.sweeps
    }

    /// Begins to remove images that are not `wanted` and have been unused for long, or stand in the way of the reserve. The
    /// `ages` of the others are written down.
    pub fn sweep(&mut self, wanted: BTreeSet<ImageReference>, unused: Unused, ages: Ages) {
        if !self.sweeps {
            self.sweeps = true;
            self.wanted.replace(wanted);
            let (executor, wanted) = (self.executor, self.wanted.clone());
            self.fly(async move {
                let unused = sweep(executor, &wanted, unused).await;
                ages.keep(&unused).await;
                Ok(Done::Sweep(unused))
            });
        }
    }

    /// The containers that are being worked on.
    pub fn containers(&self) -> BTreeSet<ContainerKey> {
        self.chains.keys().cloned().collect()
    }

    /// Waits for the next thing that is done; for ever while nothing is being done. Can be dropped at any time.
    pub async fn next(&mut self) -> Done {
        loop {
            let Some(done) = self.flying.next().await else {
                return std::future::pending().await;
            };
            match &done {
                Done::Chain { key, .. } => drop(self.chains.remove(key)),
                Done::Pull { image, .. } => drop(self.pulls.remove(image)),
                Done::Sweep(_) => self.sweeps = false,
                Done::Nothing => continue,
            }
            return done;
        }
    }

    /// Begins the steps of `key`, unless too much is being done.
    pub fn begin(&mut self, key: &ContainerKey, goal: &Goal, steps: &[Action]) -> bool {
        let starts_only = starts_only(steps);
        let now = Instant::now();
        let chains = self.chains.values();
        let at_work: Vec<_> = chains.filter(|chain| !chain.only_waits(now)).collect();
        let long = at_work.iter().filter(|chain| !chain.starts_only).count();
        if self.chains.len() >= MAX_ALL_CHAINS
            || at_work.len() >= MAX_CHAINS
            || (!starts_only && long >= MAX_LONG_CHAINS)
        {
            return false;
        }
        let steps = steps.iter().cloned().map(|action| Step {
            key: key.clone(),
            action,
        });
        let stopping: Rc<Cell<Option<Instant>>> = Rc::default();
        let (work, abort) = abortable(work(
            self.executor,
            key.clone(),
            steps.collect(),
            stopping.clone(),
        ));
        let chain = Chain {
            goal: goal.clone(),
            starts_only,
            stopping,
            abort,
        };
        self.chains.insert(key.clone(), chain);
        self.fly(work);
        true
    }

    /// How many images are being pulled from a registry.
    pub fn pulls_from(&self, registry: &str) -> usize {
        let images = self.pulls.keys();
        images
            .filter(|image| registry_of(image) == registry)
            .count()
    }

    /// Whether `image` is being pulled.
    pub fn is_pulled(&self, image: &ImageReference) -> bool {
        self.pulls.contains_key(image)
    }

    /// Begins to pull `image`, unless it is being pulled or too much is. Gives the image whose pull gave way to it.
    pub fn pull(
        &mut self,
        image: &ImageReference,
        login: Option<&RegistryLogin>,
        now: Instant,
    ) -> Option<ImageReference> {
        let young = self.pulls.values().filter(|pull| now - pull.since < YOUNG);
        if self.is_pulled(image) || young.count() >= MAX_YOUNG_PULLS {
            return None;
        }
        let mut gave_way = None;
        if self.pulls.len() >= MAX_PULLS {
            let other = self.gives_way_to(registry_of(image), now)?;
            if let Some(pull) = self.pulls.remove(&other) {
                pull.abort.abort();
            }
            gave_way = Some(other);
        }
        let (executor, reference, login) = (self.executor, image.clone(), login.cloned());
        let (pull, abort) = abortable(async move {
            let (damaged, no_space, result) = tokio::select! {
                result = executor.pull(&reference, login.as_ref()) => (
                    result.as_ref().is_err_and(E::is_damage),
                    result.as_ref().is_err_and(E::is_no_space),
                    result.map_err(|error| chain(&error)),
                ),
                space = eaten(executor) => (false, true, Err(space.to_string())),
            };
            Done::Pull {
                image: reference,
                result,
                damaged,
                no_space,
            }
        });
        self.pulls.insert(image.clone(), Pull { since: now, abort });
        self.fly(pull);
        gave_way
    }

    /// The pull that gives way to one from `registry`: the oldest one from the registry with the most, which may be one
    /// that never answers. Registries that have equal shares leave each other in peace.
    fn gives_way_to(&self, registry: &str, now: Instant) -> Option<ImageReference> {
        let own = self.pulls_from(registry);
        let old = self
            .pulls
            .iter()
            .filter(|(_, pull)| now - pull.since >= YOUNG);
        let all = old.map(|(image, pull)| {
            let others = self.pulls_from(registry_of(image));
            (others, Reverse(pull.since), image)
        });
        let (_, _, image) = all
            .filter(|(others, ..)| own == 0 || *others > own + 1)
            .max()?;
        Some(image.clone())
    }

    fn fly(&self, work: impl Future<Output = Result<Done, futures::future::Aborted>> + 'a) {
        self.flying
            .push(Box::pin(async move { work.await.unwrap_or(Done::Nothing) }));
    }

    /// Ends what is done for something that is not desired any more. A pull goes on for as long as anyone wants its image.
    pub fn overtake(
        &mut self,
        goal: impl Fn(&ContainerKey) -> Goal,
        images: &BTreeSet<ImageReference>,
    ) {
        self.chains.retain(|key, chain| {
            let goal = goal(key);
            // That it shall run stays true when it becomes known what it shall be.
            let keeps =
                chain.goal == goal || (chain.starts_only && !matches!(goal, Goal::Absent(_)));
            if !keeps {
                tracing::info!(container = %key, "its steps are overtaken by a change");
                chain.abort.abort();
            }
            keeps
        });
        self.wanted.replace(images.clone());
        self.pulls.retain(|image, pull| {
            let keeps = images.contains(image);
            if !keeps {
                tracing::info!(%image, "not wanted any more, its pull is ended");
                pull.abort.abort();
            }
            keeps
        });
    }
}

/// Waits until half of the reserve has gone. A fast line fills a disk between two looks.
async fn eaten<E: Executor>(executor: &E) -> Space {
    loop {
        tokio::time::sleep(SPACE_INTERVAL).await;
        if let Some(space) = executor.space().await.filter(|space| space.is_critical()) {
            return space;
        }
    }
}

/// The registry of an image; empty for what Podman completes by its own rules.
pub fn registry_of(image: &ImageReference) -> &str {
    let name = image.as_str().split_once('/');
    name.map_or("", |(registry, _)| registry)
}

/// Whether `steps` do nothing but start.
pub fn starts_only(steps: &[Action]) -> bool {
    steps
        .iter()
        .all(|action| matches!(action, Action::Examine { .. } | Action::Start { .. }))
}

/// Does the steps in order, up to the first that fails. Where all of them only remove, none waits for another: what
/// cannot be removed keeps nothing else.
async fn work<E: Executor>(
    executor: &E,
    key: ContainerKey,
    steps: Vec<Step>,
    stopping: Rc<Cell<Option<Instant>>>,
) -> Done {
    let removes_only = steps
        .iter()
        .all(|step| matches!(step.action, Action::Remove { .. } | Action::RemoveVolumes));
    let (mut started, mut mended, mut failure) = (false, None, None);
    for step in steps {
        let stops = matches!(
            step.action,
            Action::Stop { .. } | Action::SetAside { .. } | Action::Remove { .. }
        );
        stopping.set(stops.then(Instant::now));
        started |= matches!(step.action, Action::Start { .. } | Action::Run(_));
        if let Err(error) = executor.execute(&step).await {
            failure.get_or_insert(error);
            match removes_only {
                true => continue,
                false => break,
            }
        }
        tell(&step);
        if let Action::RemoveImage { image } = step.action {
            mended = Some(image);
        }
    }
    Done::Chain {
        key,
        started,
        damaged: failure.as_ref().is_some_and(E::is_damage),
        no_space: failure.as_ref().is_some_and(E::is_no_space),
        result: failure.map_or(Ok(()), |error| Err(chain(&error))),
        mended,
    }
}

fn tell(step: &Step) {
    let what = match &step.action {
        Action::Examine { .. } => return,
        Action::RemoveImage { .. } => "removed the image",
        Action::Start { .. } => "started",
        Action::Stop { .. } => "stopped",
        Action::Unpause { .. } => "unpaused",
        Action::SetAside { .. } => "stopped and set aside",
        Action::Rename {
            role: crate::container::Role::Current,
            ..
        } => "brought back",
        Action::Rename { .. } => "set aside",
        Action::Create(_) => "created",
        Action::Run(_) => "created and started",
        Action::Remove { .. } => "removed",
        Action::RemoveVolumes => "removed its volumes",
    };
    tracing::info!(container = %step.key, what);
}
