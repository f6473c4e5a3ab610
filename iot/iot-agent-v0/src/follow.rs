//! Keeps what the device knows equal to its part of the desired-state bucket, wherever it may believe that.

use std::time::Duration;

use iot_contracts::{DeploymentName, DeviceId, UserKey, desired_state_key, not_separating};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff;
use crate::bucket::{Bucket, BucketError, Evidence};
use crate::changes::{Change, Changes};
use crate::desired::DesiredState;
use crate::error::chain;
use crate::followed::{Followed, Held};
use crate::found::{Found, sort, too_many};
use crate::nats::Nats;
use crate::notices::Notices;
use crate::problems::Problems;
use crate::update::{Progress, Wanted};

/// The wait after a first failure.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(4);
/// How long an answer may take at first; it doubles with each [`HASTY`] failures, up to [`LAST_ANSWER`].
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// The longest that an answer may take.
const LAST_ANSWER: Duration = Duration::from_secs(16);
/// How many failures in a row do not make the agent more patient: a cluster that chooses a new leader.
const HASTY: u32 = 5;
/// How long the bucket has to be followed until a failure counts as a first one.
const STEADY: Duration = Duration::from_secs(10);
/// How often the desired state is listed anew although nothing seems to be missing.
const RELIST: Duration = Duration::from_secs(10 * 60);
/// How soon a bucket without a marker is listed anew, which may have been made a moment ago; the wait doubles with each
/// further time, up to [`RELIST`].
const UNMARKED: Duration = Duration::from_secs(2);
/// How soon it is listed anew when there is room for what there was none for.
const ROOM: Duration = Duration::from_secs(2);

/// Why it is not followed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Held(#[from] Held),
    #[error("the bucket was made anew while it was listed")]
    MadeAnew,
    #[error("the listing came from a server that is behind: it has no {0}")]
    Behind(DeploymentName),
}

/// Follows the bucket for one device.
pub struct Follower<'a> {
    /// The connection.
    pub nats: &'a Nats,
    /// Whose desired state it is.
    pub device_id: &'a DeviceId,
    /// The device's key, where it has one of its own: then it reads with requests that name no other's keys.
    pub key: Option<&'a UserKey>,
    /// What is known.
    pub known: &'a watch::Sender<Followed>,
    /// What the containers shall become by that.
    pub desired: &'a watch::Sender<DesiredState>,
    /// What is wrong.
    pub problems: &'a watch::Sender<Problems>,
    /// What the agent's own program shall become.
    pub release: &'a watch::Sender<Option<Wanted>>,
    /// Where a listing is noted.
    pub progress: &'a Progress,
}

/// What tells of the device's keys.
enum Reading<'a> {
    /// The consumer that the platform made.
    Notices(Notices<'a>),
    /// One of its own.
    Changes(Box<Changes>),
}

impl Reading<'_> {
    async fn next(&mut self) -> Result<Change, BucketError> {
        match self {
            Self::Notices(notices) => notices.next().await,
            Self::Changes(changes) => changes.next().await,
        }
    }
}

impl Follower<'_> {
    /// Follows for ever.
    pub async fn run(&self) {
        let mut connections = self.nats.connections();
        let (mut failures, mut unmarked) = (0, 0);
        loop {
            connections.mark_unchanged();
            if !self.nats.is_connected() {
                if connections.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.look_at_the_server();
            let mut listed = None;
            let tried = Instant::now();
            let followed = tokio::select! {
                followed = self.follow(patience(failures), &mut listed, &mut unmarked) => followed,
                changed = connections.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            if followed.is_ok() || listed.is_some_and(|at: Instant| at.elapsed() >= STEADY) {
                failures = 0;
            }
            let Err(error) = followed else { continue };
            failures += 1;
            if let FollowError::Bucket(BucketError::Dead) = error {
                self.nats.connect_anew().await;
            }
            let mut why = chain(&error);
            if let FollowError::Held(_) = error {
                let known = self.known.borrow();
                let name = known.bucket_name();
                why += &format!(" (to follow it: a marker with a new id that replaces '{name}')");
            }
            self.tell(why);
            // Who has waited for an answer has waited.
            let least = backoff::wait(1, FIRST_RETRY, LAST_RETRY);
            let wait = backoff::wait(failures, FIRST_RETRY, LAST_RETRY);
            let wait = wait.saturating_sub(tried.elapsed()).max(least);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = connections.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Says when the server does not keep a device's identity apart from others'.
    fn look_at_the_server(&self) {
        let Some(version) = self.key.map(|_| self.nats.server_version()) else {
            return;
        };
        let old = not_separating(&version);
        self.problems.send_if_modified(|problems| {
            let is_news = problems.server != old;
            if let Some(old) = old.as_ref().filter(|_| is_news) {
                tracing::warn!("{old}");
            }
            problems.server = old;
            is_news
        });
    }

    /// Says why it is not followed, once for as long as it stays the same.
    fn tell(&self, error: String) {
        self.problems.send_if_modified(|problems| {
            let is_news = problems.following.as_ref() != Some(&error);
            if is_news {
                tracing::warn!(error, "desired state not followed");
                problems.following = Some(error);
            }
            is_news
        });
    }

    /// Lists, then follows until it is time to list anew.
    async fn follow(
        &self,
        patience: Duration,
        listed: &mut Option<Instant>,
        unmarked: &mut u32,
    ) -> Result<(), FollowError> {
        let bucket = Bucket::new(self.nats.context(), self.device_id, patience);
        let known = self.known.borrow().clone();
        if self.key.is_none() {
            bucket.end_last_reading().await?;
            self.nats.answered();
        }
        let seen = bucket.marker().await?;
        self.nats.answered();
        let mut found = Found::new(self.device_id, known.listing(seen.as_ref())?);
        let mut changes = self
            .list(&bucket, &known, |change| found.take(change))
            .await?;
        if bucket.marker().await? != seen {
            return Err(FollowError::MadeAnew);
        }
        let Found {
            listing,
            mut problems,
            release,
            count,
            ..
        } = found;
        let (mut memory, missing) = listing.end()?;
        if !missing.is_empty() {
            self.settle(&bucket, &mut memory, missing, &mut problems)
                .await?;
        }
        let revision = memory.revision();
        tracing::info!(count, revision, "desired state listed");
        self.take_over(memory, problems);
        self.wants(release);
        self.progress.listed();
        *listed = Some(Instant::now());
        *unmarked = if seen.is_none() { *unmarked + 1 } else { 0 };
        let relist = match unmarked {
            0 => RELIST,
            times => backoff::wait(*times, UNMARKED, RELIST),
        };
        let mut relist = Instant::now() + relist;
        loop {
            if self.known.borrow().has_room_again() {
                relist = relist.min(Instant::now() + ROOM);
            }
            match tokio::time::timeout_at(relist, changes.next()).await {
                Ok(change) => self.change(change?)?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Hands on the newest entry of each of the device's keys.
    async fn list<'b>(
        &self,
        bucket: &'b Bucket<'b>,
        known: &Followed,
        take: impl FnMut(Change),
    ) -> Result<Reading<'b>, BucketError> {
        if let Some(key) = self.key {
            let mut notices = Notices::begin(bucket, key).await?;
            notices.listing(known.there().cloned(), take).await?;
            return Ok(Reading::Notices(notices));
        }
        let mut changes = bucket.changes().await?;
        changes.listing(take).await?;
        Ok(Reading::Changes(Box::new(changes)))
    }

    /// Finds out what became of keys that were there and are not listed, without a mark of their deletion.
    async fn settle(
        &self,
        bucket: &Bucket<'_>,
        memory: &mut Followed,
        missing: Vec<DeploymentName>,
        problems: &mut Problems,
    ) -> Result<(), FollowError> {
        let mut keep = |names: &[DeploymentName], why: &str| {
            for name in names {
                let text = format!("not listed, {why}; it is kept until it is deleted");
                let key = desired_state_key(self.device_id, name);
                problems.note(key, text);
            }
        };
        let mut doubtful = Vec::new();
        for name in missing {
            match memory.never_vanishes(&name) {
                Some(why) => keep(&[name], why),
                None => doubtful.push(name),
            }
        }
        if doubtful.is_empty() {
            return Ok(());
        }
        if self.key.is_some() {
            keep(&doubtful, "and this device may not ask why");
            return Ok(());
        }
        let evidence = match bucket.evidence().await {
            Ok(evidence) => evidence,
            Err(error) => {
                let why = format!("and nobody can be asked ({})", chain(&error));
                keep(&doubtful, &why);
                return Ok(());
            }
        };
        if let Some(why) = judge(memory, &doubtful, &evidence, self.device_id)? {
            keep(&doubtful, why);
            return Ok(());
        }
        for name in &doubtful {
            tracing::info!(deployment = %name, "gone from the desired state");
            memory.vanished(name);
        }
        Ok(())
    }

    /// The outcome of a listing becomes what is known.
    fn take_over(&self, memory: Followed, new: Problems) {
        self.problems.send_if_modified(|problems| {
            let now = Problems {
                keeping: problems.keeping.clone(),
                credentials: problems.credentials.clone(),
                signing: problems.signing.clone(),
                server: problems.server.clone(),
                ..new
            };
            let is_news = *problems != now;
            *problems = now;
            is_news
        });
        self.learn(|known| *known = memory);
    }

    /// Another program of the agent's is wanted, or none.
    fn wants(&self, release: Option<Wanted>) {
        self.release.send_if_modified(|wanted| {
            let is_news = *wanted != release;
            *wanted = release;
            is_news
        });
    }

    fn change(&self, change: Change) -> Result<(), FollowError> {
        let change = match change {
            Change::Release(release) => {
                self.wants(release);
                return Ok(());
            }
            change => change,
        };
        if let Change::Expired(name) = &change {
            self.learn(|known| known.expired(name));
        }
        let mut all = self.problems.borrow().clone();
        let entry = sort(change, self.device_id, &mut all);
        self.problems.send_if_modified(|problems| {
            let is_news = problems.keys != all.keys;
            problems.keys = all.keys;
            is_news
        });
        let Some(entry) = entry else { return Ok(()) };
        tracing::info!(deployment = %entry.name, revision = entry.revision,
            deleted = entry.value.is_none(), "desired state changed");
        let mut applied = Ok(true);
        self.learn(|known| applied = known.apply(&entry));
        if !applied? {
            let key = desired_state_key(self.device_id, &entry.name);
            self.problems
                .send_if_modified(|problems| problems.note(key, too_many()));
        }
        Ok(())
    }

    /// Changes what is known, and wakes who looks after containers only when those shall become something else.
    fn learn(&self, change: impl FnOnce(&mut Followed)) {
        self.known.send_if_modified(|known| {
            let before = known.clone();
            change(known);
            *known != before
        });
        let now = self.known.borrow().desired();
        self.desired.send_if_modified(|desired| {
            let is_news = *desired != now;
            *desired = now;
            is_news
        });
    }
}

/// Whether keys are gone that a listing did not have: why not, when they are to be kept.
fn judge(
    memory: &Followed,
    missing: &[DeploymentName],
    evidence: &Evidence,
    device_id: &DeviceId,
) -> Result<Option<&'static str>, FollowError> {
    let (known, seen) = (memory.revision(), evidence.last_revision);
    if seen < known {
        let what = "the bucket as a whole".to_owned();
        return Err(Held::WentBack { what, known, seen }.into());
    }
    let is_there = |name: &&DeploymentName| {
        let key = desired_state_key(device_id, name);
        evidence.keys.contains(&key)
    };
    if let Some(name) = missing.iter().find(is_there) {
        return Err(FollowError::Behind(name.clone()));
    }
    Ok(evidence
        .forgets
        .then_some("in a bucket whose entries expire"))
}

/// How long an answer may take after that many failures in a row.
fn patience(failures: u32) -> Duration {
    let doublings = 2_u32.saturating_pow(failures / HASTY);
    FIRST_ANSWER.saturating_mul(doublings).min(LAST_ANSWER)
}

#[cfg(test)]
mod tests {
    use iot_contracts::DeploymentName;

    use super::{FollowError, judge, patience};
    use crate::bucket::Evidence;
    use crate::followed::{Entry, Followed, Held};

    #[test]
    fn a_missing_key_is_gone_when_the_leader_of_the_same_bucket_says_so() {
        let name = |name: &str| name.parse::<DeploymentName>().unwrap();
        let entry = |name, revision| Entry {
            name,
            revision,
            value: Some(b"{".to_vec()),
        };
        let listed = [entry(name("db"), 4), entry(name("web"), 7)];
        let (memory, _) = Followed::default().listed(None, &listed).unwrap();
        let told = |last_revision, keys: &[&str], forgets| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            let evidence = Evidence {
                last_revision,
                keys,
                forgets,
            };
            judge(&memory, &[name("db")], &evidence, &"pi-1".parse().unwrap())
        };
        assert_eq!(told(7, &["pi-1.web"], false).unwrap(), None);
        let kept = told(9, &["pi-1.web"], true).unwrap();
        assert_eq!(kept, Some("in a bucket whose entries expire"));
        let behind = told(9, &["pi-1.db", "pi-1.web"], false);
        assert!(matches!(behind, Err(FollowError::Behind(db)) if db == name("db")));
        let went_back = told(6, &[], false);
        assert!(matches!(
            went_back,
            Err(FollowError::Held(Held::WentBack {
                known: 7,
                seen: 6,
                ..
            }))
        ));
    }

    #[test]
    fn an_answer_is_awaited_longer_when_none_comes() {
        let seconds = [0, 4, 5, 9, 10, 15, 20, u32::MAX].map(|n| patience(n).as_secs());
        assert_eq!(seconds, [2, 2, 4, 4, 8, 16, 16, 16]);
    }
}
