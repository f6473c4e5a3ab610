//! One container in place of another.

use iot_contracts::Phase;
use tokio::time::Instant;

use super::{BETWEEN, Case, STUCK, back, earlier, quieten, remove, unpause};
use crate::container::{ContainerSpec, ContainerState, ObservedContainer, Role};
use crate::history::{Failure, MAX_SECOND_TRIES};
use crate::plan::{Action, Verdict, Volumes};
use crate::service::Service;

impl Case<'_> {
    /// Podman may rest between two states when it was killed, and no start leads out of there.
    pub(super) fn between(
        &self,
        current: &ObservedContainer,
        previous: Option<&ObservedContainer>,
    ) -> Verdict {
        if self.now < self.since(current) + STUCK {
            return self.unstick(current);
        }
        let finding = Some((
            Phase::Failed,
            "rests between two states, is made anew".to_owned(),
        ));
        // One that has proven itself is made anew, unless the one before stands in the way of that.
        let gives_way = !self.is_proven(current) || self.fails();
        let to_come_back = previous.filter(|c| gives_way && c.state != ContainerState::Between);
        let Some(service) = self.service else {
            return match to_come_back {
                Some(previous) => self.give_up(current, previous),
                None => self.verdict(Vec::new(), finding),
            };
        };
        if let Some(previous) = to_come_back {
            return self.give_up(current, previous);
        }
        self.verdict(self.anew(current, previous, service), finding)
    }

    /// Asks Podman to stop what it was stopping.
    fn unstick(&self, container: &ObservedContainer) -> Verdict {
        let since = self.since(container);
        if self.now < since + BETWEEN {
            return self.changing(since + BETWEEN);
        }
        let id = container.id.clone();
        let steps = vec![Action::Stop { id: id.clone() }, Action::Start { id }];
        let finding = (Phase::Failed, "rests between two states".to_owned());
        let mut verdict = self.verdict(steps, Some(finding));
        verdict.look_at = Some(since + STUCK).filter(|at| *at > self.now);
        verdict
    }

    fn since(&self, container: &ObservedContainer) -> Instant {
        let seen = self.history.seen(&container.id);
        seen.map_or(self.now, |seen| seen.since)
    }

    fn changing(&self, look_at: Instant) -> Verdict {
        let finding = (Phase::Pending, "changing".to_owned());
        let mut verdict = self.verdict(Vec::new(), Some(finding));
        verdict.look_at = Some(look_at);
        verdict
    }

    /// The steps by which a container that cannot even be stopped is made anew, with its volumes. It may still run, and
    /// goes before the new one is started.
    fn anew(
        &self,
        current: &ObservedContainer,
        previous: Option<&ObservedContainer>,
        service: &Service,
    ) -> Vec<Action> {
        let aside = Action::Rename {
            id: current.id.clone(),
            role: Role::Previous,
        };
        let create = Action::Create(self.spec(service, Some(current)));
        let gone = previous.map(|previous| remove(previous, Volumes::Anonymous));
        let steps = [aside, create, remove(current, Volumes::Anonymous)];
        gone.into_iter().chain(steps).collect()
    }

    /// Whether the image is damaged, as far as this container has seen.
    pub(super) fn is_damaged(&self) -> bool {
        self.service
            .is_some_and(|service| self.history.is_damaged(service.image(), self.key))
    }

    /// Whether it is, and may be removed to be fetched anew.
    pub(super) fn is_to_be_mended(&self) -> bool {
        self.service
            .is_some_and(|service| self.history.is_to_be_mended(service.image()))
    }

    /// A damaged image is pulled before it goes: what its registry has not shown to have may be the only one there is.
    pub(super) fn want_replacement(&self, verdict: &mut Verdict, digest: &str) {
        let is_in_use = |c: &ObservedContainer| c.digest == digest && !c.state.is_down();
        let Some(service) = self
            .service
            .filter(|_| !self.current.is_some_and(is_in_use))
        else {
            return;
        };
        if verdict.image.is_none() && self.history.wants_replacement(service.image()) {
            self.fetch(verdict);
        }
    }

    /// The image goes, and what was made of it, so that it is fetched anew. What ran before runs meanwhile.
    pub(super) fn mend(
        &self,
        current: Option<&ObservedContainer>,
        previous: Option<&ObservedContainer>,
    ) -> Verdict {
        let mut steps: Vec<_> = self
            .failed
            .into_iter()
            .map(|failed| remove(failed, Volumes::Anonymous))
            .collect();
        // Without one before, they wait for the next one.
        let volumes = match previous {
            Some(_) => Volumes::Anonymous,
            None => Volumes::Kept,
        };
        steps.extend(current.map(|current| remove(current, volumes)));
        steps.extend(previous.into_iter().flat_map(back));
        let image = self.service.map(|service| service.image().clone());
        steps.extend(image.clone().map(|image| Action::RemoveImage { image }));
        let finding = (Phase::Failed, "its image is damaged, and is fetched anew");
        let mut verdict = self.verdict(steps, Some((finding.0, finding.1.to_owned())));
        verdict.mends = image;
        verdict
    }

    /// The one before comes back.
    pub(super) fn give_up(
        &self,
        current: &ObservedContainer,
        previous: &ObservedContainer,
    ) -> Verdict {
        let reason = match (self.history.failure(self.key), current.state) {
            (Some(failure), _) => failure.text.clone(),
            (None, _) if self.is_damaged() => {
                "the image is damaged or made for another machine".to_owned()
            }
            (None, ContainerState::Exited { code }) => format!("exited with code {code}"),
            (None, ContainerState::Between) => "rests between two states".to_owned(),
            (None, _) => Self::health_text(current).unwrap_or("did not start".to_owned()),
        };
        let mut steps = Vec::new();
        if current.state == ContainerState::Between {
            steps.push(remove(current, Volumes::Anonymous));
        } else {
            steps.extend(self.failed.map(|failed| remove(failed, Volumes::Anonymous)));
            // It holds the ports that the one before needs.
            steps.extend(quieten(current));
            steps.push(Action::Rename {
                id: current.id.clone(),
                role: Role::Failed,
            });
        }
        steps.extend(back(previous));
        let finding = (
            Phase::Failed,
            format!("{reason}; the one before it comes back"),
        );
        let mut verdict = self.verdict(steps, Some(finding));
        verdict.gives_up = Some((current.digest.clone(), reason));
        verdict
    }

    /// The current container is another than shall be.
    pub(super) fn replace(
        &self,
        current: &ObservedContainer,
        previous: Option<&ObservedContainer>,
        digest: &str,
    ) -> Verdict {
        if let Some(previous) = previous.filter(|previous| previous.digest == digest) {
            // Back to what ran before, while the new one is not yet proven.
            let steps = [remove(current, Volumes::Anonymous)]
                .into_iter()
                .chain(back(previous));
            let finding = (Phase::Pending, "the one before comes back".to_owned());
            return self.verdict(steps.collect(), Some(finding));
        }
        if self.is_to_be_mended() {
            return self.mend(None, None);
        }
        if let Some(given_up) = self.history.rests(self.key, digest, self.now) {
            return self.kept(current, given_up);
        }
        let (Some(service), Some(true)) = (self.service, self.image()) else {
            let finding = self.waits("the one before it is kept");
            let mut verdict = self.up(current, finding);
            self.want_image(&mut verdict);
            return verdict;
        };
        if current.state == ContainerState::Between {
            let since = self.since(current);
            if self.now < since + BETWEEN {
                return self.changing(since + BETWEEN);
            }
            let to_come_back = previous.is_some_and(|c| c.state != ContainerState::Between);
            if self.now >= since + STUCK && !to_come_back {
                let steps = self.anew(current, previous, service);
                let finding = (Phase::Pending, "is being replaced".to_owned());
                return self.verdict(steps, Some(finding));
            }
        }
        let proven = previous.is_none() || self.is_proven(current);
        let mut steps: Vec<_> = self
            .failed
            .map(|failed| remove(failed, Volumes::Anonymous))
            .into_iter()
            .collect();
        let before = if proven {
            steps.extend(previous.map(|previous| remove(previous, Volumes::Anonymous)));
            steps.extend(unpause(current));
            steps.push(Action::SetAside {
                id: current.id.clone(),
            });
            Some(current)
        } else {
            steps.push(remove(current, Volumes::Anonymous));
            previous
        };
        steps.push(Action::Run(self.spec(service, before)));
        self.verdict(
            steps,
            Some((Phase::Pending, "is being replaced".to_owned())),
        )
    }

    /// What shall be was given up, and this one runs until it is tried again, if it is.
    fn kept(&self, current: &ObservedContainer, given_up: &Failure) -> Verdict {
        let times = given_up.times;
        let is_final = times > MAX_SECOND_TRIES;
        let end = match is_final {
            true => format!("; given up after {times} tries, a new value of its key is tried"),
            false => String::new(),
        };
        let text = format!("{}{end}; the one before it is kept", given_up.text);
        let mut verdict = self.up(current, (Phase::Failed, text));
        if !is_final {
            verdict.look_at = earlier(verdict.look_at, given_up.retry_at);
        }
        verdict
    }

    /// A container that is to be replaced runs until then.
    fn up(&self, current: &ObservedContainer, finding: (Phase, String)) -> Verdict {
        let mut verdict = match current.state {
            ContainerState::Created | ContainerState::Exited { .. } if !current.has_ended() => {
                self.start(current)
            }
            ContainerState::Between => self.unstick(current),
            ContainerState::Running => self
                .not_healthy(current, None)
                .unwrap_or_else(|| self.verdict(Vec::new(), None)),
            _ => self.verdict(Vec::new(), None),
        };
        verdict.finding = Some(finding);
        verdict
    }

    /// An update was interrupted, or its container could not be made: there is the one before only.
    pub(super) fn go_on(&self, previous: &ObservedContainer, digest: &str) -> Verdict {
        if previous.digest == digest {
            return self.bring_back(previous);
        }
        if self.is_to_be_mended() {
            return self.mend(None, Some(previous));
        }
        if let Some(failure) = self.history.failure(self.key) {
            let mut verdict = self.bring_back(previous);
            verdict.gives_up = Some((digest.to_owned(), failure.text.clone()));
            return verdict;
        }
        if self.history.rests(self.key, digest, self.now).is_some() {
            return self.bring_back(previous);
        }
        match (self.service, self.image()) {
            (Some(service), Some(true)) => {
                let failed = self.failed.map(|failed| remove(failed, Volumes::Anonymous));
                let run = Action::Run(self.spec(service, Some(previous)));
                let quiet = quieten(previous).into_iter();
                let steps = failed.into_iter().chain(quiet).chain([run]).collect();
                self.verdict(
                    steps,
                    Some((Phase::Pending, "is being replaced".to_owned())),
                )
            }
            (_, Some(false)) => {
                let mut verdict = self.bring_back(previous);
                self.want_image(&mut verdict);
                verdict
            }
            _ => self.verdict(Vec::new(), Some(self.waits("the one before it is down"))),
        }
    }

    pub(super) fn bring_back(&self, previous: &ObservedContainer) -> Verdict {
        let finding = (Phase::Pending, "the one before comes back".to_owned());
        self.verdict(back(previous), Some(finding))
    }

    /// There is no container.
    pub(super) fn make(&self) -> Verdict {
        let (Some(service), Some(true)) = (self.service, self.image()) else {
            let mut verdict = self.verdict(Vec::new(), Some(self.waits("")));
            self.want_image(&mut verdict);
            return verdict;
        };
        if self.is_to_be_mended() {
            return self.mend(None, None);
        }
        let failed = self.failed.map(|failed| remove(failed, Volumes::Anonymous));
        let run = Action::Run(self.spec(service, None));
        let steps = failed.into_iter().chain([run]).collect();
        self.verdict(steps, Some((Phase::Pending, "is being made".to_owned())))
    }

    /// Whether the image is there; `None` when nobody asked.
    fn image(&self) -> Option<bool> {
        let image = self.service?.image();
        let found = self.world.images.get(image).copied();
        found.map(|found| found || self.history.is_fetched(image))
    }

    fn want_image(&self, verdict: &mut Verdict) {
        if self.image() == Some(false) {
            self.fetch(verdict);
        }
    }

    fn fetch(&self, verdict: &mut Verdict) {
        let service = self.service;
        verdict.image = service.map(|service| service.image().clone());
        verdict.login = service.and_then(|service| service.definition.registry_login.clone());
    }

    fn waits(&self, meanwhile: &str) -> (Phase, String) {
        let image = self.service.map(Service::image);
        let failure = image.and_then(|image| {
            let unseen = self.world.unseen.get(image);
            unseen.or(self
                .history
                .pull_failure(image)
                .map(|failure| &failure.text))
        });
        let (phase, text) = match (failure, image) {
            (Some(failure), _) => (Phase::Failed, failure.clone()),
            (None, Some(image)) => (Phase::Pending, format!("waits for image '{image}'")),
            (None, None) => (Phase::Pending, "not there".to_owned()),
        };
        match meanwhile {
            "" => (phase, text),
            _ => (phase, format!("{text}; {meanwhile}")),
        }
    }

    fn spec(&self, service: &Service, volumes_from: Option<&ObservedContainer>) -> ContainerSpec {
        ContainerSpec {
            key: self.key.clone(),
            service: service.clone(),
            volumes_from: volumes_from.map(|container| container.id.clone()),
        }
    }
}
