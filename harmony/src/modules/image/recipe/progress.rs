//! What a setup script says about itself.

const MARKER: &str = "harmony-recipe: ";

/// A line of a setup script's output that says how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptProgress {
    /// A step begins; its output follows.
    Step {
        /// Counted from 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// What it does.
        what: String,
    },
    /// The script has come to its end, and all is done.
    Done,
    /// The script has ended in this step; 0 before the first.
    Failed {
        /// The step.
        number: usize,
        /// Its exit status.
        status: u32,
    },
}

impl ScriptProgress {
    /// Reads a line of the output, or of a console that has it: other words may be before it.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(MARKER)?;
        let rest = rest.trim_end();
        if rest == "done" {
            return Some(Self::Done);
        }
        if let Some(failed) = rest.strip_prefix("failed step ") {
            let (number, status) = failed.split_once(" (exit status ")?;
            return Some(Self::Failed {
                number: number.parse().ok()?,
                status: status.strip_suffix(')')?.parse().ok()?,
            });
        }
        let (place, what) = rest.strip_prefix("step ")?.split_once(": ")?;
        let (number, total) = place.split_once('/')?;
        Some(Self::Step {
            number: number.parse().ok()?,
            total: total.parse().ok()?,
            what: what.to_owned(),
        })
    }
}
