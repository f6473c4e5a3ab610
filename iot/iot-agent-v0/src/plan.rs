//! What to do: a pure function from what is desired and what is there to the steps between.

use std::collections::BTreeSet;
use std::fmt;

use iot_contracts::{DeploymentName, ImageReference, PodmanService, ServiceName};
use sha2::{Digest, Sha256};

use crate::desired::{DesiredState, Target};

/// Which service of which deployment a container is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerKey {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The service.
    pub service: ServiceName,
}

impl ContainerKey {
    /// The container's name. Dots separate what has no dots in it, so that no two keys share one.
    pub fn container_name(&self) -> String {
        format!("harmony.{}.{}", self.deployment, self.service)
    }
}

impl fmt::Display for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.deployment, self.service)
    }
}

/// A container with the agent's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// Podman's id.
    pub id: String,
    /// What it is.
    pub key: ContainerKey,
    /// The [`service_digest`] of what it was made from.
    pub digest: String,
    /// What it does.
    pub state: ContainerState,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// It runs.
    Running,
    /// It was made and never started.
    Created,
    /// It ran.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// Someone paused it.
    Paused,
    /// It is between two states.
    Busy,
}

/// A container to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// What it is.
    pub key: ContainerKey,
    /// The [`service_digest`] of `service`.
    pub digest: String,
    /// What it runs.
    pub service: PodmanService,
}

/// One step for one container. A failed step ends the steps of its container only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The container.
    pub key: ContainerKey,
    /// What to do.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stop and remove the container with this id.
    Remove {
        /// Podman's id.
        id: String,
    },
    /// Have the image on the device.
    EnsureImage {
        /// The image.
        image: ImageReference,
    },
    /// Make the container and start it.
    Create(ContainerSpec),
    /// Start the container with this id.
    Start {
        /// Podman's id.
        id: String,
    },
}

/// The digest by which a change of `service` is noticed: SHA-256 of its JSON, in hexadecimal.
pub fn service_digest(service: &PodmanService) -> String {
    // Strings, lists and maps with string keys always serialise.
    let json = serde_json::to_vec(service).unwrap_or_default();
    let digest = Sha256::digest(json);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The steps from `observed` to `desired`: first what is not desired goes, then images come (what they
/// are for still runs meanwhile, and stays when they cannot be had), then what has changed goes, and
/// only then anything is made or started.
pub fn plan(desired: &DesiredState, observed: &[ObservedContainer]) -> Vec<Step> {
    let mut phases = Phases::default();
    let mut kept = BTreeSet::new();
    for container in observed {
        phases.settle(desired, container, &mut kept);
    }
    for deployment in desired.names() {
        if let Target::Services(services) = desired.target(deployment) {
            for service in services {
                let key = key(deployment, service);
                if !kept.contains(&key) {
                    phases.create(key, service);
                }
            }
        }
    }
    phases.into_steps()
}

fn key(deployment: &DeploymentName, service: &PodmanService) -> ContainerKey {
    ContainerKey {
        deployment: deployment.clone(),
        service: service.name.clone(),
    }
}

#[derive(Default)]
struct Phases {
    removals: Vec<Step>,
    images: Vec<Step>,
    replaced: Vec<Step>,
    creations: Vec<Step>,
    starts: Vec<Step>,
}

impl Phases {
    /// Decides about a container that is there.
    fn settle(
        &mut self,
        desired: &DesiredState,
        container: &ObservedContainer,
        kept: &mut BTreeSet<ContainerKey>,
    ) {
        let ContainerKey {
            deployment,
            service,
        } = &container.key;
        let wanted = match desired.target(deployment) {
            Target::Hold => return self.start(container),
            Target::Absent => None,
            Target::Services(services) => services.iter().find(|s| s.name == *service),
        };
        match wanted {
            None => self.removals.push(remove(container)),
            // A second container of one service: only a stranger's hand makes it.
            Some(_) if kept.contains(&container.key) => self.removals.push(remove(container)),
            Some(wanted) => {
                if service_digest(wanted) == container.digest {
                    kept.insert(container.key.clone());
                    self.start(container);
                } else {
                    self.replaced.push(remove(container));
                }
            }
        }
    }

    fn start(&mut self, container: &ObservedContainer) {
        match container.state {
            ContainerState::Created | ContainerState::Exited { .. } => self.starts.push(Step {
                key: container.key.clone(),
                action: Action::Start {
                    id: container.id.clone(),
                },
            }),
            ContainerState::Running | ContainerState::Paused | ContainerState::Busy => {}
        }
    }

    fn create(&mut self, key: ContainerKey, service: &PodmanService) {
        self.images.push(Step {
            key: key.clone(),
            action: Action::EnsureImage {
                image: service.image.clone(),
            },
        });
        self.creations.push(Step {
            key: key.clone(),
            action: Action::Create(ContainerSpec {
                key,
                digest: service_digest(service),
                service: service.clone(),
            }),
        });
    }

    fn into_steps(self) -> Vec<Step> {
        let Self {
            removals,
            images,
            replaced,
            creations,
            starts,
        } = self;
        [removals, images, replaced, creations, starts].concat()
    }
}

fn remove(container: &ObservedContainer) -> Step {
    Step {
        key: container.key.clone(),
        action: Action::Remove {
            id: container.id.clone(),
        },
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
