//! Keeps the reserve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iot_contracts::{ImageReference, RegistryLogin};
use tokio::time::Instant;

use super::ages::Ages;
use super::{Space, Unused};
use crate::flights::{Flights, registry_of};
use crate::history::{Failure, History};
use crate::plan::Plan;
use crate::reconcile::Executor;

/// How often unused images are looked through, at the next look after it.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// How long it is believed that there is nothing more to remove.
pub const SWEPT: Duration = Duration::from_secs(60);

/// What is said of an image whose pull was ended for another registry's.
const GAVE_WAY: &str =
    "its registry has not given it yet, and others had to wait; it is tried again";

/// What is remembered of the images.
#[derive(Debug)]
pub struct Keeper {
    unused: Unused,
    ages: Ages,
    /// When they were last looked through.
    swept: Instant,
    /// Whether something failed since for want of space.
    wanted: bool,
}

impl Keeper {
    /// What an earlier agent has written down.
    pub fn new(ages: Ages, now: Instant) -> Self {
        Self {
            unused: ages.recall(now),
            ages,
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

    /// Begins the pulls of `plan` for which there is space, and makes space for the others. Whether there is something
    /// new to be said of an image.
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
            flights.sweep(desired.clone(), self.unused.clone(), self.ages.clone());
        }
        for (image, logins) in in_turn(waiting, flights) {
            match short {
                None => {
                    let login = login_of_its_turn(logins, history.pull_failure(image));
                    if let Some(other) = flights.pull(image, login, now) {
                        tracing::warn!(image = %other, to = %image, "its pull gives way");
                        history.pull_failed(&other, GAVE_WAY.to_owned(), now);
                        news = true;
                    }
                }
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
fn login_of_its_turn<'a>(
    mut logins: Vec<Option<&'a RegistryLogin>>,
    failure: Option<&Failure>,
) -> Option<&'a RegistryLogin> {
    logins.sort_by_key(Option::is_none);
    let failures = failure.map_or(0, |failure| failure.times as usize);
    let turn = failures % logins.len().max(1);
    logins.get(turn).copied().flatten()
}

/// What waits for its pull, each registry in its turn: those that are being pulled from have had theirs.
fn in_turn<'a, E: Executor, T>(
    waiting: BTreeMap<&'a ImageReference, T>,
    flights: &Flights<'_, E>,
) -> Vec<(&'a ImageReference, T)> {
    let mut turns = BTreeMap::new();
    let waiting = waiting
        .into_iter()
        .filter(|(image, _)| !flights.is_pulled(image));
    let mut in_turn: Vec<_> = waiting
        .map(|(image, login)| {
            let registry = registry_of(image);
            let turn = turns
                .entry(registry)
                .or_insert_with(|| flights.pulls_from(registry));
            *turn += 1;
            (*turn, image, login)
        })
        .collect();
    in_turn.sort_by_key(|(turn, ..)| *turn);
    let in_turn = in_turn.into_iter();
    in_turn.map(|(_, image, login)| (image, login)).collect()
}
