//! A listing of the bucket while it comes in.

use std::collections::BTreeSet;

use iot_contracts::DeploymentName;

use super::{Bucket, Entry, Followed, Held, SeenMarker};

impl Followed {
    /// Begins with a listing of the bucket with this marker.
    ///
    /// # Errors
    ///
    /// [`Held`]: it may not be followed.
    pub fn listing(&self, seen: Option<&SeenMarker>) -> Result<Listing, Held> {
        self.judge(seen)?;
        let mut next = self.clone();
        if seen.is_some_and(|seen| self.is_replaced_by(seen)) {
            // Revisions of different buckets have nothing to do with each other.
            for known in next.keys.values_mut() {
                known.revision = 0;
            }
        }
        next.bucket = seen.map(|seen| Bucket {
            id: seen.marker.id.clone(),
            revision: seen.revision,
        });
        next.has_left_out = false;
        Ok(Listing {
            next,
            listed: BTreeSet::new(),
            held: Ok(()),
        })
    }

    /// As after a listing of these entries.
    #[cfg(any(test, fuzzing))]
    pub fn listed(
        &self,
        seen: Option<&SeenMarker>,
        entries: &[Entry],
    ) -> Result<(Self, Vec<DeploymentName>), Held> {
        let mut listing = self.listing(seen)?;
        for entry in entries {
            listing.take(entry);
        }
        listing.end()
    }
}

/// A listing of the bucket while it comes in. No more is held of it than is taken.
#[derive(Debug)]
pub struct Listing {
    next: Followed,
    listed: BTreeSet<DeploymentName>,
    held: Result<(), Held>,
}

impl Listing {
    /// Takes over a key's entry; whether there was room for it.
    pub fn take(&mut self, entry: &Entry) -> bool {
        if self.held.is_err() {
            return true;
        }
        let applied = self.next.apply(entry);
        if self.next.keys.contains_key(&entry.name) {
            self.listed.insert(entry.name.clone());
        }
        applied.unwrap_or_else(|held| {
            self.held = Err(held);
            true
        })
    }

    /// A key's entry went by itself.
    pub fn expired(&mut self, name: &DeploymentName) {
        self.next.expired(name);
    }

    /// What is known after it, and the keys that it should have had and had not.
    ///
    /// # Errors
    ///
    /// [`Held`]: the bucket may not be followed; nothing of the listing is to be used.
    pub fn end(self) -> Result<(Followed, Vec<DeploymentName>), Held> {
        let Self {
            mut next,
            listed,
            held,
        } = self;
        held?;
        next.keys
            .retain(|name, known| known.was_obeyed() || listed.contains(name));
        let keys = next.keys.iter();
        let missing = keys.filter(|(name, known)| !known.gone && !listed.contains(*name));
        let missing = missing.map(|(name, _)| name.clone()).collect();
        next.forget_the_long_gone();
        Ok((next, missing))
    }
}
