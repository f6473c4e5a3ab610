//! Which lanes run, in which order.

use std::fmt;

use crate::lanes::{Lane, TURNS, When};
use crate::reads::{UNTESTED, has};

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

/// What a change runs.
#[derive(Debug)]
pub struct Touched<'a> {
    /// The lanes that read something of it.
    pub lanes: Vec<&'a Lane>,
    /// The others.
    pub others: Vec<&'a Lane>,
    /// The files that nobody says anything of. They may be read by any lane: so each runs.
    pub unclaimed: Vec<&'a str>,
}

/// The lanes that files which have changed can touch.
pub fn touched<'a>(all: &'a [Lane], changed: &'a [String]) -> Touched<'a> {
    let is_claimed = |path: &str| has(UNTESTED, path) || all.iter().any(|lane| lane.reads(path));
    let changed = || changed.iter().map(String::as_str);
    let unclaimed: Vec<_> = changed().filter(|path| !is_claimed(path)).collect();
    let runs = |lane: &&Lane| !unclaimed.is_empty() || changed().any(|path| lane.reads(path));
    let (lanes, others) = all.iter().partition(runs);
    Touched {
        lanes,
        others,
        unclaimed,
    }
}

/// Puts them into the order of `seed`: the same one for the same lanes.
pub fn shuffle(lanes: &mut [&Lane], seed: u64) {
    fastrand::Rng::with_seed(seed).shuffle(lanes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Scope, choose, shuffle, touched};
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

    /// The lanes that a change of these files runs.
    fn run_by(changed: &[&str]) -> Vec<&'static str> {
        let changed: Vec<_> = changed.iter().map(|path| (*path).to_owned()).collect();
        let touched = touched(&ALL, &changed);
        assert_eq!(touched.lanes.len() + touched.others.len(), ALL.len());
        assert_eq!(touched.unclaimed, Vec::<&str>::new());
        names(&touched.lanes)
    }

    #[test]
    fn a_change_runs_what_it_can_touch() {
        let smokes = [
            "smoke-arm",
            "smoke-arm-warm",
            "nats-current",
            "fleet",
            "power-cuts",
            "smoke-x86",
        ];
        let inside = ["nat", "user", "stranger"];
        let checks = ["format", "lints", "docs", "unit"];
        let table: [(&[&str], &[&[&str]]); 12] = [
            (&[], &[]),
            (
                &["CHANGELOG.md", "docs/decisions/0003-kvm-by-proof.md"],
                &[],
            ),
            (&["README.md"], &[&["unit"]]),
            (&["docs/testing.md"], &[&["unit"]]),
            (
                &["docs/guides/recipes.md"],
                &[&["lints", "docs", "unit", "no-features"]],
            ),
            (
                &["iot/iot-agent-v0/src/plan.rs"],
                &[
                    &checks,
                    &["host", "idle-agent", "faults", "fuzz", "aarch64-build"],
                    &smokes,
                    &inside,
                ],
            ),
            (
                &["iot/iot-agent-v0/src/plan_tests.rs"],
                &[&checks, &["host"]],
            ),
            (
                &["iot/iot-agent-v0/tests/rounds/way.rs"],
                &[&checks, &["host", "idle-agent", "faults"]],
            ),
            (
                &["harmony/src/modules/iot/device.rs"],
                &[
                    &checks,
                    &["host", "no-features", "aarch64-build"],
                    &smokes,
                    &["guests"],
                    &inside,
                ],
            ),
            (
                &["iot/iot-smoke/src/bin/power-cuts/work.rs"],
                &[&checks, &["power-cuts"]],
            ),
            (&[".ci/run"], &[&["shell", "unit", "stranger"]]),
            (&["iot/xtask/src/args.rs"], &[&checks]),
        ];
        for (changed, expected) in table {
            let expected: BTreeSet<_> = expected.iter().copied().flatten().copied().collect();
            let runs: BTreeSet<_> = run_by(changed).into_iter().collect();
            assert_eq!(runs, expected, "{changed:?}");
        }
        assert_eq!(run_by(&["Cargo.lock"]).len(), ALL.len());
        assert_eq!(run_by(&["iot/scripts/setup-host.sh"]).len(), ALL.len());
    }

    #[test]
    fn a_file_that_no_lane_says_anything_of_runs_every_lane() {
        let changed = ["README.md", "assets/x.bin"].map(str::to_owned);
        let touched = touched(&ALL, &changed);
        assert_eq!(touched.lanes.len(), ALL.len());
        assert_eq!(touched.unclaimed, ["assets/x.bin"]);
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
