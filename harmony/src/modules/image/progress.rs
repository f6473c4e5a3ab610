//! How far a transfer is, for whoever shows it.
//!
//! The library says what happens through [`Progress`] and prints nothing. [`Silent`] drops it, [`Logged`]
//! makes a log line of it every few seconds; a binary on a terminal draws bars.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Is told how far a transfer is. Called often: must be quick, and must not block.
pub trait Progress: Send + Sync {
    /// A step of one transfer.
    fn report(&self, step: &Step<'_>);
}

/// What a transfer does now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step<'a> {
    /// Bytes are about to come.
    Started {
        /// From where, without secrets.
        url: &'a str,
        /// The bytes that were there from before: more than none when the transfer is resumed.
        at: u64,
        /// The file's size in bytes, where it is known.
        total: Option<u64>,
    },
    /// Bytes have come.
    Moved(Pace),
    /// All bytes have come, and what remains is to write them out and to compare the digest.
    Settling,
    /// The transfer has ended, well or not.
    Ended,
}

/// How far and how fast a transfer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The bytes that are there, those from before included.
    pub received: u64,
    /// The file's size in bytes, where it is known.
    pub total: Option<u64>,
    /// The rate of the last seconds, in bytes per second.
    pub bytes_per_second: f64,
    /// The time left at that rate, where size and rate are known.
    pub left: Option<Duration>,
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: &Step<'_>) {}
}

/// Logs a line every few seconds, at level `info`.
#[derive(Debug)]
pub struct Logged {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Default for Logged {
    /// A line every 5 s.
    fn default() -> Self {
        Self::every(Duration::from_secs(5))
    }
}

impl Logged {
    /// A line every so often.
    pub fn every(every: Duration) -> Self {
        Self {
            every,
            last: Mutex::new(None),
        }
    }

    /// Whether it is time for a line, which is then counted as written.
    fn is_due(&self, now: Instant) -> bool {
        // The state is one value: a thread that panicked cannot have left half of it.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Progress for Logged {
    fn report(&self, step: &Step<'_>) {
        match step {
            Step::Started { url, at, total } => {
                // The first line of the pace comes after the first interval.
                self.is_due(Instant::now());
                let mib = total.map(mib);
                if *at > 0 {
                    tracing::info!(
                        url,
                        mib,
                        resumed_at_mib = mib_of(*at),
                        "resuming the transfer"
                    );
                } else {
                    tracing::info!(url, mib, "fetching");
                }
            }
            Step::Moved(pace) if self.is_due(Instant::now()) => {
                tracing::info!(
                    mib = mib_of(pace.received),
                    of_mib = pace.total.map(mib),
                    mib_per_second = format!("{:.1}", pace.bytes_per_second / MIB as f64),
                    seconds_left = pace.left.map(|left| left.as_secs()),
                    "fetching"
                );
            }
            Step::Moved(_) | Step::Settling | Step::Ended => {}
        }
    }
}

const MIB: u64 = 1 << 20;

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

fn mib_of(bytes: u64) -> u64 {
    bytes / MIB
}

/// Measures a transfer's pace, and tells it at most ten times a second.
pub(super) struct Meter<'a> {
    progress: &'a dyn Progress,
    total: Option<u64>,
    received: u64,
    rate: Rate,
    told: Instant,
}

/// Between two reports.
const TICK: Duration = Duration::from_millis(100);

impl<'a> Meter<'a> {
    pub(super) fn start(
        progress: &'a dyn Progress,
        url: &'a str,
        at: u64,
        total: Option<u64>,
    ) -> Self {
        progress.report(&Step::Started { url, at, total });
        let now = Instant::now();
        Self {
            progress,
            total,
            received: at,
            rate: Rate::new(now, at),
            told: now,
        }
    }

    pub(super) fn moved(&mut self, bytes: u64) {
        self.received += bytes;
        let now = Instant::now();
        if now.duration_since(self.told) < TICK {
            return;
        }
        self.told = now;
        self.rate.note(now, self.received);
        let pace = pace(self.received, self.total, self.rate.bytes_per_second());
        self.progress.report(&Step::Moved(pace));
    }

    pub(super) fn settling(&self) {
        self.progress.report(&Step::Settling);
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.progress.report(&Step::Ended);
    }
}

fn pace(received: u64, total: Option<u64>, bytes_per_second: f64) -> Pace {
    let left = total
        .map(|total| total.saturating_sub(received) as f64 / bytes_per_second)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Pace {
        received,
        total,
        bytes_per_second,
        left,
    }
}

/// The rate over the last seconds.
struct Rate {
    /// When so many bytes were there, oldest first; never empty.
    marks: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// What is older does not count.
    const WINDOW: Duration = Duration::from_secs(10);

    fn new(now: Instant, received: u64) -> Self {
        Self {
            marks: VecDeque::from([(now, received)]),
        }
    }

    fn note(&mut self, now: Instant, received: u64) {
        self.marks.push_back((now, received));
        let old = |mark: &(Instant, u64)| now.saturating_duration_since(mark.0) > Self::WINDOW;
        while self.marks.len() > 2 && self.marks.front().is_some_and(old) {
            self.marks.pop_front();
        }
    }

    fn bytes_per_second(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.marks.front(), self.marks.back())
        else {
            return 0.0;
        };
        let seconds = to.saturating_duration_since(*from).as_secs_f64();
        if seconds > 0.0 {
            after.saturating_sub(*before) as f64 / seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests;
