//! What came of the cuts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::moments::Kind;

/// What came of one kind.
#[derive(Debug, Default)]
struct Row {
    cuts: usize,
    converged: usize,
    slowest: Duration,
}

/// What came of all of them.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Kind, Row>);

impl Table {
    /// The power was cut.
    pub(crate) fn cut(&mut self, kind: Kind) {
        self.0.entry(kind).or_default().cuts += 1;
    }

    /// And the device was as it should be so long after the power was back.
    pub(crate) fn converged(&mut self, kind: Kind, after: Duration) {
        let row = self.0.entry(kind).or_default();
        row.converged += 1;
        row.slowest = row.slowest.max(after);
    }

    /// A row for each kind that was cut, and one for all.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:<28} {:>4} {:>9} {:>10}\n",
            "the power is cut while", "cuts", "converged", "slowest, s"
        );
        let mut all = Row::default();
        for (kind, row) in &self.0 {
            text.push_str(&line(kind.what(), row));
            all.cuts += row.cuts;
            all.converged += row.converged;
            all.slowest = all.slowest.max(row.slowest);
        }
        text.push_str(&line("in all", &all));
        text
    }
}

fn line(what: &str, row: &Row) -> String {
    let Row {
        cuts,
        converged,
        slowest,
    } = row;
    let slowest = slowest.as_secs_f64();
    format!("{what:<28} {cuts:>4} {converged:>9} {slowest:>10.1}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Table;
    use crate::moments::Kind;

    #[test]
    fn a_table_tells_of_the_slowest_and_of_what_did_not_converge() {
        let mut table = Table::default();
        for (kind, after) in [
            (Kind::State, Some(90)),
            (Kind::Pull, Some(61)),
            (Kind::Pull, Some(70)),
            (Kind::Pull, None),
        ] {
            table.cut(kind);
            if let Some(after) = after {
                table.converged(kind, Duration::from_secs(after));
            }
        }
        let expected = "\
the power is cut while       cuts converged slowest, s
an image is pulled              3         2       70.0
the agent writes its state      1         1       90.0
in all                          4         3       90.0
";
        assert_eq!(table.text(), expected);
    }
}
