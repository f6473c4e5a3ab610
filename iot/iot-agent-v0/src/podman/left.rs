//! The anonymous volumes of containers that were removed for the sake of their image: the next container of the same name
//! goes on with them.
//!
//! Podman does not tell of any of them whose it was. So it is written down before the container goes, and a power cut
//! loses no data.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use iot_contracts::{DeploymentName, ServiceName};
use serde::{Deserialize, Serialize};

use super::wire::InspectedMount;
use crate::container::ContainerKey;
use crate::notes::Notes;

/// The file's name in the state directory.
const FILE: &str = "kept-volumes";

/// What was left of one container.
#[derive(Serialize, Deserialize)]
struct Entry {
    deployment: DeploymentName,
    service: ServiceName,
    volumes: Vec<Volume>,
}

#[derive(Serialize, Deserialize)]
struct Volume {
    name: String,
    path: String,
}

/// The volumes that wait for a container.
#[derive(Debug, Default)]
pub struct Left {
    notes: Notes,
    volumes: RefCell<BTreeMap<ContainerKey, Vec<InspectedMount>>>,
}

impl Left {
    /// What is written down in `dir`.
    pub fn of(dir: Option<PathBuf>) -> Self {
        let notes = Notes::new(dir, FILE);
        let entries: Vec<Entry> = notes.recall();
        let volumes = entries.into_iter().map(|entry| {
            let key = ContainerKey {
                deployment: entry.deployment,
                service: entry.service,
            };
            let mount = |volume: Volume| InspectedMount {
                kind: "volume".to_owned(),
                name: volume.name,
                destination: volume.path,
            };
            (key, entry.volumes.into_iter().map(mount).collect())
        });
        let volumes = RefCell::new(volumes.collect());
        Self { notes, volumes }
    }

    /// Whose volumes there are.
    pub fn keys(&self) -> BTreeSet<ContainerKey> {
        self.volumes.borrow().keys().cloned().collect()
    }

    /// Those for the container of `key`.
    pub fn volumes(&self, key: &ContainerKey) -> Vec<InspectedMount> {
        self.volumes.borrow().get(key).cloned().unwrap_or_default()
    }

    /// The container of `key` goes, and these volumes wait for the next one.
    pub async fn leave(&self, key: &ContainerKey, volumes: Vec<InspectedMount>) {
        if !volumes.is_empty() {
            self.volumes.borrow_mut().insert(key.clone(), volumes);
            self.write().await;
        }
    }

    /// Nothing waits for the container of `key` any more.
    pub async fn forget(&self, key: &ContainerKey) {
        let known = self.volumes.borrow_mut().remove(key);
        if known.is_some() {
            self.write().await;
        }
    }

    async fn write(&self) {
        let volume = |mount: &InspectedMount| Volume {
            name: mount.name.clone(),
            path: mount.destination.clone(),
        };
        let entry = |(key, volumes): (&ContainerKey, &Vec<InspectedMount>)| Entry {
            deployment: key.deployment.clone(),
            service: key.service.clone(),
            volumes: volumes.iter().map(volume).collect(),
        };
        let entries: Vec<_> = self.volumes.borrow().iter().map(entry).collect();
        self.notes.write(&entries).await;
    }
}
