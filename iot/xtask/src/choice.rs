//! Which lanes run, in which order.

use std::fmt;

use crate::lanes::Lane;

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

/// The lanes that are `named`, or all; with `quick` those that need no guest.
///
/// # Errors
/// The first name that is no lane's, with those that there are.
pub fn choose<'a>(
    all: &'a [Lane],
    named: &[String],
    quick: bool,
) -> Result<Vec<&'a Lane>, UnknownLane> {
    if named.is_empty() {
        return Ok(all.iter().filter(|lane| lane.quick || !quick).collect());
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

    use super::{choose, shuffle};
    use crate::lanes::{ALL, Lane};

    fn names(lanes: &[&Lane]) -> Vec<&'static str> {
        lanes.iter().map(|lane| lane.name).collect()
    }

    #[test]
    fn named_lanes_run_once_each_in_the_order_given() {
        let named = ["unit", "format", "unit"].map(str::to_owned);
        let chosen = choose(&ALL, &named, false).expect("lanes");
        assert_eq!(names(&chosen), ["unit", "format"]);
        let error = choose(&ALL, &["smoke".to_owned()], false).expect_err("no lane");
        let error = error.to_string();
        assert!(
            error.starts_with("unknown lane 'smoke' (expected one of format, "),
            "{error}"
        );
    }

    #[test]
    fn quick_lanes_are_some_of_all() {
        let all = choose(&ALL, &[], false).expect("lanes");
        let quick = choose(&ALL, &[], true).expect("lanes");
        assert_eq!(all.len(), ALL.len());
        assert!(!quick.is_empty() && quick.len() < all.len());
        assert!(quick.iter().all(|lane| lane.quick));
    }

    #[test]
    fn a_seed_gives_one_order_and_loses_no_lane() {
        let order = |seed| {
            let mut lanes = choose(&ALL, &[], false).expect("lanes");
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
