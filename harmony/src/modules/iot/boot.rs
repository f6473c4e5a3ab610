//! Where the time of a boot went: what the console told while it happened, and what the guest's service manager tells
//! afterwards.
//!
//! ```text
//! power on --> firmware --> boot loader --> kernel, initrd --> services
//!      |______ console, by this host's clock ______|____ by the guest's clock ____|
//! ```

mod console;
mod units;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use tokio::time::Instant;
use tracing::debug;

use crate::domain::error::error_chain;
use crate::domain::topology::linux_host::LinuxHost;

use console::{ConsoleWatch, Mark, Seen};
use units::GuestTimes;

/// The parts of one boot, in the order in which they began.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct BootParts(Vec<BootPart>);

/// One part of a boot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BootPart {
    /// `firmware`, `boot loader`, `kernel`, `initrd`, or the name of a unit.
    pub name: String,
    /// When it began, in seconds after power on.
    pub began_seconds: f64,
    /// How long it took, in seconds. Units start beside each other.
    pub took_seconds: f64,
}

impl BootParts {
    /// All of them.
    pub fn as_slice(&self) -> &[BootPart] {
        &self.0
    }
}

impl fmt::Display for BootParts {
    /// A line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            let BootPart {
                name,
                began_seconds,
                took_seconds,
            } = part;
            writeln!(f, "  {began_seconds:>6.1} s  {took_seconds:>6.1} s  {name}")?;
        }
        Ok(())
    }
}

/// A boot that is being watched.
pub(super) struct WatchedBoot {
    power_on: Instant,
    console: ConsoleWatch,
}

impl WatchedBoot {
    /// A machine that was just switched on.
    pub(super) fn begin(console_log: PathBuf) -> Self {
        Self {
            power_on: Instant::now(),
            console: ConsoleWatch::start(console_log),
        }
    }

    /// The parts, of a guest that has booted. What cannot be learned is left out: a boot is not worse for it.
    pub(super) async fn end(self, guest: &impl LinuxHost) -> BootParts {
        let seen = self.console.stop();
        let asked = Instant::now();
        let times = match units::read(guest).await {
            Ok(times) => times,
            Err(error) => {
                debug!(
                    reason = error_chain(&error),
                    "the guest does not tell of its boot"
                );
                return BootParts::default();
            }
        };
        // The answer was made between question and arrival.
        let answered = asked + asked.elapsed() / 2;
        let uptime = answered.duration_since(self.power_on).as_secs_f64();
        parts(
            &since(&seen, self.power_on),
            &times,
            uptime - times.up_seconds,
        )
    }
}

fn since(seen: &Seen, power_on: Instant) -> Vec<(Mark, f64)> {
    let marks = seen.iter();
    let seconds = marks.map(|(mark, at)| (*mark, at.duration_since(power_on).as_secs_f64()));
    seconds.collect()
}

/// `kernel_start` is when the guest's clock began, in seconds after power on.
fn parts(seen: &[(Mark, f64)], times: &GuestTimes, kernel_start: f64) -> BootParts {
    let at = |mark| seen.iter().find(|(m, _)| *m == mark).map(|(_, at)| *at);
    let user_space = times
        .user_space_seconds
        .map(|seconds| kernel_start + seconds);
    let borders = [
        ("firmware", Some(0.0)),
        ("boot loader", at(Mark::Loader)),
        ("kernel", at(Mark::Kernel).or(Some(kernel_start))),
        ("initrd", at(Mark::Initrd)),
        ("", user_space),
    ];
    let borders: Vec<_> = borders
        .into_iter()
        .filter_map(|(name, at)| Some((name, at?)))
        .collect();
    let mut parts: Vec<BootPart> = borders
        .windows(2)
        .map(|pair| BootPart {
            name: pair[0].0.to_owned(),
            began_seconds: pair[0].1,
            took_seconds: pair[1].1 - pair[0].1,
        })
        .collect();
    parts.extend(times.units.iter().map(|unit| BootPart {
        name: unit.name.clone(),
        began_seconds: kernel_start + unit.began_seconds,
        took_seconds: unit.ready_seconds - unit.began_seconds,
    }));
    parts.sort_by(|a, b| a.began_seconds.total_cmp(&b.began_seconds));
    BootParts(parts)
}

#[cfg(test)]
mod tests;
