//! Waiting for a guest to have set itself up, by what it says on its console.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::script::Said;
use crate::domain::topology::virtualization::{VirtualMachineHost, VmStatus};
use crate::modules::image::build::{BuildError, Line, Progress};
use crate::modules::image::store::io_error;
use crate::modules::kvm::console::{ConsoleFollower, without_control_sequences};

/// How many lines of the console an error has.
const TAIL_LINES: usize = 25;

/// How long a build may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// From power on to the script's first step.
    pub(super) boot: Duration,
    /// From power on to the end.
    pub(super) all: Duration,
}

/// What a guest has said so far.
#[derive(Debug, Default)]
struct Account {
    progress: Progress,
    has_begun: bool,
    tail: VecDeque<String>,
}

impl Account {
    /// Takes the next line. Returns how the build has ended, if it has.
    fn take(&mut self, line: &str) -> Option<Result<(), BuildError>> {
        let line = without_control_sequences(line);
        let line = line.trim_end();
        if line.is_empty() {
            return None;
        }
        tracing::debug!(console = line);
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        match Said::parse(line) {
            Some(Said::Clean) if self.progress.is_done() => return Some(Ok(())),
            Some(Said::Clean) => return Some(Err(self.unfinished("its script was not done"))),
            Some(Said::Failed(what)) => {
                return Some(Err(self.unfinished(&format!("it could not {what}"))));
            }
            None => {}
        }
        match self.progress.take(line) {
            Line::Failed => Some(Err(BuildError::StepFailed {
                place: self.progress.place(),
                output: self.progress.output(),
                console: self.console(),
            })),
            Line::Step | Line::Done => {
                self.has_begun = true;
                None
            }
            Line::Output => None,
        }
    }

    fn unfinished(&self, how: &str) -> BuildError {
        BuildError::Unfinished {
            place: self.progress.place(),
            how: how.to_owned(),
            console: self.console(),
        }
    }

    fn timed_out(&self, bounds: Bounds) -> BuildError {
        let (awaited, bound) = if self.has_begun {
            ("the end of its set-up", bounds.all)
        } else {
            ("the first step of its set-up", bounds.boot)
        };
        BuildError::TimedOut {
            awaited,
            bound,
            place: self.progress.place(),
            console: self.console(),
        }
    }

    fn console(&self) -> Option<String> {
        Some(Vec::from(self.tail.clone()).join("\n"))
    }
}

/// Waits until the guest says that its disk is an image.
///
/// # Errors
/// At once when a step fails, or when the VM stops before; at a bound with the last lines.
pub(super) async fn until_clean(
    host: &impl VirtualMachineHost,
    name: &str,
    console_log: &Path,
    bounds: Bounds,
) -> Result<(), BuildError> {
    let path: PathBuf = console_log.to_owned();
    let failed = |source: io::Error| BuildError::Image(io_error("follow", &path, source));
    let started = Instant::now();
    let mut console = ConsoleFollower::open(console_log).map_err(failed)?;
    let mut account = Account::default();
    let mut stopped = host.wait_until_not_running(name);
    let mut status: Option<VmStatus> = None;
    loop {
        for line in console.lines().map_err(failed)? {
            if let Some(end) = account.take(&line) {
                return end;
            }
        }
        if let Some(status) = status {
            return Err(account.unfinished(&format!("the virtual machine is {status}")));
        }
        let bound = if account.has_begun {
            bounds.all
        } else {
            bounds.boot
        };
        tokio::select! {
            changed = console.changed() => changed.map_err(failed)?,
            // What it said at last is read before anything is made of it.
            now = &mut stopped => status = Some(now.map_err(machine)?),
            () = sleep_until(started + bound) => return Err(account.timed_out(bounds)),
        }
    }
}

/// An error of the VM's host.
pub(super) fn machine(source: crate::domain::error::ExecutorError) -> BuildError {
    BuildError::Machine { source }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Account, Bounds};
    use crate::modules::image::build::BuildError;

    fn said(lines: &[&str]) -> (Account, Option<Result<(), BuildError>>) {
        let mut account = Account::default();
        for line in lines {
            if let Some(end) = account.take(line) {
                return (account, Some(end));
            }
        }
        (account, None)
    }

    #[test]
    fn the_end_is_the_guests_word_after_the_scripts() {
        let (_, end) = said(&[
            "\u{1b}[0;32m  OK  \u{1b}[0m Started\r",
            "edge login: harmony-recipe: step 1/1: packages\r",
            "harmony-recipe: done\r",
            "harmony-build: clean\r",
        ]);
        assert!(matches!(end, Some(Ok(()))), "{end:?}");
        let (_, early) = said(&["harmony-build: clean"]);
        assert!(matches!(early, Some(Err(BuildError::Unfinished { .. }))));
    }

    #[test]
    fn a_failed_step_has_its_output_and_the_consoles_tail() {
        let (_, end) = said(&[
            "Linux version 6.1",
            "harmony-recipe: step 1/2: packages",
            "E: Unable to locate package \u{1b}[31mpodmann\u{1b}[0m\r",
            "harmony-recipe: failed step 1 (exit status 100)\r",
        ]);
        match end {
            Some(Err(BuildError::StepFailed {
                place,
                output,
                console: Some(console),
            })) => {
                assert_eq!(place, "step 1/2 (packages)");
                assert_eq!(output, "E: Unable to locate package podmann");
                assert!(console.starts_with("Linux version 6.1\n"), "{console}");
            }
            other => panic!("{other:?}"),
        }
        let (_, reset) = said(&["harmony-recipe: done", "harmony-build: failed to reset x"]);
        assert!(
            matches!(&reset, Some(Err(BuildError::Unfinished { how, .. })) if how == "it could not reset x"),
            "{reset:?}"
        );
    }

    #[test]
    fn what_was_awaited_depends_on_how_far_it_came() {
        let bounds = Bounds {
            boot: Duration::from_secs(900),
            all: Duration::from_secs(3600),
        };
        let awaited = |account: &Account| match account.timed_out(bounds) {
            BuildError::TimedOut { awaited, bound, .. } => (awaited, bound),
            other => panic!("{other:?}"),
        };
        let (early, _) = said(&["BdsDxe: starting"]);
        assert_eq!(
            awaited(&early),
            ("the first step of its set-up", bounds.boot)
        );
        let (late, _) = said(&["harmony-recipe: step 1/2: packages"]);
        assert_eq!(awaited(&late), ("the end of its set-up", bounds.all));
    }
}
