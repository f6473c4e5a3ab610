//! Updates of the agent itself, which go back by themselves.
//!
//! ```text
//!   key DEVICE._agent ──> judge.rs ──> fetch.rs ──> slots/a or slots/b ──> record: on trial ──> the agent ends
//!   the service manager starts launch.rs ──> trial.rs: it works and reports in time ──> record: proven
//!                                                      it ends, hangs or is silent ──> record: failed, the one before runs
//! ```
//! The launcher is the program that was installed, with `--launch`; what it starts in the end takes its place, so that
//! nothing of it stays. It needs nothing of a new program but one word (progress.rs): that a report of it was stored, and
//! that it had listed the desired state and looked at the containers before. All that has to survive a power cut is in one
//! file, the record, which is replaced as a whole.
//!
//! One that is proven and ends again and again gives way to the one before it: at first whatever it reports, and once it has
//! worked for an hour only where no report of it is stored.

mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod judge;
mod launch;
mod progress;
mod record;
mod slots;
mod starts;
mod trial;
mod updater;

pub use self::judge::Wanted;
pub use self::launch::{Launched, launch};
pub use self::progress::{Progress, Proving};
pub use self::slots::program_of_this_process;
pub use self::updater::Updater;

#[cfg(test)]
mod tests;
