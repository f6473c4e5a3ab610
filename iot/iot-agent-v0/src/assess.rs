//! What is said of each deployment.

use iot_contracts::{DeploymentName, DeploymentStatus, Phase, ServiceName};

use crate::desired::DesiredState;
use crate::error::bounded;
use crate::plan::Plan;
use crate::reconcile::Statuses;

/// How every deployment fares that is desired or still there. It comes from the same verdicts as the steps, so that the
/// two never contradict each other.
pub fn assess(desired: &DesiredState, plan: &Plan) -> Statuses {
    let there = plan.keys().map(|key| &key.deployment);
    let mut statuses = Statuses::new();
    for name in desired.names().chain(there) {
        if !statuses.contains_key(name) {
            statuses.insert(name.clone(), deployment(desired, plan, name));
        }
    }
    statuses
}

/// Of a failed deployment that is all that is said: nothing is known of its containers.
pub fn unknown(error: &str) -> DeploymentStatus {
    DeploymentStatus {
        phase: Phase::Failed,
        detail: Some(bounded(error)),
    }
}

fn deployment(desired: &DesiredState, plan: &Plan, name: &DeploymentName) -> DeploymentStatus {
    let mut findings = Vec::new();
    for (key, verdict) in plan.iter().filter(|(key, _)| key.deployment == *name) {
        if let Some((phase, text)) = &verdict.finding {
            findings.push((*phase, told(&key.service, text)));
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
    let detail = (!texts.is_empty()).then(|| bounded(&texts.join("; ")));
    DeploymentStatus { phase, detail }
}

fn told(service: &ServiceName, text: &str) -> String {
    format!("{service}: {text}")
}
