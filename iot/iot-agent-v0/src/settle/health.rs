//! A container that runs and does not work, or not yet.

use std::time::Duration;

use iot_contracts::{Phase, Restart};

use super::{Case, TRIAL};
use crate::container::{ContainerState, Health, ObservedContainer};
use crate::history::retry_after;
use crate::plan::{Action, Goal, Verdict};

/// How often a container is looked at that has not told yet whether it works.
const HEALTH_GLANCE: Duration = Duration::from_secs(5);

impl Case<'_> {
    /// The verdict on a container that runs, when its health check does not say that it works.
    pub(super) fn not_healthy(
        &self,
        current: &ObservedContainer,
        previous: Option<&ObservedContainer>,
    ) -> Option<Verdict> {
        let known = matches!(self.goal, Goal::Service(_));
        let is_new = known && !self.is_proven(current);
        let to_come_back = previous.filter(|c| is_new && c.state != ContainerState::Between);
        match (current.health?, to_come_back) {
            (Health::Healthy, _) => None,
            (Health::Unhealthy, Some(previous)) => Some(self.give_up(current, previous)),
            (Health::Unhealthy, None) => Some(self.unhealthy(current)),
            (Health::Starting, previous) => Some(self.becoming_healthy(current, previous)),
        }
    }

    /// How long a new container has for coming up before the one that ran before comes back.
    pub(super) fn trial(current: &ObservedContainer) -> Duration {
        TRIAL.max(current.terms.healthy_within().unwrap_or_default())
    }

    /// What is said of a container whose health is the trouble.
    pub(super) fn health_text(current: &ObservedContainer) -> Option<String> {
        match current.health? {
            Health::Healthy => None,
            Health::Unhealthy => Some("unhealthy".to_owned()),
            Health::Starting => {
                let seconds = Self::trial(current).as_secs();
                Some(format!("not healthy within {seconds} s"))
            }
        }
    }

    fn becoming_healthy(
        &self,
        current: &ObservedContainer,
        previous: Option<&ObservedContainer>,
    ) -> Verdict {
        let seen = self.history.seen(&current.id);
        let since = seen.map_or(self.now, |seen| seen.since);
        // A new one that ends and ends has no more time than one that does not.
        let since = match previous {
            Some(_) => seen.map_or(since, |seen| seen.first),
            None => since,
        };
        let end = since + Self::trial(current);
        if self.now < end {
            let kept = match previous {
                Some(_) => "new, waits for its health check; the one before it is kept",
                None => "waits for its health check",
            };
            let mut verdict = self.verdict(Vec::new(), Some((Phase::Pending, kept.to_owned())));
            verdict.look_at = Some(end.min(self.now + HEALTH_GLANCE));
            return verdict;
        }
        if let Some(previous) = previous {
            return self.give_up(current, previous);
        }
        let text = Self::health_text(current).unwrap_or_default();
        self.verdict(Vec::new(), Some((Phase::Failed, text)))
    }

    /// One that nothing takes the place of is started again, as one that has ended with a failure is.
    fn unhealthy(&self, current: &ObservedContainer) -> Verdict {
        let finding = |text: &str| Some((Phase::Failed, text.to_owned()));
        if current.terms.restart == Restart::Never {
            return self.verdict(Vec::new(), finding("unhealthy"));
        }
        let seen = self.history.seen(&current.id);
        let due = seen.map_or(self.now, |seen| {
            seen.health_since + retry_after(seen.unhealthy_runs)
        });
        if self.now < due {
            let mut verdict = self.verdict(Vec::new(), finding("unhealthy"));
            verdict.look_at = Some(due);
            return verdict;
        }
        let id = current.id.clone();
        let steps = vec![Action::Stop { id: id.clone() }, Action::Start { id }];
        self.verdict(steps, finding("unhealthy, is started again"))
    }
}
