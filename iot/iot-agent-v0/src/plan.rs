//! What to do: a pure function from what is desired, what is there and what is remembered to the steps of each
//! container.
//!
//! Each look at the device plans anew, and the steps of a container are such that a power cut between any two of them
//! leaves what the next plan goes on from. Images are no container's step: they are fetched beside, and whatever can run
//! without them runs.

use std::collections::{BTreeMap, BTreeSet};

use iot_contracts::{ImageReference, Phase, RegistryLogin};
use tokio::time::Instant;

use crate::container::{ContainerKey, ContainerSpec, ObservedContainer, Role};
use crate::desired::{DesiredState, Target};
use crate::history::History;
use crate::room::Space;
use crate::service::Service;

/// One step for one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The container.
    pub key: ContainerKey,
    /// What to do.
    pub action: Action,
}

/// What a step does. One that is done already succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look why the container with this id ended. Fails when it is its image's fault.
    Examine {
        /// Podman's id.
        id: String,
    },
    /// Remove an image that no container is of.
    RemoveImage {
        /// The image.
        image: ImageReference,
    },
    /// Start the container with this id.
    Start {
        /// Podman's id.
        id: String,
    },
    /// Stop the container with this id.
    Stop {
        /// Podman's id.
        id: String,
    },
    /// Have the paused container with this id go on. Podman stops none that is paused, and says that it did.
    Unpause {
        /// Podman's id.
        id: String,
    },
    /// Stop the container with this id, and give it the name of [`Role::Previous`].
    SetAside {
        /// Podman's id.
        id: String,
    },
    /// Give the container with this id the name of a role.
    Rename {
        /// Podman's id.
        id: String,
        /// The role.
        role: Role,
    },
    /// Make the container.
    Create(ContainerSpec),
    /// Make the container and start it.
    Run(ContainerSpec),
    /// Stop and remove the container with this id, whatever it does.
    Remove {
        /// Podman's id.
        id: String,
        /// What becomes of its volumes.
        volumes: Volumes,
    },
    /// Remove the volumes that wait for the container.
    RemoveVolumes,
}

/// Which volumes go with a container. None goes that another container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// None: the anonymous ones wait for the next container of the same service.
    Kept,
    /// The anonymous ones.
    Anonymous,
    /// Those, and the named ones that pass with the deployment.
    Passing,
}

/// What the device has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The agent's containers.
    pub containers: Vec<ObservedContainer>,
    /// Those that are not there, and whose volumes wait for the next ones.
    pub orphans: BTreeSet<ContainerKey>,
    /// The images that were asked for, and whether they are there.
    pub images: BTreeMap<ImageReference, bool>,
    /// The images that could not be asked for, and why.
    pub unseen: BTreeMap<ImageReference, String>,
    /// The room for images, where it was asked for and can be told.
    pub space: Option<Space>,
}

/// What a container's steps lead to. While it is the same they are not overtaken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// There shall be none, nor these volumes.
    Absent(Volumes),
    /// What is there shall run.
    Hold,
    /// One of the [`Service`] with this digest shall run.
    Service(String),
}

/// What is to be done about a container, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the steps lead to.
    pub goal: Goal,
    /// The steps, in their order.
    pub steps: Vec<Action>,
    /// The image that it waits for.
    pub image: Option<ImageReference>,
    /// How that image's registry is logged in to.
    pub login: Option<RegistryLogin>,
    /// With these steps this digest is given up, for this reason.
    pub gives_up: Option<(String, String)>,
    /// With these steps this image is removed to be fetched anew.
    pub mends: Option<ImageReference>,
    /// When it has to be looked at again.
    pub look_at: Option<Instant>,
    /// What is to be said.
    pub finding: Option<(Phase, String)>,
}

/// The verdicts on all that is desired or there.
pub type Plan = BTreeMap<ContainerKey, Verdict>;

/// What shall become of the container of `key`, and the service that it shall be.
pub fn goal<'a>(desired: &'a DesiredState, key: &ContainerKey) -> (Goal, Option<&'a Service>) {
    match desired.target(&key.deployment) {
        Target::Hold => (Goal::Hold, None),
        Target::Absent => (Goal::Absent(Volumes::Passing), None),
        Target::Services(services) => match services.iter().find(|s| *s.name() == key.service) {
            Some(service) => (Goal::Service(service.digest.clone()), Some(service)),
            None => (Goal::Absent(Volumes::Anonymous), None),
        },
    }
}

/// All containers that are desired.
pub fn desired_keys(desired: &DesiredState) -> BTreeMap<ContainerKey, &Service> {
    let mut keys = BTreeMap::new();
    for deployment in desired.names() {
        if let Target::Services(services) = desired.target(deployment) {
            keys.extend(services.iter().map(|service| {
                let key = ContainerKey {
                    deployment: deployment.clone(),
                    service: service.name().clone(),
                };
                (key, service)
            }));
        }
    }
    keys
}

/// The images that `plan` has to know of: those of desired containers that are not there.
pub fn images_in_question(
    desired: &DesiredState,
    containers: &[ObservedContainer],
) -> BTreeSet<ImageReference> {
    let is_there = |key: &ContainerKey, service: &Service| {
        containers
            .iter()
            .any(|c| c.key == *key && c.role == Role::Current && c.digest == service.digest)
    };
    desired_keys(desired)
        .into_iter()
        .filter(|(key, service)| !is_there(key, service))
        .map(|(_, service)| service.image().clone())
        .collect()
}

/// The verdict on each container that is desired or there.
pub fn plan(desired: &DesiredState, world: &World, history: &History, now: Instant) -> Plan {
    let mut keys: BTreeSet<_> = desired_keys(desired).into_keys().collect();
    keys.extend(
        world
            .containers
            .iter()
            .map(|container| container.key.clone()),
    );
    keys.extend(world.orphans.iter().cloned());
    let verdict = |key: ContainerKey| {
        let (goal, service) = goal(desired, &key);
        let case = crate::settle::Case::new(&key, goal, service, world, history, now);
        let verdict = case.settle();
        (key, verdict)
    };
    keys.into_iter().map(verdict).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
