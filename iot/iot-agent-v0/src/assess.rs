//! What is said of each deployment.

use std::collections::BTreeMap;

use iot_contracts::{
    DeploymentName, DeploymentStatus, DesiredVersion, Phase, ServiceHealth, ServiceName,
    ServiceState, ServiceStatus,
};

use crate::container::{ContainerState, Health, ObservedContainer, Role};
use crate::desired::{DesiredState, Target};
use crate::error::bounded;
use crate::history::History;
use crate::plan::{Plan, World};
use crate::reconcile::Statuses;

/// The last value of each deployment all of whose containers ran.
pub type Ran = BTreeMap<DeploymentName, DesiredVersion>;

/// How every deployment fares that is desired or still there. It comes from the same verdicts as the steps, so that the
/// two never contradict each other. `ran` is what ran before.
pub fn assess(
    desired: &DesiredState,
    plan: &Plan,
    world: &World,
    history: &History,
    ran: &Ran,
) -> Statuses {
    let there = plan.keys().map(|key| &key.deployment);
    let mut statuses = Statuses::new();
    for name in desired.names().chain(there) {
        if !statuses.contains_key(name) {
            let mut status = deployment(desired, plan, name, ran);
            status.services = services(desired, world, history, name);
            statuses.insert(name.clone(), status);
        }
    }
    statuses
}

/// What is said of a deployment of whose containers nothing is known.
pub fn unknown(
    desired: &DesiredState,
    name: &DeploymentName,
    ran: &Ran,
    error: &str,
) -> DeploymentStatus {
    let wanted = desired.wanted(name);
    DeploymentStatus {
        phase: Phase::Failed,
        detail: Some(bounded(error)),
        desired: wanted.and_then(|wanted| wanted.version.clone()),
        ran: ran.get(name).cloned(),
        refused: wanted.and_then(|wanted| wanted.refused.clone()),
        services: BTreeMap::new(),
    }
}

fn deployment(
    desired: &DesiredState,
    plan: &Plan,
    name: &DeploymentName,
    ran: &Ran,
) -> DeploymentStatus {
    let mut findings = Vec::new();
    for (key, verdict) in plan.iter().filter(|(key, _)| key.deployment == *name) {
        if let Some((phase, text)) = &verdict.finding {
            findings.push((*phase, format!("{}: {text}", key.service)));
        }
    }
    let wanted = desired.wanted(name);
    if let Some(error) = wanted.and_then(|wanted| wanted.error.as_ref()) {
        let text = "the desired state cannot be read, what ran before is kept";
        findings.push((Phase::Failed, format!("{text}: {error}")));
    }
    let version = wanted.and_then(|wanted| wanted.version.clone());
    let refused = wanted.and_then(|wanted| wanted.refused.clone());
    // What is obeyed is not harmed by what is not.
    if let Some(refused) = refused.as_ref().filter(|_| desired.holds(name)) {
        let why = &refused.why;
        let text = format!("the desired state is refused, and none is known: {why}");
        findings.push((Phase::Failed, text));
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
        ran: match phase {
            Phase::Running if version.is_some() => version.clone(),
            _ => ran.get(name).cloned(),
        },
        desired: version,
        refused,
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
            health: None,
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
        // Podman keeps the last one of a container that has ended.
        health: match container.state {
            ContainerState::Running => container.health.map(health),
            _ => None,
        },
    }
}

fn health(health: Health) -> ServiceHealth {
    match health {
        Health::Starting => ServiceHealth::Starting,
        Health::Healthy => ServiceHealth::Healthy,
        Health::Unhealthy => ServiceHealth::Unhealthy,
    }
}
