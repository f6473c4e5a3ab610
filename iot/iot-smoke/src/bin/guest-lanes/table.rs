//! The table of what was expected and what was found.

use std::fmt::{self, Display};

use serde::Serialize;

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// What was expected was found.
    Pass,
    /// Something else was found.
    Fail,
    /// It could not be looked at here; what was found is the reason. Never counted as a pass.
    Skip,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    name: String,
    expected: String,
    found: String,
    verdict: Verdict,
}

impl Row {
    /// Passes when both read the same.
    pub(crate) fn equal(
        name: impl Into<String>,
        expected: impl Display,
        found: impl Display,
    ) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        let holds = expected == found;
        Self::holds(name, expected, found, holds)
    }

    /// Passes when `holds`.
    pub(crate) fn holds(
        name: impl Into<String>,
        expected: impl Display,
        found: impl Display,
        holds: bool,
    ) -> Self {
        Self {
            name: name.into(),
            expected: expected.to_string(),
            found: found.to_string(),
            verdict: if holds { Verdict::Pass } else { Verdict::Fail },
        }
    }

    /// Was not looked at.
    pub(crate) fn skipped(
        name: impl Into<String>,
        expected: impl Display,
        reason: impl Display,
    ) -> Self {
        Self {
            name: name.into(),
            expected: expected.to_string(),
            found: reason.to_string(),
            verdict: Verdict::Skip,
        }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            expected,
            found,
            verdict,
        } = self;
        match verdict {
            Verdict::Pass => write!(f, "  ok    {name}: {found}"),
            Verdict::Fail => write!(f, "  FAIL  {name}: expected {expected}, found {found}"),
            Verdict::Skip => write!(f, "  skip  {name}: expected {expected}, but {found}"),
        }
    }
}

/// What one lane came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LaneReport {
    pub(crate) lane: &'static str,
    pub(crate) seconds: f64,
    /// What took how many seconds.
    pub(crate) stages: Vec<(&'static str, f64)>,
    pub(crate) rows: Vec<Row>,
    /// Why the lane ended before its last row, if it did.
    pub(crate) ended_early: Option<String>,
}

impl LaneReport {
    /// Whether every row was looked at or skipped, and none failed.
    pub(crate) fn passed(&self) -> bool {
        self.ended_early.is_none() && self.count(Verdict::Fail) == 0 && !self.rows.is_empty()
    }

    fn count(&self, verdict: Verdict) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| row.verdict == verdict).count()
    }
}

impl Display for LaneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.lane)?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if let Some(why) = &self.ended_early {
            writeln!(f, "  FAIL  ended early: {why}")?;
        }
        for (stage, seconds) in &self.stages {
            writeln!(f, "{seconds:>8.1} s  {stage}")?;
        }
        writeln!(
            f,
            "{:>8.1} s  {}: {} ok, {} failed, {} skipped: {}",
            self.seconds,
            self.lane,
            self.count(Verdict::Pass),
            self.count(Verdict::Fail),
            self.count(Verdict::Skip),
            if self.passed() { "PASS" } else { "FAIL" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{LaneReport, Row};

    fn report(rows: Vec<Row>, ended_early: Option<&str>) -> LaneReport {
        LaneReport {
            lane: "x",
            seconds: 1.0,
            stages: Vec::new(),
            rows,
            ended_early: ended_early.map(str::to_owned),
        }
    }

    #[test]
    fn a_lane_passes_only_when_it_came_to_its_end_with_no_row_failed() {
        let ok = || Row::equal("a", 1, 1);
        let failed = || Row::equal("a", 1, 2);
        let skipped = || Row::skipped("b", "x", "there is no y");
        let table = [
            (report(vec![ok()], None), true),
            (report(vec![ok(), skipped()], None), true),
            (report(vec![ok(), failed()], None), false),
            (report(vec![ok()], Some("no boot")), false),
            (report(Vec::new(), None), false),
        ];
        for (report, expected) in table {
            assert_eq!(report.passed(), expected, "{report}");
        }
    }

    #[test]
    fn every_row_is_printed_with_what_was_found() {
        let rows = vec![
            Row::equal("gic", 3, 3),
            Row::equal("uname", "aarch64", "x86_64"),
            Row::skipped("share", "mounted", "the kernel has no 9p"),
        ];
        let text = report(rows, Some("no answer")).to_string();
        let expected = "\
x
  ok    gic: 3
  FAIL  uname: expected aarch64, found x86_64
  skip  share: expected mounted, but the kernel has no 9p
  FAIL  ended early: no answer
     1.0 s  x: 1 ok, 1 failed, 1 skipped: FAIL
";
        assert_eq!(text, expected);
    }
}
