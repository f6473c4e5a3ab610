//! The verdict on one container.

mod change;
mod ended;
mod health;

use std::time::Duration;

use iot_contracts::Phase;
use tokio::time::Instant;

use crate::container::{ContainerKey, ContainerState, ObservedContainer, Role};
use crate::history::{History, STEADY, Seen, retry_after};
use crate::plan::{Action, Goal, Verdict, Volumes, World};
use crate::service::Service;

/// How long a new container has for coming up before the one that ran before comes back.
pub const TRIAL: Duration = Duration::from_secs(60);

/// How often a new container may end before it is [`STEADY`] and still be started again while there is one before it.
const MAX_SHORT_RUNS: u32 = 3;

/// How often in a row it may fail to start. The port that it waits for may be another's that is being replaced, and that
/// takes [`STEADY`] to stop.
const MAX_FAILURES: u32 = 5;

/// When a container that is not yet [`STEADY`] is looked at for the first time.
const GLANCE: Duration = Duration::from_secs(2);

/// How long Podman may take from one state to the next. Then it is asked to stop what it was stopping, which helps when it
/// was killed meanwhile.
pub const BETWEEN: Duration = Duration::from_secs(20);

/// How long that may go on before the container is made anew.
pub const STUCK: Duration = Duration::from_secs(60);

/// How long it is told that a container had ended.
const TOLD: Duration = Duration::from_secs(300);

/// All that decides about one container.
pub struct Case<'a> {
    key: &'a ContainerKey,
    goal: Goal,
    service: Option<&'a Service>,
    world: &'a World,
    history: &'a History,
    now: Instant,
    current: Option<&'a ObservedContainer>,
    previous: Option<&'a ObservedContainer>,
    failed: Option<&'a ObservedContainer>,
    /// Any more, which only another hand makes.
    strays: Vec<&'a ObservedContainer>,
}

impl<'a> Case<'a> {
    /// The container of `key`, which shall become `service` where that is known.
    pub fn new(
        key: &'a ContainerKey,
        goal: Goal,
        service: Option<&'a Service>,
        world: &'a World,
        history: &'a History,
        now: Instant,
    ) -> Self {
        let mut case = Self {
            key,
            goal,
            service,
            world,
            history,
            now,
            current: None,
            previous: None,
            failed: None,
            strays: Vec::new(),
        };
        for container in world.containers.iter().filter(|c| c.key == *key) {
            let place = match container.role {
                Role::Current => &mut case.current,
                Role::Previous => &mut case.previous,
                Role::Failed => &mut case.failed,
                Role::Stray => {
                    case.strays.push(container);
                    continue;
                }
            };
            match place {
                None => *place = Some(container),
                Some(_) => case.strays.push(container),
            }
        }
        // What another hand renamed is still what it was made as.
        if case.current.is_none() && !case.strays.is_empty() {
            case.current = Some(case.strays.remove(0));
        }
        case
    }

    /// The verdict.
    pub fn settle(self) -> Verdict {
        let mut verdict = match &self.goal {
            Goal::Absent(volumes) => self.absent(*volumes),
            Goal::Hold => self.hold(),
            Goal::Service(digest) => {
                let mut verdict = self.service(digest);
                self.want_replacement(&mut verdict, digest);
                verdict
            }
        };
        self.add_strays(&mut verdict);
        self.be_patient(&mut verdict);
        verdict
    }

    fn verdict(&self, steps: Vec<Action>, finding: Option<(Phase, String)>) -> Verdict {
        Verdict {
            goal: self.goal.clone(),
            steps,
            image: None,
            login: None,
            gives_up: None,
            mends: None,
            look_at: None,
            finding,
        }
    }

    /// A second container of a service goes, once it is known what the service shall be.
    fn add_strays(&self, verdict: &mut Verdict) {
        if matches!(self.goal, Goal::Service(_)) {
            verdict
                .steps
                .extend(self.strays.iter().map(|c| remove(c, Volumes::Anonymous)));
        }
    }

    /// What has failed waits for its next try. Why it failed says more than what the container looks like therefore.
    fn be_patient(&self, verdict: &mut Verdict) {
        let Some(failure) = self.history.failure(self.key) else {
            return;
        };
        if verdict.steps.is_empty() {
            return;
        }
        // What could not be cleared away does not make a failure of what runs.
        let phase = match verdict.finding {
            None | Some((Phase::Running, _)) => Phase::Running,
            Some(_) => Phase::Failed,
        };
        verdict.finding = Some((phase, failure.text.clone()));
        if self.now < failure.retry_at {
            verdict.steps.clear();
            verdict.gives_up = None;
            verdict.mends = None;
            verdict.look_at = earlier(verdict.look_at, failure.retry_at);
        }
    }

    fn absent(&self, volumes: Volumes) -> Verdict {
        let all = [self.current, self.previous, self.failed];
        let all = all.into_iter().flatten().chain(self.strays.iter().copied());
        let gone = all.map(|container| remove(container, volumes));
        let volumes = self.world.orphans.contains(self.key);
        let volumes = volumes.then_some(Action::RemoveVolumes);
        self.verdict(
            gone.chain(volumes).collect(),
            Some((Phase::Pending, "is being removed".to_owned())),
        )
    }

    /// Nothing is removed, and what shall be is not known: what is there runs.
    fn hold(&self) -> Verdict {
        match (self.current, self.previous) {
            (Some(current), previous) => self.keep(current, previous),
            (None, Some(previous)) => self.bring_back(previous),
            (None, None) => {
                let text = "nothing runs: there is only what did not stay up";
                self.verdict(Vec::new(), Some((Phase::Failed, text.to_owned())))
            }
        }
    }

    fn service(&self, digest: &str) -> Verdict {
        match (self.current, self.previous) {
            (Some(current), previous) if current.digest == digest => self.keep(current, previous),
            (Some(current), previous) => self.replace(current, previous, digest),
            (None, Some(previous)) => self.go_on(previous, digest),
            (None, None) => self.make(),
        }
    }

    /// The current container is the one that shall be.
    fn keep(&self, current: &ObservedContainer, previous: Option<&ObservedContainer>) -> Verdict {
        // What has run is not harmed by what another one of its image has seen.
        let may_be_damaged = self.is_damaged() || !(current.has_ended() || self.is_proven(current));
        if current.state.is_down() && may_be_damaged && self.is_to_be_mended() {
            return self.mend(Some(current), previous);
        }
        match current.state {
            ContainerState::Running => self.running(current, previous),
            ContainerState::Paused => {
                self.verdict(Vec::new(), Some((Phase::Failed, "paused".to_owned())))
            }
            ContainerState::Between => self.between(current, previous),
            ContainerState::Exited { code } if current.has_ended() => {
                self.ended(current, previous, code)
            }
            ContainerState::Created | ContainerState::Exited { .. } => match previous {
                Some(previous)
                    if self.is_over(current) && previous.state != ContainerState::Between =>
                {
                    self.give_up(current, previous)
                }
                _ => {
                    let mut verdict = self.start(current);
                    if !verdict.steps.is_empty() {
                        let quiet = previous.into_iter().flat_map(quieten);
                        verdict.steps.splice(0..0, quiet);
                    }
                    verdict
                }
            },
        }
    }

    /// Whether a new container's time for coming up is over. One that has proven itself is not new any more, also where
    /// the one before it is still there.
    fn is_over(&self, current: &ObservedContainer) -> bool {
        let seen = self.history.seen(&current.id);
        if seen.is_some_and(|seen| seen.proven) {
            return false;
        }
        self.is_damaged()
            || self.fails()
            || seen.is_some_and(|seen| {
                seen.short_runs >= MAX_SHORT_RUNS || self.now - seen.first >= Self::trial(current)
            })
    }

    /// Whether its steps fail and fail.
    fn fails(&self) -> bool {
        let failure = self.history.failure(self.key);
        failure.is_some_and(|failure| failure.times >= MAX_FAILURES)
    }

    fn is_proven(&self, container: &ObservedContainer) -> bool {
        let seen = self.history.seen(&container.id);
        seen.is_some_and(|seen| seen.proven)
    }

    fn running(
        &self,
        current: &ObservedContainer,
        previous: Option<&ObservedContainer>,
    ) -> Verdict {
        if let Some(verdict) = self.not_healthy(current, previous) {
            return verdict;
        }
        let seen = self.history.seen(&current.id);
        let steady = seen.is_some_and(|seen| seen.is_steady(self.now));
        let since = seen.map_or(self.now, |seen| seen.since);
        let look_at = match self.now < since + GLANCE {
            true => since + GLANCE,
            false => since + STEADY,
        };
        let known = matches!(self.goal, Goal::Service(_));
        if steady {
            return self.verdict(self.clear_away(previous), self.had_exited(seen));
        }
        let mut verdict = match seen {
            Some(Seen {
                short_runs: 1..,
                last_exit: Some((code, _)),
                ..
            }) => {
                let text = format!("exited with code {code}, runs again");
                self.verdict(Vec::new(), Some((Phase::Failed, text)))
            }
            _ if previous.is_some() && known && !self.is_proven(current) => {
                let text = "new, the one before it is kept until it has run for a while";
                self.verdict(Vec::new(), Some((Phase::Pending, text.to_owned())))
            }
            _ => return self.verdict(Vec::new(), self.had_exited(seen)),
        };
        verdict.look_at = Some(look_at);
        verdict
    }

    /// The steps that remove what is kept beside one that has proven itself, once it is known what shall run.
    fn clear_away(&self, previous: Option<&ObservedContainer>) -> Vec<Action> {
        let known = matches!(self.goal, Goal::Service(_));
        let relics = previous.into_iter().chain(self.failed);
        let relics = relics.filter(|_| known);
        relics
            .map(|relic| remove(relic, Volumes::Anonymous))
            .collect()
    }

    fn had_exited(&self, seen: Option<&Seen>) -> Option<(Phase, String)> {
        let (code, at) = seen?.last_exit?;
        let recent = self.now - at < TOLD;
        recent.then(|| {
            (
                Phase::Running,
                format!("had exited with code {code}, started again"),
            )
        })
    }

    /// Starts a container that is down; one that ended early has to wait.
    fn start(&self, container: &ObservedContainer) -> Verdict {
        let start = Action::Start {
            id: container.id.clone(),
        };
        let ContainerState::Exited { code } = container.state else {
            let finding = (Phase::Pending, "is being started".to_owned());
            return self.verdict(vec![start], Some(finding));
        };
        let seen = self.history.seen(&container.id);
        let short_runs = seen.map_or(0, |seen| seen.short_runs);
        if short_runs == 0 {
            let finding = (
                Phase::Pending,
                format!("exited with code {code}, is being started"),
            );
            return self.verdict(vec![start], Some(finding));
        }
        let finding = (Phase::Failed, format!("exited with code {code}"));
        let due = seen.map_or(self.now, |seen| seen.since) + retry_after(short_runs);
        if due <= self.now {
            let examine = Action::Examine {
                id: container.id.clone(),
            };
            return self.verdict(vec![examine, start], Some(finding));
        }
        let mut verdict = self.verdict(Vec::new(), Some(finding));
        verdict.look_at = Some(due);
        verdict
    }
}

fn remove(container: &ObservedContainer, volumes: Volumes) -> Action {
    Action::Remove {
        id: container.id.clone(),
        volumes,
    }
}

/// The steps that bring back the one before. One that rests between two states is mended as the current one.
fn back(previous: &ObservedContainer) -> Vec<Action> {
    let id = previous.id.clone();
    let rename = Action::Rename {
        id: id.clone(),
        role: Role::Current,
    };
    match previous.state {
        ContainerState::Between => vec![rename],
        ContainerState::Paused => {
            let unpause = Action::Unpause { id: id.clone() };
            vec![rename, unpause, Action::Start { id }]
        }
        _ => vec![rename, Action::Start { id }],
    }
}

/// The step before [`Action::SetAside`] or [`Action::Stop`] that lets those succeed.
fn unpause(container: &ObservedContainer) -> Option<Action> {
    let id = container.id.clone();
    (container.state == ContainerState::Paused).then_some(Action::Unpause { id })
}

/// The steps after which the one before holds no port any more.
fn quieten(previous: &ObservedContainer) -> Vec<Action> {
    let id = previous.id.clone();
    match previous.state {
        ContainerState::Running | ContainerState::Paused => {
            let stop = Action::Stop { id };
            unpause(previous).into_iter().chain([stop]).collect()
        }
        _ => Vec::new(),
    }
}

fn earlier(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}
