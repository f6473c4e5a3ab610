//! What was seen of one container, look after look.

use tokio::time::Instant;

use super::STEADY;
use crate::container::{ContainerState, Health, ObservedContainer};

/// What was seen of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    state: ContainerState,
    health: Option<Health>,
    started_at: i64,
    /// When it was seen for the first time.
    pub first: Instant,
    /// Since when it has been seen in its state.
    pub since: Instant,
    /// Whether it has ever run for [`STEADY`]. A new agent does not know, and sees it run that long once more.
    pub proven: bool,
    /// How often in a row it ended before it was [`STEADY`].
    pub short_runs: u32,
    /// With what it last ended, and when that was seen.
    pub last_exit: Option<(i32, Instant)>,
    /// How often it was started again.
    pub restarts: u32,
    /// Since when its health check has said what it says.
    pub health_since: Instant,
    /// In how many runs in a row it was unhealthy.
    pub unhealthy_runs: u32,
}

impl Seen {
    /// A container that was not there at the last look. One that was `started` since and is down has ended already; any
    /// other that is down went with the power.
    pub(super) fn new(container: &ObservedContainer, started: bool, now: Instant) -> Self {
        let ended = matches!(container.state, ContainerState::Exited { .. });
        Self {
            state: container.state,
            health: container.health,
            started_at: container.started_at,
            first: now,
            since: now,
            proven: false,
            short_runs: u32::from(started && ended),
            last_exit: match container.state {
                ContainerState::Exited { code } => Some((code, now)),
                _ => None,
            },
            restarts: 0,
            health_since: now,
            unhealthy_runs: u32::from(container.health == Some(Health::Unhealthy)),
        }
    }

    pub(super) fn update(&mut self, container: &ObservedContainer, now: Instant) {
        let was = self.state;
        let ran_anew = container.started_at != self.started_at;
        let was_well = self.is_well();
        if self.health != container.health || ran_anew {
            self.health = container.health;
            self.health_since = now;
            if self.health == Some(Health::Unhealthy) {
                self.unhealthy_runs = self.unhealthy_runs.saturating_add(1);
            }
        }
        if was == container.state && !ran_anew {
            if self.is_steady(now) {
                self.proven = true;
                self.short_runs = 0;
                self.unhealthy_runs = 0;
            }
            return;
        }
        // A look sees late that it has ended. By the device's clock it may have run too long, never too short.
        let ran = container.exited_at - container.started_at;
        let ended_early =
            container.started_at > 0 && (0..STEADY.as_secs().cast_signed()).contains(&ran);
        let was_steady = was == ContainerState::Running
            && now - self.since >= STEADY
            && !ended_early
            && was_well;
        self.proven |= was_steady;
        if let ContainerState::Exited { code } = container.state {
            self.last_exit = Some((code, now));
            self.short_runs = if was_steady {
                0
            } else {
                self.short_runs.saturating_add(1)
            };
        }
        if ran_anew && was != ContainerState::Created {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.state = container.state;
        self.started_at = container.started_at;
        self.since = now;
    }

    /// Whether it has run for [`STEADY`], and is healthy where that is asked for.
    pub fn is_steady(&self, now: Instant) -> bool {
        self.state == ContainerState::Running && now - self.since >= STEADY && self.is_well()
    }

    fn is_well(&self) -> bool {
        self.health.is_none_or(|health| health == Health::Healthy)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::STEADY;
    use crate::container::ContainerState::{Exited, Running};
    use crate::container::{ContainerKey, ContainerState, ObservedContainer, Role};
    use crate::history::History;
    use crate::service::Terms;

    /// A container that started at second 100.
    fn container(state: ContainerState, exited_at: i64) -> ObservedContainer {
        ObservedContainer {
            id: "c".to_owned(),
            key: ContainerKey {
                deployment: "web".parse().unwrap(),
                service: "a".parse().unwrap(),
            },
            role: Role::Current,
            digest: "d".to_owned(),
            terms: Terms::default(),
            state,
            health: None,
            image: String::new(),
            image_digest: None,
            started_at: 100,
            exited_at,
        }
    }

    #[test]
    fn a_run_is_short_whenever_it_is_seen_to_have_ended() {
        let seconds = STEADY.as_secs().cast_signed();
        for (seen_after, exited_at, short) in [
            (STEADY, 100, 1),
            (STEADY * 3, 100 + seconds - 1, 1),
            (STEADY, 100 + seconds, 0),
            (STEADY / 2, 100 + seconds, 1),
            // The clock was set back, or forward.
            (STEADY, 3, 0),
            (STEADY, 1_795_950_436, 0),
        ] {
            let mut history = History::default();
            let now = Instant::now();
            history.look(&[container(Running, 0)], now);
            history.look(
                &[container(Exited { code: 1 }, exited_at)],
                now + seen_after,
            );
            assert_eq!(
                history.seen("c").unwrap().short_runs,
                short,
                "{seen_after:?} {exited_at}"
            );
        }
    }
}
