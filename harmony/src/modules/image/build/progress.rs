//! What a set-up script says of itself while it runs. Pure.
//!
//! The script's lines may come with others before them on a line, as on a serial console: the markers are
//! looked for anywhere in it.

use std::collections::VecDeque;

use crate::modules::image::recipe::ScriptProgress;

/// How many lines of a step are kept, and of how many characters.
const OUTPUT_LINES: usize = 40;
const OUTPUT_LINE_CHARS: usize = 400;

/// What a line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// A step has begun.
    Step,
    /// The script has done all its steps.
    Done,
    /// A step has failed, and the script ends.
    Failed,
    /// Anything else.
    Output,
}

/// How far a script has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The step that was last begun, in words.
    step: Option<String>,
    output: VecDeque<String>,
    ended: Option<Line>,
}

impl Progress {
    /// Takes the next line.
    pub(crate) fn take(&mut self, line: &str) -> Line {
        let Some(marker) = ScriptProgress::parse(line) else {
            self.keep(line);
            return Line::Output;
        };
        let kind = match marker {
            ScriptProgress::Step {
                number,
                total,
                what,
            } => {
                tracing::info!(step = %format_args!("{number}/{total}"), "{what}");
                self.step = Some(format!("step {number}/{total} ({what})"));
                self.output.clear();
                return Line::Step;
            }
            ScriptProgress::Done => Line::Done,
            ScriptProgress::Failed { .. } => Line::Failed,
        };
        self.ended = Some(kind);
        kind
    }

    fn keep(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.output.len() == OUTPUT_LINES {
            self.output.pop_front();
        }
        let kept = line.trim_end().chars().take(OUTPUT_LINE_CHARS);
        self.output.push_back(kept.collect());
    }

    /// Whether the script has done all its steps.
    pub(crate) fn is_done(&self) -> bool {
        self.ended == Some(Line::Done)
    }

    /// Whether a step has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.ended == Some(Line::Failed)
    }

    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        let early = || "the time before its first step".to_owned();
        self.step.clone().unwrap_or_else(early)
    }

    /// The last lines of that step.
    pub(crate) fn output(&self) -> String {
        Vec::from(self.output.clone()).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, OUTPUT_LINES, Progress};

    #[test]
    fn a_script_is_followed_through_a_consoles_noise() {
        let mut progress = Progress::default();
        let table = [
            ("[    1.0] Linux version 6.1", Line::Output),
            (
                "debian login: harmony-recipe: step 1/2: packages\r",
                Line::Step,
            ),
            ("harmony-recipe: step x/2: no step", Line::Output),
            ("Unpacking podman (4.3.1)", Line::Output),
            ("harmony-recipe: step 2/2: files: all", Line::Step),
            ("sed: no such file", Line::Output),
        ];
        for (line, expected) in table {
            assert_eq!(progress.take(line), expected, "{line}");
        }
        assert_eq!(progress.place(), "step 2/2 (files: all)");
        assert_eq!(progress.output(), "sed: no such file");
        assert!(!progress.is_done() && !progress.has_failed());
        assert_eq!(
            progress.take("harmony-recipe: failed step 2 (exit status 1)\r"),
            Line::Failed
        );
        assert!(progress.has_failed());
    }

    #[test]
    fn the_end_is_told_and_the_output_is_bounded() {
        let mut progress = Progress::default();
        assert_eq!(progress.place(), "the time before its first step");
        for n in 0..1000 {
            progress.take(&format!("line {n} {}", "x".repeat(5000)));
        }
        assert_eq!(progress.output().lines().count(), OUTPUT_LINES);
        assert!(progress.output().len() < OUTPUT_LINES * 420);
        assert_eq!(progress.take("harmony-recipe: done"), Line::Done);
        assert!(progress.is_done());
    }
}
