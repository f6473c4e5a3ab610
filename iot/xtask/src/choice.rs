//! Which lanes run, in which order.

use std::fmt;

use crate::lanes::{Lane, TURNS, When};

/// Which lanes run when none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that need no guest.
    Quick,
    /// Those that run each time, and of the others those whose turn it is: any [`TURNS`] numbers in a row have them all.
    Turn(u64),
    /// Each.
    All,
}

impl Scope {
    /// The lanes, in the order given.
    fn of(self, all: &[Lane]) -> Vec<&Lane> {
        let mut waiting = 0;
        let runs = |lane: &&Lane| match (self, lane.when) {
            (Self::All, _) | (_, When::Quick) | (Self::Turn(_), When::Always) => true,
            (Self::Quick, _) => false,
            (Self::Turn(turn), When::InTurns) => {
                waiting += 1;
                waiting % TURNS == turn % TURNS
            }
        };
        all.iter().filter(runs).collect()
    }
}

/// A name that is no lane's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLane {
    /// What was given.
    name: String,
    /// The lanes that there are.
    expected: Vec<&'static str>,
}

impl fmt::Display for UnknownLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = self.expected.join(", ");
        write!(
            f,
            "unknown lane '{}' (expected one of {expected})",
            self.name
        )
    }
}

/// The lanes that are `named`, or those of `scope`.
///
/// # Errors
/// The first name that is no lane's, with those that there are.
pub fn choose<'a>(
    all: &'a [Lane],
    named: &[String],
    scope: Scope,
) -> Result<Vec<&'a Lane>, UnknownLane> {
    if named.is_empty() {
        return Ok(scope.of(all));
    }
    let mut chosen: Vec<&Lane> = Vec::new();
    for name in named {
        let lane = all.iter().find(|lane| lane.name == name);
        let lane = lane.ok_or_else(|| UnknownLane {
            name: name.clone(),
            expected: all.iter().map(|lane| lane.name).collect(),
        })?;
        if !chosen.iter().any(|chosen| chosen.name == lane.name) {
            chosen.push(lane);
        }
    }
    Ok(chosen)
}

/// Puts them into the order of `seed`: the same one for the same lanes.
pub fn shuffle(lanes: &mut [&Lane], seed: u64) {
    fastrand::Rng::with_seed(seed).shuffle(lanes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Scope, choose, shuffle};
    use crate::lanes::{ALL, Lane, TURNS, When};

    fn names(lanes: &[&Lane]) -> Vec<&'static str> {
        lanes.iter().map(|lane| lane.name).collect()
    }

    fn of(scope: Scope) -> Vec<&'static Lane> {
        choose(&ALL, &[], scope).expect("lanes")
    }

    #[test]
    fn named_lanes_run_once_each_in_the_order_given() {
        let named = ["unit", "format", "unit"].map(str::to_owned);
        let chosen = choose(&ALL, &named, Scope::All).expect("lanes");
        assert_eq!(names(&chosen), ["unit", "format"]);
        let error = choose(&ALL, &["smoke".to_owned()], Scope::All).expect_err("no lane");
        let error = error.to_string();
        assert!(
            error.starts_with("unknown lane 'smoke' (expected one of format, "),
            "{error}"
        );
    }

    #[test]
    fn quick_lanes_are_some_of_all() {
        let (all, quick) = (of(Scope::All), of(Scope::Quick));
        assert_eq!(all.len(), ALL.len());
        assert!(!quick.is_empty() && quick.len() < all.len());
        assert!(quick.iter().all(|lane| lane.when == When::Quick));
    }

    #[test]
    fn turns_in_a_row_run_every_lane_and_those_in_turns_once() {
        for first in [0, 7, u64::MAX - TURNS] {
            let turns = || (first..first + TURNS).map(|turn| of(Scope::Turn(turn)));
            for lane in &ALL {
                let runs = turns().filter(|lanes| names(lanes).contains(&lane.name));
                let expected = if lane.when == When::InTurns { 1 } else { TURNS };
                assert_eq!(runs.count() as u64, expected, "{} from {first}", lane.name);
            }
        }
    }

    #[test]
    fn no_turn_has_more_to_do_than_fits() {
        // With empty caches each; what lanes share takes half of that off.
        for turn in 0..TURNS {
            let minutes: u32 = of(Scope::Turn(turn)).iter().map(|l| l.about_minutes).sum();
            assert!(minutes < 100, "turn {turn}: {minutes} min");
        }
    }

    #[test]
    fn a_seed_gives_one_order_and_loses_no_lane() {
        let order = |seed| {
            let mut lanes = of(Scope::All);
            shuffle(&mut lanes, seed);
            names(&lanes)
        };
        assert_eq!(order(7), order(7));
        let orders: BTreeSet<_> = (0..20).map(order).collect();
        assert!(orders.len() > 15, "{} orders of 20 seeds", orders.len());
        let sorted = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names
        };
        assert_eq!(
            sorted(order(3)),
            sorted(ALL.iter().map(|l| l.name).collect())
        );
    }
}
