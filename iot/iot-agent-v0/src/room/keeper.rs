//! Keeps the reserve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iot_contracts::{ImageReference, RegistryLogin};
use tokio::time::Instant;

use super::{Space, Unused};
use crate::flights::Flights;
use crate::history::{Failure, History};
use crate::plan::Plan;
use crate::reconcile::Executor;

/// How often unused images are looked through, at the next look after it.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// How long it is believed that there is nothing more to remove.
pub const SWEPT: Duration = Duration::from_secs(60);

/// What is remembered of the images.
#[derive(Debug)]
pub struct Keeper {
    unused: Unused,
    /// When they were last looked through.
    swept: Instant,
    /// Whether something failed since for want of space.
    wanted: bool,
}

impl Keeper {
    /// Nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            unused: Unused::new(),
            // For want of space the first sweep waits for nothing.
            swept: now.checked_sub(SWEPT).unwrap_or(now),
            wanted: false,
        }
    }

    /// Something failed for want of space.
    pub fn wants_space(&mut self) {
        self.wanted = true;
    }

    /// Unused images were removed.
    pub fn swept(&mut self, unused: Unused, now: Instant) {
        self.unused = unused;
        self.swept = now;
        self.wanted = false;
    }

    /// Begins the pulls of `plan` for which there is space, and makes space for the others. What is being pulled ends
    /// when it eats the reserve. Whether there is something new to be said of an image.
    pub fn pull<E: Executor>(
        &self,
        flights: &mut Flights<'_, E>,
        history: &mut History,
        plan: &Plan,
        space: Option<Space>,
        desired: &BTreeSet<ImageReference>,
    ) -> bool {
        let mut news = false;
        let now = Instant::now();
        if let Some(space) = space.filter(|space| space.is_critical()) {
            for image in flights.end_pulls() {
                tracing::warn!(%image, %space, "its pull is ended");
                history.no_space_for(&image, space.to_string(), now);
                news = true;
            }
        }
        let due = |image: &ImageReference| {
            let failure = history.pull_failure(image);
            failure.is_none_or(|failure| failure.retry_at <= now)
        };
        let mut waiting = BTreeMap::<_, Vec<_>>::new();
        for verdict in plan.values() {
            if let Some(image) = verdict.image.as_ref().filter(|image| due(image)) {
                let (logins, login) = (waiting.entry(image).or_default(), verdict.login.as_ref());
                if !logins.contains(&login) {
                    logins.push(login);
                }
            }
        }
        let short = space.filter(|space| space.is_short() && !waiting.is_empty());
        let interval = match short.is_some() || self.wanted {
            true => SWEPT,
            false => SWEEP_INTERVAL,
        };
        if now - self.swept >= interval {
            flights.sweep(desired.clone(), self.unused.clone());
        }
        for (image, logins) in waiting {
            match short {
                None => flights.pull(image, in_turn(logins, history.pull_failure(image)), now),
                Some(_) if flights.sweeps() => {}
                Some(space) => {
                    tracing::warn!(%image, %space, "not pulled");
                    history.no_space_for(image, space.to_string(), now);
                    news = true;
                }
            }
        }
        news
    }
}

/// Whoever knows how to log in pulls for the others as well. As one's login may be wrong, each has its turn.
fn in_turn<'a>(
    mut logins: Vec<Option<&'a RegistryLogin>>,
    failure: Option<&Failure>,
) -> Option<&'a RegistryLogin> {
    logins.sort_by_key(Option::is_none);
    let failures = failure.map_or(0, |failure| failure.times as usize);
    let turn = failures % logins.len().max(1);
    logins.get(turn).copied().flatten()
}
