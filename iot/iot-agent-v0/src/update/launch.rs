//! Starts the agent's program that has proved itself, or lets one prove itself.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use iot_contracts::UpdateConfig;

use super::record::{Placed, Record, Start};
use super::slots::{SLOT_VARIABLE, Slots, own_digest};
use super::starts::Moment;
use super::trial::{self, Verdict};
use crate::config;
use crate::error::chain;
use crate::watchdog::ServiceManager;

/// Where a program on trial says that a report was stored.
const SOCKET: &str = "trial.sock";
/// The wait before a program that ended is started again.
const AGAIN: Duration = Duration::from_secs(2);

/// What is left to do for this process.
#[derive(Debug, PartialEq, Eq)]
pub enum Launched {
    /// It is the agent itself.
    Here,
    /// Nothing: it was asked to end.
    Stopped,
}

/// Has the program run that ought to, with the configuration at `config`. It takes the place of this process; where it is
/// this program, or nothing else can be started, this returns. Whatever is wrong is logged, and passed over: the installed
/// program always runs.
pub fn launch(config: &Path, manager: &ServiceManager) -> Launched {
    let Some(slots) = Slots::of_this_unit() else {
        return Launched::Here;
    };
    let Some(record) = slots.recall() else {
        return Launched::Here;
    };
    let launcher = Launcher {
        slots,
        config,
        manager,
    };
    match launcher.run(record) {
        Ok(launched) => launched,
        Err(error) => {
            tracing::warn!(%error, "no update of the agent is started, but the installed one");
            Launched::Here
        }
    }
}

struct Launcher<'a> {
    slots: Slots,
    config: &'a Path,
    manager: &'a ServiceManager,
}

impl Launcher<'_> {
    fn run(&self, mut record: Record) -> io::Result<Launched> {
        let installed = own_digest()?;
        if !record.is_about(installed) {
            tracing::info!("another agent was installed, what was fetched is forgotten");
            record.installed_anew(installed);
            self.slots.save(&record)?;
            return Ok(Launched::Here);
        }
        // What is wrong with it is told when the installed program reads it.
        let loaded = config::load(self.config).ok();
        let Some(config) = loaded.and_then(|loaded| loaded.config().update.clone()) else {
            return Ok(Launched::Here);
        };
        loop {
            let before = record.clone();
            let start = record.next_start(Moment::now().as_ref());
            // Without a count that lasts, a program that takes the device down with it would be tried for ever.
            let start = match self.save(&record, &before) {
                true => start,
                false => before.proven_start(),
            };
            match start {
                Start::Installed => return Ok(Launched::Here),
                Start::Proven(placed) => return self.start(&placed, &config),
                Start::Trial(placed) => match self.try_out(&record, &placed, &config) {
                    Verdict::Proven => record.prove(),
                    Verdict::Failed(why) => record.fail(why),
                    Verdict::Ended => std::thread::sleep(AGAIN),
                    Verdict::Stopped => return Ok(Launched::Stopped),
                },
            }
            self.save_verdict(&mut record);
        }
    }

    fn save(&self, record: &Record, before: &Record) -> bool {
        let saved = (record == before) || self.told(self.slots.save(record));
        if !saved {
            tracing::warn!("nothing is tried");
        }
        saved
    }

    /// A verdict that does not last is none: after a power cut the program would be on trial again, and is so now.
    fn save_verdict(&self, record: &mut Record) {
        if !self.told(self.slots.save(record))
            && let Some(saved) = self.slots.recall()
        {
            *record = saved;
            std::thread::sleep(AGAIN);
        }
    }

    fn told(&self, saved: io::Result<()>) -> bool {
        if let Err(error) = &saved {
            tracing::warn!(%error, "cannot write the record of updates");
        }
        saved.is_ok()
    }

    /// What the kernel does not allow here is no reason not to start the proven program.
    fn try_out(&self, record: &Record, placed: &Placed, config: &UpdateConfig) -> Verdict {
        let sha256 = placed.release.sha256();
        if let Err(error) = self.slots.check(placed, &config.keys) {
            return Verdict::Failed(chain(&error));
        }
        tracing::info!(%sha256, "tries a new agent");
        let verdict = self.hold_trial(record, placed, config);
        let verdict =
            verdict.unwrap_or_else(|error| Verdict::Failed(format!("it cannot be tried: {error}")));
        tracing::info!(%sha256, ?verdict, "the new agent's trial has ended");
        verdict
    }

    fn hold_trial(
        &self,
        record: &Record,
        placed: &Placed,
        config: &UpdateConfig,
    ) -> io::Result<Verdict> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let within = config.prove_within_seconds.duration();
        let socket = self.slots.beside(SOCKET);
        let may_be_blind = record.may_be_blind();
        let command = self.command(placed);
        runtime.block_on(trial::run(
            command,
            &socket,
            within,
            may_be_blind,
            self.manager,
        ))
    }

    /// Returns only where the program cannot be started.
    fn start(&self, placed: &Placed, config: &UpdateConfig) -> io::Result<Launched> {
        if let Err(error) = self.slots.check(placed, &config.keys) {
            return Err(io::Error::other(chain(&error)));
        }
        Err(self.command(placed).exec())
    }

    fn command(&self, placed: &Placed) -> Command {
        let mut command = Command::new(self.slots.program(placed.slot));
        command.arg("--config").arg(self.config);
        command.env(SLOT_VARIABLE, placed.slot.name());
        command
    }
}
