//! Brings what is there to what is desired, again and again.
//!
//! A pass observes, plans, executes and observes again; the phases come from the second observation
//! and not from what was meant to happen. A pass which is overtaken by a change of the desired state is
//! dropped where it stands: the next one starts from what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use iot_contracts::{DeploymentName, DeploymentStatus, Phase, ServiceName};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::desired::{DesiredState, Target};
use crate::error::{bounded, chain};
use crate::plan::{
    Action, ContainerKey, ContainerState, ObservedContainer, Step, plan, service_digest,
};

/// The longest time between two passes while there is something to be kept running: what has exited or vanished is back
/// after it.
pub const PASS_INTERVAL: Duration = Duration::from_secs(30);

/// The wait after a first failed pass; it doubles with each further one, up to [`PASS_INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The time between two passes while there is nothing to be kept running. Each look starts Podman's service, which takes
/// an emulated guest a second of processor time.
const IDLE_INTERVAL: Duration = Duration::from_secs(300);

/// The longest time between two passes while Podman cannot be seen. Asking costs a connection to a socket, and
/// at boot the user's Podman comes up a while after the agent.
const BLIND_INTERVAL: Duration = Duration::from_secs(8);

/// How each deployment fares.
pub type Statuses = BTreeMap<DeploymentName, DeploymentStatus>;

/// What runs containers.
pub trait Executor {
    /// Why it could not.
    type Error: std::error::Error + 'static;

    /// The agent's own containers.
    async fn observe(&self) -> Result<Vec<ObservedContainer>, Self::Error>;

    /// Does one step. May be cancelled at any await; a step which is already done succeeds.
    async fn execute(&self, step: &Step) -> Result<(), Self::Error>;
}

/// Reconciles until `desired` has no sender any more. `nothing_since` is when it was last seen that no container of the
/// agent's is there, if it was: until something is desired, the first look can wait as any other.
pub async fn run<E: Executor>(
    executor: &E,
    mut desired: watch::Receiver<DesiredState>,
    statuses: &watch::Sender<Statuses>,
    mut nothing_since: Option<Instant>,
) {
    let mut failed_passes = 0;
    let mut told = None;
    loop {
        let target = desired.borrow_and_update().clone();
        if let Some(since) = nothing_since.filter(|_| target.names().next().is_none())
            && since.elapsed() < IDLE_INTERVAL
        {
            tokio::select! {
                () = tokio::time::sleep_until(since + IDLE_INTERVAL) => {}
                changed = desired.changed() => if changed.is_err() { return },
            }
            continue;
        }
        // From here on something may be there, also when the pass is dropped.
        nothing_since = None;
        let pass = tokio::select! {
            pass = pass(executor, &target, statuses) => pass,
            changed = desired.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        failed_passes = match &pass {
            Pass::Idle | Pass::Healthy => 0,
            Pass::Failed | Pass::Blind(_) => failed_passes + 1,
        };
        nothing_since = (pass == Pass::Idle).then(Instant::now);
        let wait = match &pass {
            Pass::Idle => None,
            Pass::Healthy | Pass::Failed => Some(next_pass_after(failed_passes)),
            Pass::Blind(_) => Some(next_pass_after(failed_passes).min(BLIND_INTERVAL)),
        };
        tell_blindness(&mut told, pass);
        let Some(wait) = wait else {
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = desired.changed() => match changed {
                Ok(()) => failed_passes = 0,
                Err(_) => return,
            },
        }
    }
}

/// How long to wait after that many failed passes in a row.
fn next_pass_after(failed_passes: u32) -> Duration {
    match failed_passes {
        0 => PASS_INTERVAL,
        n => FIRST_RETRY
            .saturating_mul(2_u32.saturating_pow(n - 1))
            .min(PASS_INTERVAL),
    }
}

/// How a pass went.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    /// Nothing is desired, and nothing is there.
    Idle,
    /// Every step succeeded.
    Healthy,
    /// Some step failed.
    Failed,
    /// The containers cannot be seen, because of this.
    Blind(String),
}

/// Tells why the containers cannot be seen, once for as long as it stays the same.
fn tell_blindness(told: &mut Option<String>, pass: Pass) {
    let error = match pass {
        Pass::Idle | Pass::Healthy | Pass::Failed => None,
        Pass::Blind(error) => Some(error),
    };
    if *told != error {
        match &error {
            Some(error) => tracing::warn!(error, "cannot see the containers"),
            None => tracing::info!("sees the containers again"),
        }
        *told = error;
    }
}

/// One pass.
async fn pass<E: Executor>(
    executor: &E,
    desired: &DesiredState,
    statuses: &watch::Sender<Statuses>,
) -> Pass {
    let observed = match executor.observe().await {
        Ok(observed) => observed,
        Err(error) => return unobservable(desired, statuses, &error),
    };
    let steps = plan(desired, &observed);
    statuses.send_if_modified(|statuses| announce(&steps, statuses));
    let failures = execute(executor, &steps).await;
    let after = if steps.is_empty() {
        observed.clone()
    } else {
        match executor.observe().await {
            Ok(after) => after,
            Err(error) => return unobservable(desired, statuses, &error),
        }
    };
    let assessed = assess(desired, &observed, &after, &failures);
    publish(statuses, assessed);
    let idle = after.is_empty() && desired.names().next().is_none();
    match failures.is_empty() {
        true if idle => Pass::Idle,
        true => Pass::Healthy,
        false => Pass::Failed,
    }
}

/// Executes the steps in order; a container whose step failed is left for this pass.
async fn execute<E: Executor>(executor: &E, steps: &[Step]) -> BTreeMap<ContainerKey, String> {
    let mut failures = BTreeMap::new();
    for step in steps {
        if failures.contains_key(&step.key) {
            continue;
        }
        match executor.execute(step).await {
            Ok(()) => tell(step),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(container = %step.key, error, "step failed");
                failures.insert(step.key.clone(), error);
            }
        }
    }
    failures
}

fn tell(step: &Step) {
    let what = match &step.action {
        Action::EnsureImage { .. } => "image is there",
        Action::Remove { .. } => "removed",
        Action::Create(_) => "created and started",
        Action::Start { .. } => "started",
    };
    tracing::info!(container = %step.key, what);
}

fn publish(statuses: &watch::Sender<Statuses>, new: Statuses) {
    statuses.send_if_modified(|old| {
        let changed = *old != new;
        *old = new;
        changed
    });
}

/// Without Podman nothing is known of any deployment.
fn unobservable(
    desired: &DesiredState,
    statuses: &watch::Sender<Statuses>,
    error: &(dyn std::error::Error + 'static),
) -> Pass {
    let error = chain(error);
    let known: Vec<_> = statuses
        .borrow()
        .keys()
        .chain(desired.names())
        .cloned()
        .collect();
    let failed = known
        .into_iter()
        .map(|name| (name, status(Phase::Failed, Some(&error))));
    publish(statuses, failed.collect());
    Pass::Blind(error)
}

/// Deployments that something is made for are pending. A failed one stays failed until a try succeeds.
fn announce(steps: &[Step], statuses: &mut Statuses) -> bool {
    let mut changed = false;
    for step in steps {
        let Action::Create(_) = step.action else {
            continue;
        };
        let phase = statuses
            .get(&step.key.deployment)
            .map(|status| status.phase);
        if matches!(phase, None | Some(Phase::Running)) {
            statuses.insert(step.key.deployment.clone(), status(Phase::Pending, None));
            changed = true;
        }
    }
    changed
}

fn status(phase: Phase, detail: Option<&str>) -> DeploymentStatus {
    DeploymentStatus {
        phase,
        detail: detail.map(bounded),
    }
}

/// How every deployment fares that is desired or still there, `before` and `after` a pass.
fn assess(
    desired: &DesiredState,
    before: &[ObservedContainer],
    after: &[ObservedContainer],
    failures: &BTreeMap<ContainerKey, String>,
) -> Statuses {
    let there = after.iter().map(|container| &container.key.deployment);
    let mut statuses = Statuses::new();
    for name in desired.names().chain(there) {
        if statuses.contains_key(name) {
            continue;
        }
        let mut findings = Findings::default();
        findings.containers(desired.target(name), name, before, after);
        // Why a step failed says more than what its container looks like therefore.
        for (key, error) in failures.iter().filter(|(key, _)| key.deployment == *name) {
            findings
                .0
                .retain(|finding| finding.service.as_ref() != Some(&key.service));
            findings.add(Phase::Failed, Some(&key.service), error.clone());
        }
        if let Some(error) = desired.error(name) {
            let text = "the desired state cannot be read, what ran before is kept";
            findings.add(Phase::Failed, None, format!("{text}: {error}"));
        }
        statuses.insert(name.clone(), findings.into_status());
    }
    statuses
}

/// Something worth saying about a deployment, or about one of its services.
struct Finding {
    phase: Phase,
    service: Option<ServiceName>,
    text: String,
}

/// All that is worth saying about a deployment; its phase is the worst of them.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, phase: Phase, service: Option<&ServiceName>, text: impl Into<String>) {
        self.0.push(Finding {
            phase,
            service: service.cloned(),
            text: text.into(),
        });
    }

    fn containers(
        &mut self,
        target: Target<'_>,
        name: &DeploymentName,
        before: &[ObservedContainer],
        after: &[ObservedContainer],
    ) {
        let of_deployment = |c: &&ObservedContainer| c.key.deployment == *name;
        match target {
            Target::Absent => self.add(Phase::Pending, None, "is being removed"),
            Target::Hold => {
                for container in after.iter().filter(of_deployment) {
                    self.container(container, before);
                }
            }
            Target::Services(services) => {
                for service in services {
                    let digest = service_digest(service);
                    let is_it = |c: &&ObservedContainer| {
                        c.key.service == service.name && c.digest == digest
                    };
                    match after.iter().filter(of_deployment).find(is_it) {
                        Some(container) => self.container(container, before),
                        None => self.add(Phase::Pending, Some(&service.name), "not there"),
                    }
                }
            }
        }
    }

    fn container(&mut self, container: &ObservedContainer, before: &[ObservedContainer]) {
        let earlier = before.iter().find(|earlier| earlier.id == container.id);
        let (phase, text) = match (container.state, earlier.map(|c| c.state)) {
            (ContainerState::Running, Some(ContainerState::Exited { code })) => (
                Phase::Running,
                format!("had exited with code {code}, started again"),
            ),
            (ContainerState::Running, _) => return,
            (ContainerState::Exited { code }, _) => {
                (Phase::Failed, format!("exited with code {code}"))
            }
            (ContainerState::Created, _) => (Phase::Failed, "not started".to_owned()),
            (ContainerState::Paused, _) => (Phase::Failed, "paused".to_owned()),
            (ContainerState::Busy, _) => (Phase::Pending, "changing".to_owned()),
        };
        self.add(phase, Some(&container.key.service), text);
    }

    fn into_status(self) -> DeploymentStatus {
        let has = |phase| self.0.iter().any(|finding| finding.phase == phase);
        let phase = if has(Phase::Failed) {
            Phase::Failed
        } else if has(Phase::Pending) {
            Phase::Pending
        } else {
            Phase::Running
        };
        let tell = |finding: Finding| match finding.service {
            Some(service) => format!("{service}: {}", finding.text),
            None => finding.text,
        };
        let texts: Vec<_> = self.0.into_iter().map(tell).collect();
        let detail = (!texts.is_empty()).then(|| texts.join("; "));
        status(phase, detail.as_deref())
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
