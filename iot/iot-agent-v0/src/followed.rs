//! What the device knows of its desired state: each key with its revision, and which bucket they are from. Pure.
//!
//! A listing is believed only where the bucket is the one that was followed before, or says that it takes its place.
//! What a bucket does not say is unknown, and never an order to remove something. Where orders have to be signed, nothing
//! but a signed order changes what is wanted, and the highest counter of each deployment is known here.

#[path = "listing.rs"]
mod listing;

use std::collections::BTreeMap;

use iot_contracts::{
    BucketId, BucketMarker, DeploymentName, DesiredVersion, Refusal, RefusedEntry, UNMARKED_BUCKET,
};
use serde::{Deserialize, Serialize};

use crate::budget::{MAX_DEPLOYMENTS, Size};
use crate::desired::{DesiredState, Wanted};
use crate::order::{Order, Rules};
use crate::service::Score;

pub use listing::Listing;

/// How many keys that are gone are remembered. Their containers have long been removed.
const MAX_GONE: usize = 1000;

/// How many keys are remembered of which nothing was ever obeyed. Whoever may write makes as many as he likes.
const MAX_REFUSED: usize = 50;

/// Why the desired state is held as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// The bucket does not say which one it is.
    #[error("the bucket has no marker, and bucket {known} was followed before")]
    NoMarker {
        /// The one that was followed.
        known: BucketId,
    },
    /// It is another one.
    #[error("it is bucket {seen}, which does not take the place of {known}, followed before")]
    OtherBucket {
        /// The one that was followed.
        known: BucketId,
        /// The one that is there.
        seen: BucketId,
    },
    /// It is older than it was, as after a restored backup, or a server that is behind.
    #[error("the bucket went back: {what} is at revision {seen}, and was at {known}")]
    WentBack {
        /// What is older.
        what: String,
        /// The revision that was followed.
        known: u64,
        /// The one that is there.
        seen: u64,
    },
    /// A revision is not what it was.
    #[error("the bucket has another history: revision {revision} of {what} has changed")]
    OtherHistory {
        /// The key.
        what: String,
        /// Its revision.
        revision: u64,
    },
}

/// The marker as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMarker {
    /// What it says.
    pub marker: BucketMarker,
    /// Its revision.
    pub revision: u64,
}

/// A key's newest entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which deployment.
    pub name: DeploymentName,
    /// Its revision.
    pub revision: u64,
    /// Its value; absent where a delete or purge marker is the newest entry.
    pub value: Option<Vec<u8>>,
}

/// Everything that is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    bucket: Option<Bucket>,
    keys: BTreeMap<DeploymentName, Known>,
    /// The highest counter of a deployment that is forgotten.
    #[serde(default)]
    floor: u64,
    /// Whose orders are obeyed. The configuration says so, and not what is kept.
    #[serde(skip)]
    rules: Rules,
    /// Whether there was a deployment too many since the bucket was listed.
    #[serde(skip)]
    has_left_out: bool,
}

/// The bucket that was followed last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bucket {
    id: BucketId,
    /// The marker's revision.
    revision: u64,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The revision that this is of.
    revision: u64,
    /// The last value that could be read.
    good: Option<Score>,
    /// Why the newest one could not.
    error: Option<String>,
    /// Whether it was deleted, and its containers with it.
    gone: bool,
    /// The bucket that had this entry, where that said which one it was.
    #[serde(default)]
    bucket: Option<BucketId>,
    /// Whether that entry went by itself.
    #[serde(default)]
    expired: bool,
    /// The value that was obeyed last, be it that it could be read or not.
    #[serde(default)]
    version: Option<DesiredVersion>,
    /// The newest entry, where it was not obeyed.
    #[serde(default)]
    refused: Option<RefusedEntry>,
    /// How much the newest value is, where there was no room for it.
    #[serde(skip)]
    waits: Option<Size>,
}

impl Followed {
    /// The same, from now on by these rules.
    pub fn obeying(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// The entries that are not obeyed.
    pub fn refused(&self) -> impl Iterator<Item = (&DeploymentName, &RefusedEntry)> {
        let keys = self.keys.iter();
        keys.filter_map(|(name, known)| Some((name, known.refused.as_ref()?)))
    }

    /// Whether the bucket with this marker may be followed.
    ///
    /// # Errors
    ///
    /// [`Held`]: it is not the one that was followed before, and does not take its place.
    pub fn judge(&self, seen: Option<&SeenMarker>) -> Result<(), Held> {
        let (known, seen) = match (&self.bucket, seen) {
            (None, _) => return Ok(()),
            (Some(known), None) => {
                return Err(Held::NoMarker {
                    known: known.id.clone(),
                });
            }
            (Some(known), Some(seen)) => (known, seen),
        };
        if seen.marker.id == known.id && seen.revision < known.revision {
            return Err(Held::WentBack {
                what: "its marker".to_owned(),
                known: known.revision,
                seen: seen.revision,
            });
        }
        if seen.marker.id == known.id || self.is_replaced_by(seen) {
            return Ok(());
        }
        Err(Held::OtherBucket {
            known: known.id.clone(),
            seen: seen.marker.id.clone(),
        })
    }

    fn is_replaced_by(&self, seen: &SeenMarker) -> bool {
        let is_followed = self.bucket.is_some() || !self.keys.is_empty();
        let name = self.bucket_name();
        let mut replaced = seen.marker.replaces.iter().map(BucketId::as_str);
        is_followed && name != seen.marker.id.as_str() && replaced.any(|id| id == name)
    }

    /// What a marker calls the bucket that is followed.
    pub fn bucket_name(&self) -> &str {
        let bucket = self.bucket.as_ref();
        bucket.map_or(UNMARKED_BUCKET, |bucket| bucket.id.as_str())
    }

    /// Takes over a key's entry; whether there was room for one deployment more.
    ///
    /// # Errors
    ///
    /// [`Held`]: it is older than what is known, or the same revision with another content.
    pub fn apply(&mut self, entry: &Entry) -> Result<bool, Held> {
        let before = self.keys.get(&entry.name);
        let known = before.map_or(0, |known| known.revision);
        if entry.revision < known {
            return Err(Held::WentBack {
                what: entry.name.to_string(),
                known,
                seen: entry.revision,
            });
        }
        let is_there = before.is_some_and(|known| !known.gone);
        if entry.value.is_some() && !is_there && self.there().count() >= MAX_DEPLOYMENTS {
            self.has_left_out = true;
            return Ok(false);
        }
        let bucket = self.bucket.as_ref().map(|bucket| bucket.id.clone());
        let mut next = Known::after(before, entry, bucket, &self.rules, self.floor);
        let others = self
            .size()
            .without(before.map(Known::size).unwrap_or_default());
        next.find_room(before, others);
        if !next.was_obeyed() && entry.value.is_none() {
            // It was never more than refused.
            self.keys.remove(&entry.name);
            return Ok(true);
        }
        if !next.was_obeyed() && before.is_none() {
            let others = self.keys.values().filter(|known| !known.was_obeyed());
            if others.count() >= MAX_REFUSED {
                return Ok(true);
            }
        }
        if let Some(before) = before
            && entry.revision == before.revision
            && !before.is_the_same_as(&next)
        {
            return Err(Held::OtherHistory {
                what: entry.name.to_string(),
                revision: entry.revision,
            });
        }
        self.keys.insert(entry.name.clone(), next);
        Ok(true)
    }

    /// How much all deployments are.
    fn size(&self) -> Size {
        let sizes = self.keys.values().map(Known::size);
        sizes.fold(Size::default(), Size::plus)
    }

    /// Whether there is room now for something that there was none for: a new listing takes it over.
    pub fn has_room_again(&self) -> bool {
        let (all, keys) = (self.size(), self.keys.values());
        let mut waiting = keys.filter_map(|known| Some((known.size(), known.waits?)));
        waiting.any(|(now, size)| all.without(now).plus(size).fits())
            || self.has_left_out && self.there().count() < MAX_DEPLOYMENTS
    }

    /// A key is gone without a marker, and it is certain that it is.
    pub fn vanished(&mut self, name: &DeploymentName) {
        if let Some(known) = self.keys.get_mut(name)
            && !self.rules.are_signed()
        {
            *known = Known::gone(known.revision, known.bucket.take());
        }
    }

    /// A key's entry went by itself.
    pub fn expired(&mut self, name: &DeploymentName) {
        if let Some(known) = self.keys.get_mut(name) {
            known.expired = !known.gone;
        }
    }

    /// Why a missing key can by no means count as deleted, if so: it can only where it was seen in a bucket that can
    /// be known again.
    pub fn never_vanishes(&self, name: &DeploymentName) -> Option<&'static str> {
        if self.rules.are_signed() {
            return Some("and no signed order removed it");
        }
        if self.bucket.is_none() {
            return Some("in a bucket that has no marker");
        }
        let known = self.keys.get(name);
        if known.is_some_and(|known| known.expired) {
            return Some("its entry expired");
        }
        let bucket = known.and_then(|known| known.bucket.as_ref());
        bucket.is_none().then_some("was never seen in this bucket")
    }

    /// The deployments that are there, as far as is known.
    pub fn there(&self) -> impl Iterator<Item = &DeploymentName> {
        let there = self.keys.iter().filter(|(_, known)| !known.gone);
        there.map(|(name, _)| name)
    }

    /// The newest revision that was followed in the bucket that is followed now.
    pub fn revision(&self) -> u64 {
        let id = self.bucket.as_ref().map(|bucket| &bucket.id);
        let bucket = self.bucket.iter().map(|bucket| bucket.revision);
        let keys = self.keys.values();
        let keys = keys.filter(|known| known.bucket.as_ref() == id);
        let keys = keys.map(|known| known.revision);
        bucket.chain(keys).max().unwrap_or_default()
    }

    /// What the containers shall become.
    pub fn desired(&self) -> DesiredState {
        let mut desired = DesiredState::default();
        for (name, known) in &self.keys {
            match known.gone {
                true => desired.set_gone(name.clone()),
                false => desired.set(name.clone(), known.wanted()),
            }
        }
        desired
    }

    /// What the containers shall become before the bucket was listed: whatever this may have missed, it removes nothing.
    pub fn desired_unasked(&self) -> DesiredState {
        let mut there = self.clone();
        there.keys.retain(|_, known| !known.gone);
        there.desired()
    }

    fn forget_the_long_gone(&mut self) {
        let gone = self.keys.iter().filter(|(_, known)| known.gone);
        let mut gone: Vec<_> = gone
            .map(|(name, known)| (known.revision, name.clone()))
            .collect();
        gone.sort();
        let too_many = gone.len().saturating_sub(MAX_GONE);
        for (_, name) in gone.into_iter().take(too_many) {
            let known = self.keys.remove(&name);
            let version = known.and_then(|known| known.version);
            let counter = version.and_then(|version| version.counter);
            self.floor = self.floor.max(counter.unwrap_or_default());
        }
    }
}

impl Known {
    fn gone(revision: u64, bucket: Option<BucketId>) -> Self {
        Self {
            revision,
            good: None,
            error: None,
            gone: true,
            bucket,
            expired: false,
            version: None,
            refused: None,
            waits: None,
        }
    }

    /// How much the value is that it has.
    fn size(&self) -> Size {
        self.good.as_ref().map(Score::size).unwrap_or_default()
    }

    /// A new value that is too much beside the `others` is treated as one that cannot be read.
    fn find_room(&mut self, before: Option<&Self>, others: Size) {
        let (size, before) = (self.size(), before.and_then(|before| before.good.as_ref()));
        let size_before = before.map(Score::size).unwrap_or_default();
        if let Err(error) = size.beside(others, size_before) {
            self.good = before.cloned();
            self.error = Some(error.to_string());
            self.waits = Some(size);
        }
    }

    fn after(
        before: Option<&Self>,
        entry: &Entry,
        bucket: Option<BucketId>,
        rules: &Rules,
        floor: u64,
    ) -> Self {
        let version = before.and_then(|before| before.version.as_ref());
        let obeyed = match rules.judge(entry, version, floor) {
            Ok(obeyed) => obeyed,
            Err(why) => return Self::refusing(before, entry, bucket, why),
        };
        let (good, error) = match obeyed.order {
            Order::Remove => {
                let version = obeyed.version;
                return Self {
                    version,
                    ..Self::gone(entry.revision, bucket)
                };
            }
            Order::Run(Ok(score)) => (Some(score), None),
            Order::Run(Err(error)) => (before.and_then(|before| before.good.clone()), Some(error)),
        };
        Self {
            good,
            error,
            gone: false,
            version: obeyed.version,
            ..Self::gone(entry.revision, bucket)
        }
    }

    /// What was known stays, but for the entry that it was seen with.
    fn refusing(
        before: Option<&Self>,
        entry: &Entry,
        bucket: Option<BucketId>,
        why: Refusal,
    ) -> Self {
        let nothing = || Self {
            gone: false,
            ..Self::gone(entry.revision, None)
        };
        let known = before.cloned().unwrap_or_else(nothing);
        let refused = RefusedEntry {
            revision: entry.revision,
            why,
        };
        // What is gone may lose its key.
        let is_idle = known.gone && entry.value.is_none();
        Self {
            revision: entry.revision,
            bucket,
            expired: false,
            refused: (!is_idle).then_some(refused),
            ..known
        }
    }

    /// Whether any entry was ever obeyed.
    fn was_obeyed(&self) -> bool {
        self.gone || self.good.is_some() || self.error.is_some() || self.version.is_some()
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            good: self.good.as_ref().map(Score::services),
            error: self.error.clone(),
            version: self.version.clone(),
            refused: self.refused.clone(),
        }
    }

    /// Whether both may be of one entry. One of them may have been read by another version, which understood more, or
    /// while other keys were obeyed.
    fn is_the_same_as(&self, other: &Self) -> bool {
        let is_refused = self.refused.is_some() || other.refused.is_some();
        let is_unread = self.error.is_some() || other.error.is_some();
        is_refused || self.gone == other.gone && (is_unread || self.good == other.good)
    }
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "signed_tests.rs"]
mod signed_tests;
