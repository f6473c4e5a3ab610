//! During what the power is cut, and when: by the seed and the number alone.

use std::time::Duration;

use clap::ValueEnum;

/// What the device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// It pulls an image.
    Pull,
    /// It makes a container of an image that it has.
    Create,
    /// It puts a container of another image in the place of one; it has both images.
    Update,
    /// The agent updates itself.
    Agent,
    /// The agent writes down one change of the desired state after another.
    State,
}

impl Kind {
    /// All of them, in the order in which they take turns.
    pub(crate) const ALL: [Self; 5] = [
        Self::Pull,
        Self::Create,
        Self::Update,
        Self::Agent,
        Self::State,
    ];

    /// For people.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Pull => "an image is pulled",
            Self::Create => "a container is made",
            Self::Update => "a deployment is updated",
            Self::Agent => "the agent updates itself",
            Self::State => "the agent writes its state",
        }
    }
}

/// One cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cut {
    /// Counts from 1 on.
    pub(crate) number: usize,
    /// During what.
    pub(crate) kind: Kind,
    /// After which part of the time that it takes, from 0 to 1.
    pub(crate) part: f64,
}

impl Cut {
    /// How long after its beginning, where it takes `whole`.
    pub(crate) fn after(&self, whole: Duration) -> Duration {
        whole.mul_f64(self.part)
    }
}

/// The cuts of a seed. The kinds take turns, and the seed says which is first: so a few cuts at a time, with another seed
/// each, are of every kind. More cuts of a seed begin with the fewer ones.
pub(crate) fn cuts(count: usize, seed: u64, only: Option<Kind>) -> Vec<Cut> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let first = chance.usize(..Kind::ALL.len());
    let cut = |index: usize| Cut {
        number: index + 1,
        kind: only.unwrap_or(Kind::ALL[(first + index) % Kind::ALL.len()]),
        part: chance.f64(),
    };
    (0..count).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Cut, Kind, cuts};

    fn kinds(cuts: &[Cut]) -> BTreeSet<Kind> {
        cuts.iter().map(|cut| cut.kind).collect()
    }

    #[test]
    fn a_seed_gives_its_cuts_again_and_more_begin_with_the_fewer() {
        let many = cuts(30, 7, None);
        assert_eq!(many, cuts(30, 7, None));
        assert_eq!(many[..3], cuts(3, 7, None));
        assert_ne!(many, cuts(30, 8, None));
    }

    #[test]
    fn each_kind_has_its_turn_and_each_may_be_first() {
        let firsts: Vec<Cut> = (0..100).map(|seed| cuts(5, seed, None)[0]).collect();
        assert_eq!(kinds(&firsts).len(), Kind::ALL.len());
        for seed in 0..100 {
            let many = cuts(10, seed, None);
            assert_eq!(kinds(&many[..5]).len(), Kind::ALL.len(), "{seed}");
            assert_eq!(many[0].kind, many[5].kind, "{seed}");
        }
        assert_eq!(kinds(&cuts(9, 1, Some(Kind::Agent))), [Kind::Agent].into());
    }

    #[test]
    fn moments_are_all_over_the_time_that_it_takes() {
        let whole = Duration::from_secs(100);
        let all = cuts(1000, 3, None);
        let moments: Vec<_> = all.iter().map(|cut| cut.after(whole).as_secs()).collect();
        assert!(moments.iter().all(|moment| *moment < 100), "{moments:?}");
        for tenth in 0..10 {
            let of_tenth = moments.iter().filter(|moment| *moment / 10 == tenth);
            let count = of_tenth.count();
            assert!((50..200).contains(&count), "{tenth}: {count}");
        }
    }
}
