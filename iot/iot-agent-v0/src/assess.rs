//! What is said of each deployment.

use std::collections::BTreeMap;

use iot_contracts::{
    DeploymentName, DeploymentStatus, Phase, ServiceName, ServiceState, ServiceStatus,
};

use crate::container::{ContainerState, ObservedContainer, Role};
use crate::desired::{DesiredState, Target};
use crate::error::bounded;
use crate::history::History;
use crate::plan::{Plan, World};
use crate::reconcile::Statuses;

/// How every deployment fares that is desired or still there. It comes from the same verdicts as the steps, so that the
/// two never contradict each other.
pub fn assess(desired: &DesiredState, plan: &Plan, world: &World, history: &History) -> Statuses {
    let there = plan.keys().map(|key| &key.deployment);
    let mut statuses = Statuses::new();
    for name in desired.names().chain(there) {
        if !statuses.contains_key(name) {
            let mut status = deployment(desired, plan, name);
            status.services = services(desired, world, history, name);
            statuses.insert(name.clone(), status);
        }
    }
    statuses
}

/// Of a failed deployment that is all that is said: nothing is known of its containers.
pub fn unknown(error: &str) -> DeploymentStatus {
    DeploymentStatus {
        phase: Phase::Failed,
        detail: Some(bounded(error)),
        services: BTreeMap::new(),
    }
}

fn deployment(desired: &DesiredState, plan: &Plan, name: &DeploymentName) -> DeploymentStatus {
    let mut findings = Vec::new();
    for (key, verdict) in plan.iter().filter(|(key, _)| key.deployment == *name) {
        if let Some((phase, text)) = &verdict.finding {
            findings.push((*phase, format!("{}: {text}", key.service)));
        }
    }
    if let Some(error) = desired.error(name) {
        let text = "the desired state cannot be read, what ran before is kept";
        findings.push((Phase::Failed, format!("{text}: {error}")));
    }
    let has = |phase| findings.iter().any(|finding| finding.0 == phase);
    let phase = if has(Phase::Failed) {
        Phase::Failed
    } else if has(Phase::Pending) {
        Phase::Pending
    } else {
        Phase::Running
    };
    let texts: Vec<_> = findings.into_iter().map(|(_, text)| text).collect();
    DeploymentStatus {
        phase,
        detail: (!texts.is_empty()).then(|| bounded(&texts.join("; "))),
        services: BTreeMap::new(),
    }
}

fn services(
    desired: &DesiredState,
    world: &World,
    history: &History,
    name: &DeploymentName,
) -> BTreeMap<ServiceName, ServiceStatus> {
    let mut services = BTreeMap::new();
    if let Target::Services(wanted) = desired.target(name) {
        let absent = |image: String| ServiceStatus {
            state: ServiceState::Absent,
            image,
            image_digest: None,
            exit_code: None,
            restarts: 0,
            since_unix_s: None,
        };
        let wanted = wanted.iter();
        services.extend(wanted.map(|s| (s.name().clone(), absent(s.image().to_string()))));
    }
    let of_deployment = world
        .containers
        .iter()
        .filter(|c| c.key.deployment == *name);
    for container in of_deployment.filter(|c| matches!(c.role, Role::Current | Role::Stray)) {
        services.insert(container.key.service.clone(), service(container, history));
    }
    services
}

fn service(container: &ObservedContainer, history: &History) -> ServiceStatus {
    let (state, exit_code, since) = match container.state {
        ContainerState::Running => (ServiceState::Running, None, container.started_at),
        ContainerState::Created => (ServiceState::Created, None, 0),
        ContainerState::Exited { code } => (ServiceState::Exited, Some(code), container.exited_at),
        ContainerState::Paused => (ServiceState::Paused, None, 0),
        ContainerState::Between => (ServiceState::Changing, None, 0),
    };
    ServiceStatus {
        state,
        image: container.image.clone(),
        image_digest: container.image_digest.clone(),
        exit_code,
        restarts: history.seen(&container.id).map_or(0, |seen| seen.restarts),
        since_unix_s: u64::try_from(since).ok().filter(|since| *since > 0),
    }
}
