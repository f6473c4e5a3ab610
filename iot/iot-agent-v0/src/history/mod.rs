//! What the agent remembers between two looks: since when a container does what it does, what failed, and when it is
//! tried again. All of it is only for patience: a new agent begins without and comes to the same end.

mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iot_contracts::ImageReference;
use tokio::time::Instant;

pub use self::seen::Seen;
use crate::container::{ContainerKey, ContainerState, Health, ObservedContainer, Role};

/// How long a container has to run to be taken for one that stays up.
pub const STEADY: Duration = Duration::from_secs(10);

/// The wait after a first failure; it doubles with each further one, up to [`LAST_RETRY`].
pub const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest wait after a failure.
pub const LAST_RETRY: Duration = Duration::from_secs(30);

/// The wait before what was given up is tried a second time; it doubles up to [`LAST_SECOND_TRY`].
pub const FIRST_SECOND_TRY: Duration = Duration::from_secs(60);

/// The longest wait before what was given up is tried again.
pub const LAST_SECOND_TRY: Duration = Duration::from_secs(3600);

/// How often what was given up is tried again: each try stops what runs. A new agent begins to count anew.
pub const MAX_SECOND_TRIES: u32 = 8;

/// The wait before an image is tried again for which there was no space.
pub const NO_SPACE_RETRY: Duration = Duration::from_secs(300);

/// How often it is tried to remove a damaged image within [`MENDED_FOR`]: each container that is of it stands in the way.
const MAX_MENDED: u32 = 3;

/// How long an image that was fetched anew is not taken for damaged again.
const MENDED_FOR: Duration = Duration::from_secs(6 * 3600);

/// How long to wait after that many failures in a row.
pub fn retry_after(failures: u32) -> Duration {
    doubled(FIRST_RETRY, failures).min(LAST_RETRY)
}

/// `first`, doubled with each time after the first.
fn doubled(first: Duration, times: u32) -> Duration {
    match times {
        0 => Duration::ZERO,
        n => first.saturating_mul(2_u32.saturating_pow(n - 1)),
    }
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub text: String,
    /// How often in a row.
    pub times: u32,
    /// When it is tried again.
    pub retry_at: Instant,
}

impl Failure {
    fn again(before: Option<&Self>, text: String, now: Instant, wait: fn(u32) -> Duration) -> Self {
        let times = before.map_or(0, |failure| failure.times).saturating_add(1);
        Self {
            text,
            times,
            retry_at: now + wait(times),
        }
    }
}

/// What was given up for what ran before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct GivenUp {
    digest: String,
    failure: Failure,
}

/// An image that was seen to be damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Damage {
    since: Instant,
    /// How often it was removed since then, or tried to be.
    mended: u32,
    /// The containers that have seen it since it was last removed. It may be their own fault: a file that they were given.
    seen_by: BTreeSet<ContainerKey>,
    /// Whether its registry has shown since that it has another one.
    replaceable: bool,
}

impl Damage {
    /// Whether it has not been removed since it was seen.
    fn is_open(&self) -> bool {
        !self.seen_by.is_empty()
    }
}

/// Steps of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attempt {
    /// What was there before.
    before: Vec<ObservedContainer>,
    /// Whether all of them succeeded.
    succeeded: bool,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub struct History {
    containers: BTreeMap<String, Seen>,
    failures: BTreeMap<ContainerKey, Failure>,
    given_up: BTreeMap<ContainerKey, GivenUp>,
    pulls: BTreeMap<ImageReference, Failure>,
    /// Images that were fetched, and of which nothing has failed since.
    fetched: BTreeSet<ImageReference>,
    started: BTreeSet<ContainerKey>,
    attempts: BTreeMap<ContainerKey, Attempt>,
    damages: BTreeMap<ImageReference, Damage>,
}

impl History {
    /// Takes in what is there now.
    pub fn look(&mut self, containers: &[ObservedContainer], now: Instant) {
        let ids: BTreeSet<_> = containers.iter().map(|container| &container.id).collect();
        self.containers.retain(|id, _| ids.contains(id));
        for container in containers {
            let is_current = container.role == Role::Current;
            let started = is_current && self.started.remove(&container.key);
            let steady = self
                .containers
                .entry(container.id.clone())
                .and_modify(|seen| seen.update(container, now))
                .or_insert_with(|| Seen::new(container, started, now))
                .is_steady(now);
            let stays = steady || container.is_done();
            if is_current && stays && self.given_up(&container.key, &container.digest).is_some() {
                self.given_up.remove(&container.key);
            }
            // What an earlier agent gave up.
            if container.role == Role::Failed && !self.given_up.contains_key(&container.key) {
                let text = match container.state {
                    _ if container.health == Some(Health::Unhealthy) => "unhealthy".to_owned(),
                    ContainerState::Exited { code } => format!("exited with code {code}"),
                    _ => "did not start".to_owned(),
                };
                self.give_up(&container.key, &container.digest, text, now);
            }
        }
    }

    /// What was seen of a container; `None` for one that no look has found.
    pub fn seen(&self, id: &str) -> Option<&Seen> {
        self.containers.get(id)
    }

    /// The container of `key` was started since the last look.
    pub fn started(&mut self, key: &ContainerKey) {
        self.started.insert(key.clone());
    }

    /// The steps of `key` failed.
    pub fn failed(&mut self, key: &ContainerKey, text: String, now: Instant) {
        let failure = Failure::again(self.failures.get(key), text, now, retry_after);
        self.failures.insert(key.clone(), failure);
        self.attempts.remove(key);
    }

    /// The steps of `key` begin.
    pub fn begins(&mut self, key: &ContainerKey, containers: &[ObservedContainer]) {
        let attempt = Attempt {
            before: of(key, containers),
            succeeded: false,
        };
        self.attempts.insert(key.clone(), attempt);
    }

    /// All steps of `key` succeeded, as Podman says.
    pub fn succeeded(&mut self, key: &ContainerKey) {
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.succeeded = true;
        }
    }

    /// Steps that succeeded and changed nothing have failed as well, or they would be done again and again. Those of
    /// `worked_on` were not over when `containers` were seen.
    pub fn judge(
        &mut self,
        containers: &[ObservedContainer],
        worked_on: &BTreeSet<ContainerKey>,
        now: Instant,
    ) {
        let over = |key: &ContainerKey, attempt: &mut Attempt| {
            attempt.succeeded && !worked_on.contains(key)
        };
        let over: Vec<_> = self.attempts.extract_if(.., over).collect();
        for (key, attempt) in over {
            if !attempt.before.is_empty() && attempt.before == of(&key, containers) {
                self.failed(
                    &key,
                    "it is as it was before it was changed".to_owned(),
                    now,
                );
            } else {
                self.failures.remove(&key);
            }
        }
    }

    /// Forgets the failures of containers that shall become something else, and what was given up for them.
    pub fn forget_failures(&mut self, is_other: impl Fn(&ContainerKey) -> bool) {
        self.failures.retain(|key, _| !is_other(key));
        self.given_up.retain(|key, _| !is_other(key));
    }

    /// How the steps of `key` failed last.
    pub fn failure(&self, key: &ContainerKey) -> Option<&Failure> {
        self.failures.get(key)
    }

    /// What `digest` stands for did not stay up, and what ran before comes back.
    pub fn give_up(&mut self, key: &ContainerKey, digest: &str, text: String, now: Instant) {
        let wait = |times| doubled(FIRST_SECOND_TRY, times).min(LAST_SECOND_TRY);
        let before = self
            .given_up
            .get(key)
            .filter(|given_up| given_up.digest == digest);
        let failure = Failure::again(before.map(|given_up| &given_up.failure), text, now, wait);
        let digest = digest.to_owned();
        self.given_up
            .insert(key.clone(), GivenUp { digest, failure });
    }

    /// Why what `digest` stands for was given up, and when it is tried again.
    pub fn given_up(&self, key: &ContainerKey, digest: &str) -> Option<&Failure> {
        let given_up = self.given_up.get(key)?;
        (given_up.digest == digest).then_some(&given_up.failure)
    }

    /// The same, while it is not tried again: it waits for that, or has had its [`MAX_SECOND_TRIES`].
    pub fn rests(&self, key: &ContainerKey, digest: &str, now: Instant) -> Option<&Failure> {
        let given_up = self.given_up(key, digest)?;
        (now < given_up.retry_at || given_up.times > MAX_SECOND_TRIES).then_some(given_up)
    }

    /// An image was not to be had.
    pub fn pull_failed(&mut self, image: &ImageReference, text: String, now: Instant) {
        let failure = Failure::again(self.pulls.get(image), text, now, retry_after);
        self.pulls.insert(image.clone(), failure);
    }

    /// There was no space for an image. Each try fetches it from its beginning, and writes.
    pub fn no_space_for(&mut self, image: &ImageReference, text: String, now: Instant) {
        let failure = Failure::again(self.pulls.get(image), text, now, |_| NO_SPACE_RETRY);
        self.pulls.insert(image.clone(), failure);
    }

    /// An image is there.
    pub fn pulled(&mut self, image: &ImageReference) {
        self.pulls.remove(image);
        self.fetched.insert(image.clone());
        self.replaceable(image);
    }

    /// Whether an image was fetched. It is believed to be there, whatever name Podman has for it, until something fails.
    pub fn is_fetched(&self, image: &ImageReference) -> bool {
        self.fetched.contains(image)
    }

    /// Something failed that was of this image.
    pub fn doubts(&mut self, image: &ImageReference) {
        self.fetched.remove(image);
    }

    /// Why an image was not to be had.
    pub fn pull_failure(&self, image: &ImageReference) -> Option<&Failure> {
        self.pulls.get(image)
    }

    /// By the container of `key` an image is damaged, or of another machine: no pull helps against that.
    pub fn damaged(&mut self, image: &ImageReference, key: &ContainerKey, now: Instant) {
        let new = || Damage {
            since: now,
            mended: 0,
            seen_by: BTreeSet::new(),
            replaceable: false,
        };
        let damage = self.damages.entry(image.clone()).or_insert_with(new);
        if now - damage.since >= MENDED_FOR {
            *damage = new();
        }
        damage.seen_by.insert(key.clone());
    }

    /// An image is removed because it is damaged.
    pub fn mends(&mut self, image: &ImageReference) {
        self.doubts(image);
        if let Some(damage) = self.damages.get_mut(image) {
            damage.mended += 1;
            damage.seen_by.clear();
            damage.replaceable = false;
        }
    }

    /// An image was removed because it is damaged; that it is removed again would help no more.
    pub fn mended(&mut self, image: &ImageReference) {
        if let Some(damage) = self.damages.get_mut(image) {
            damage.mended = MAX_MENDED;
        }
    }

    /// Whether an image was seen to be damaged by the container of `key` since it was last removed.
    pub fn is_damaged(&self, image: &ImageReference, key: &ContainerKey) -> bool {
        let damage = self.damages.get(image);
        damage.is_some_and(|damage| damage.seen_by.contains(key))
    }

    /// A registry has an image, whatever is there of it.
    pub fn replaceable(&mut self, image: &ImageReference) {
        if let Some(damage) = self.damages.get_mut(image) {
            damage.replaceable = damage.is_open();
        }
    }

    /// Whether an image shall be removed and fetched anew.
    pub fn is_to_be_mended(&self, image: &ImageReference) -> bool {
        let damage = self.mendable(image);
        damage.is_some_and(|damage| damage.replaceable)
    }

    /// Whether it shall be, once its registry has shown that it has another one.
    pub fn wants_replacement(&self, image: &ImageReference) -> bool {
        let damage = self.mendable(image);
        damage.is_some_and(|damage| !damage.replaceable)
    }

    fn mendable(&self, image: &ImageReference) -> Option<&Damage> {
        let damage = self.damages.get(image)?;
        (damage.is_open() && damage.mended < MAX_MENDED).then_some(damage)
    }

    /// Forgets what is about nothing that is desired or there.
    pub fn keep_only(&mut self, keys: &BTreeSet<ContainerKey>, images: &BTreeSet<ImageReference>) {
        self.failures.retain(|key, _| keys.contains(key));
        self.given_up.retain(|key, _| keys.contains(key));
        self.attempts.retain(|key, _| keys.contains(key));
        self.started.retain(|key| keys.contains(key));
        self.pulls.retain(|image, _| images.contains(image));
        self.fetched.retain(|image| images.contains(image));
        self.damages.retain(|image, _| images.contains(image));
        for damage in self.damages.values_mut() {
            damage.seen_by.retain(|key| keys.contains(key));
        }
    }
}

fn of(key: &ContainerKey, containers: &[ObservedContainer]) -> Vec<ObservedContainer> {
    let of_key = containers.iter().filter(|container| container.key == *key);
    of_key.cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::time::Instant;

    use super::{History, LAST_RETRY, retry_after};
    use crate::container::ContainerKey;

    #[test]
    fn nothing_is_remembered_of_what_is_neither_desired_nor_there() {
        let key = ContainerKey {
            deployment: "web".parse().unwrap(),
            service: "a".parse().unwrap(),
        };
        let image = "host/x:1".parse().unwrap();
        let now = Instant::now();
        let mut history = History::default();
        history.started(&key);
        history.failed(&key, String::new(), now);
        history.give_up(&key, "d", String::new(), now);
        history.begins(&key, &[]);
        history.pulled(&image);
        history.pull_failed(&image, String::new(), now);
        history.damaged(&image, &key, now);
        history.keep_only(&BTreeSet::new(), &BTreeSet::new());
        let nothing = format!("{:?}", History::default());
        assert_eq!(format!("{history:?}"), nothing);
    }

    #[test]
    fn the_backoff_is_bounded() {
        let seconds = [0, 1, 2, 3, 4, 5, 6, 7, 40, u32::MAX].map(|n| retry_after(n).as_secs());
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 30, 30, 30, 30]);
        assert_eq!(retry_after(u32::MAX), LAST_RETRY);
    }
}
