//! The table of lanes, and the closing line. Pure.

use std::fmt::Write;

use crate::lanes::{Lane, When};
use crate::output::Counts;

/// What came of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneResult {
    /// Its name.
    pub name: &'static str,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Its tests.
    pub counts: Counts,
    /// The step that it ended at, if it did not come to its end.
    pub ended_at: Option<String>,
}

impl LaneResult {
    /// In a word.
    pub fn verdict(&self) -> &'static str {
        match (self.holds(), self.counts.passed, self.counts.skipped.len()) {
            (false, ..) => "FAIL",
            (true, 0, 1..) => "skip",
            (true, ..) => "ok",
        }
    }

    /// Whether nothing failed.
    pub fn holds(&self) -> bool {
        self.ended_at.is_none() && self.counts.failed == 0
    }
}

/// The lanes that did not run since nothing that they read has changed.
#[derive(Debug, Default)]
pub struct Untouched<'a> {
    /// The lanes.
    pub lanes: Vec<&'a Lane>,
    /// The revision since which nothing has changed.
    pub since: &'a str,
}

/// The table, the reason of each skip and each failure, and the sums. Lanes that did not run are none of these.
pub fn table(results: &[LaneResult], untouched: &Untouched) -> String {
    let mut text = String::new();
    let mut all = Counts::default();
    for result in results {
        let Counts {
            passed,
            failed,
            skipped,
        } = &result.counts;
        let verdict = result.verdict();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{verdict:<5} {:>5} s  {:<15} {passed} passed, {failed} failed, {} skipped",
            result.seconds,
            result.name,
            skipped.len()
        );
        all.add(result.counts.clone());
    }
    for lane in &untouched.lanes {
        let _ = writeln!(
            text,
            "{:<5} {:>5}    {:<15} nothing that it reads has changed since {}",
            "-", "-", lane.name, untouched.since
        );
    }
    for result in results {
        for reason in &result.counts.skipped {
            let _ = writeln!(text, "skipped in {}: {reason}", result.name);
        }
        if let Some(step) = &result.ended_at {
            let _ = writeln!(text, "failed in {}: {step}", result.name);
        }
    }
    let _ = writeln!(
        text,
        "{} passed, {} failed, {} skipped",
        all.passed,
        all.failed,
        all.skipped.len()
    );
    text
}

/// All lanes with what each needs and takes.
pub fn list(lanes: &[Lane]) -> String {
    let mut text = String::new();
    for lane in lanes {
        let _ = writeln!(
            text,
            "{:<15} about {:>2} min, {:<9}  {}; needs {}",
            lane.name,
            lane.about_minutes,
            match lane.when {
                When::Quick => "quick",
                When::Always => "each time",
                When::InTurns => "in turns",
            },
            lane.what,
            lane.needs
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{LaneResult, Untouched, list, table};
    use crate::lanes::ALL;
    use crate::output::Counts;

    fn result(name: &'static str, passed: usize, failed: usize, skipped: &[&str]) -> LaneResult {
        LaneResult {
            name,
            seconds: 7,
            counts: Counts {
                passed,
                failed,
                skipped: skipped.iter().map(|s| (*s).to_owned()).collect(),
            },
            ended_at: None,
        }
    }

    #[test]
    fn the_last_line_has_the_sums_and_no_skip_is_without_its_reason() {
        let mut failed = result("host", 3, 1, &[]);
        failed.ended_at = Some("cargo test: exit status: 101".to_owned());
        let results = [
            result("unit", 400, 0, &[]),
            failed,
            result("guests", 59, 0, &["share: the kernel has no 9p"]),
            result("nat", 0, 0, &["needs root"]),
        ];
        let expected = "\
ok        7 s  unit            400 passed, 0 failed, 0 skipped
FAIL      7 s  host            3 passed, 1 failed, 0 skipped
ok        7 s  guests          59 passed, 0 failed, 1 skipped
skip      7 s  nat             0 passed, 0 failed, 1 skipped
-         -    format          nothing that it reads has changed since main
-         -    shell           nothing that it reads has changed since main
failed in host: cargo test: exit status: 101
skipped in guests: share: the kernel has no 9p
skipped in nat: needs root
462 passed, 1 failed, 2 skipped
";
        let untouched = Untouched {
            lanes: ALL.iter().take(2).collect(),
            since: "main",
        };
        assert_eq!(table(&results, &untouched), expected);
        let every = table(&results, &Untouched::default());
        assert!(!every.contains("changed"), "{every}");
        assert!(!results[1].holds() && results[3].holds());
    }

    #[test]
    fn every_lane_is_listed() {
        let text = list(&ALL);
        assert_eq!(text.lines().count(), ALL.len());
        for lane in &ALL {
            assert!(
                text.contains(lane.what) && text.contains(lane.needs),
                "{}",
                lane.name
            );
        }
    }
}
