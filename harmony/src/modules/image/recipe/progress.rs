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

#[cfg(test)]
mod tests {
    use super::ScriptProgress::{self, Done, Failed, Step};

    #[test]
    fn lines_of_a_console_are_read() {
        let step = |what: &str| Step {
            number: 3,
            total: 10,
            what: what.to_owned(),
        };
        let table = [
            (
                "harmony-recipe: step 3/10: install: a b",
                Some(step("install: a b")),
            ),
            (
                "[   12.1] cloud-init[77]: harmony-recipe: step 3/10: x\r",
                Some(step("x")),
            ),
            ("harmony-recipe: done\r\n", Some(Done)),
            (
                "harmony-recipe: failed step 0 (exit status 143)",
                Some(Failed {
                    number: 0,
                    status: 143,
                }),
            ),
            ("harmony-recipe: done with it", None),
            ("harmony-recipe: failed step x (exit status 1)", None),
            ("harmony-recipe: step 3: x", None),
            (
                "harmony-recipe: HARMONY_RECIPE_ENVIRONMENT is not guest or chroot",
                None,
            ),
            ("done", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(ScriptProgress::parse(line), expected, "{line:?}");
        }
    }
}
