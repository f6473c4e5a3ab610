//! Medians, spreads and ratios.

use std::collections::BTreeMap;

use harmony::domain::topology::virtualization::VmArchitecture;
use serde::Serialize;

use crate::footprint::Footprint;
use crate::subject::{Measured, Subject};

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    architecture: VmArchitecture,
    rows: Vec<Row>,
    footprint: Option<Footprint>,
    measured: Vec<Measured>,
}

/// One subject.
#[derive(Debug, Serialize)]
struct Row {
    subject: Subject,
    rounds: usize,
    median_seconds: f64,
    fastest_seconds: f64,
    slowest_seconds: f64,
    /// The median, over the rounds, of its time by its baseline's in the same round.
    ratio: Option<f64>,
    bound: Option<f64>,
}

impl Figures {
    pub(crate) fn new(
        architecture: VmArchitecture,
        measured: &[Measured],
        footprint: Option<Footprint>,
    ) -> Self {
        let mut by_subject: BTreeMap<Subject, BTreeMap<usize, f64>> = BTreeMap::new();
        for one in measured {
            let rounds = by_subject.entry(one.subject).or_default();
            rounds.insert(one.round, one.seconds);
        }
        let rows = by_subject.iter().filter_map(|(&subject, rounds)| {
            let seconds: Vec<f64> = rounds.values().copied().collect();
            let baseline = by_subject.get(&subject.baseline());
            let ratios = rounds.iter().filter_map(|(round, seconds)| {
                let base = baseline?.get(round)?;
                Some(seconds / base)
            });
            Some(Row {
                subject,
                rounds: seconds.len(),
                median_seconds: median(&seconds)?,
                fastest_seconds: seconds.iter().copied().fold(f64::INFINITY, f64::min),
                slowest_seconds: seconds.iter().copied().fold(0.0, f64::max),
                ratio: median(&ratios.collect::<Vec<_>>()),
                bound: subject.bound(),
            })
        });
        Self {
            architecture,
            rows: rows.collect(),
            footprint,
            measured: measured.to_vec(),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{:<42} {:>8} {:>17} {:>6} {:>6}\n",
            format!("{}, seconds", self.architecture),
            "median",
            "fastest..slowest",
            "ratio",
            "bound"
        );
        for row in &self.rows {
            let optional = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
            let spread = format!("{:.1}..{:.1}", row.fastest_seconds, row.slowest_seconds);
            text.push_str(&format!(
                "{:<42} {:>8.1} {spread:>17} {:>6} {:>6}\n",
                row.subject.label(),
                row.median_seconds,
                optional(row.ratio),
                optional(row.bound),
            ));
        }
        if let Some(footprint) = &self.footprint {
            text.push_str(&footprint.to_text());
        }
        text
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use harmony::domain::topology::virtualization::VmArchitecture;

    use super::{Figures, median};
    use crate::subject::{Measured, Subject};

    #[test]
    fn ratios_are_of_the_same_round() {
        let measured = [
            (0, Subject::Raw, 100.0),
            (0, Subject::Warm, 10.0),
            (1, Subject::Raw, 50.0),
            (1, Subject::Warm, 10.0),
            (2, Subject::Raw, 200.0),
            (2, Subject::Warm, 10.0),
            (3, Subject::Warm, 99.0),
        ]
        .map(|(round, subject, seconds)| Measured {
            round,
            subject,
            seconds,
        });
        let figures = Figures::new(VmArchitecture::Aarch64, &measured, None);
        let warm = &figures.rows[1];
        assert_eq!((warm.subject, warm.rounds), (Subject::Warm, 4));
        assert_eq!(warm.ratio, Some(0.1));
        assert_eq!(warm.median_seconds, 10.0);
        assert_eq!(warm.slowest_seconds, 99.0);
        let text = figures.to_text();
        assert!(text.contains("0.10   0.15"), "{text}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
