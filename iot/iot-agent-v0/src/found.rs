//! What a listing and changes tell of the device's keys.

use iot_contracts::{DeviceId, desired_state_key};

use crate::budget::MAX_DEPLOYMENTS;
use crate::changes::Change;
use crate::followed::{Entry, Listing};
use crate::problems::Problems;
use crate::update::Wanted;

/// What a listing has brought until now.
pub struct Found<'a> {
    device_id: &'a DeviceId,
    /// What is known by it.
    pub listing: Listing,
    /// What is wrong with keys.
    pub problems: Problems,
    /// What the agent's own program shall become.
    pub release: Option<Wanted>,
    /// How many entries there were.
    pub count: usize,
}

impl<'a> Found<'a> {
    /// Nothing yet.
    pub fn new(device_id: &'a DeviceId, listing: Listing) -> Self {
        Self {
            device_id,
            listing,
            problems: Problems::default(),
            release: None,
            count: 0,
        }
    }

    /// One key more.
    pub fn take(&mut self, change: Change) {
        if let Change::Expired(name) = &change {
            self.listing.expired(name);
        }
        if let Change::Release(wanted) = change {
            self.release = wanted;
        } else if let Some(entry) = sort(change, self.device_id, &mut self.problems) {
            self.count += 1;
            if !self.listing.take(&entry) {
                let key = desired_state_key(self.device_id, &entry.name);
                self.problems.note(key, too_many());
            }
        }
    }
}

/// The entry of a deployment; a key that is none's is a problem for as long as it is there.
pub fn sort(change: Change, device_id: &DeviceId, problems: &mut Problems) -> Option<Entry> {
    match change {
        Change::Entry(entry) => {
            // Whatever was wrong with its absence.
            let key = desired_state_key(device_id, &entry.name);
            problems.keys.remove(&key);
            Some(entry)
        }
        Change::Expired(name) => {
            let why = "its entry expired; what runs is kept until it is deleted";
            let key = desired_state_key(device_id, &name);
            problems.note(key, why.to_owned());
            None
        }
        // It is another matter.
        Change::Release(_) => None,
        Change::Odd { key, is_there } => {
            if is_there {
                let why = "it names no deployment (expected DEVICE.DEPLOYMENT of a-z, 0-9 and '-')";
                let name = key.escape_debug().to_string();
                if problems.note(key, why.to_owned()) {
                    tracing::warn!(key = name, why, "key ignored");
                }
            } else {
                problems.keys.remove(&key);
            }
            None
        }
    }
}

/// What is wrong with a key that there is no room for.
pub fn too_many() -> String {
    format!("one too many, it is not looked at (expected at most {MAX_DEPLOYMENTS} deployments)")
}
