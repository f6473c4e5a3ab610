//! How often the proven program was started since there was a reason to forget that. Pure, but for the clock.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::status::KERNELS_BOOT_ID;

/// How often it may end within [`WITHIN`].
pub const MAX_ENDS: u32 = 5;
/// Within what time of one boot. Five that hang end within it by the watchdog; that NATS is away ends none.
pub const WITHIN: Duration = Duration::from_secs(15 * 60);
/// For how long it has to work until a report of it is a reason to forget its ends: one that reports and dies is none.
pub const TRUSTED_AFTER: Duration = Duration::from_secs(3600);

/// A time of this boot.
#[derive(Debug, Clone)]
pub struct Moment {
    boot: String,
    /// Since the device was booted, in seconds.
    second: u64,
}

impl Moment {
    /// Now; absent where the kernel does not tell its boot id, and nothing can be counted.
    pub fn now() -> Option<Self> {
        let boot = fs::read_to_string(KERNELS_BOOT_ID).ok()?;
        let second = clock_gettime(ClockId::Boottime).tv_sec;
        Some(Self::at(boot.trim(), second.unsigned_abs()))
    }

    /// That second of a boot.
    pub fn at(boot: &str, second: u64) -> Self {
        let boot = boot.to_owned();
        Self { boot, second }
    }
}

/// Starts that are not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    boot: String,
    /// When the first of them was.
    first: u64,
    times: u32,
}

impl Starts {
    /// One more; the first, where those before were in another boot, or too long ago.
    pub fn and_one_more(before: Option<Self>, now: &Moment) -> Self {
        let is_recent = |starts: &Self| {
            let first = starts.first..starts.first.saturating_add(WITHIN.as_secs());
            starts.boot == now.boot && first.contains(&now.second)
        };
        let new = || Self {
            boot: now.boot.clone(),
            first: now.second,
            times: 0,
        };
        let before = before.filter(is_recent).unwrap_or_else(new);
        Self {
            times: before.times.saturating_add(1),
            ..before
        }
    }

    /// Whether it has ended too often before this one.
    pub fn are_too_many(&self) -> bool {
        self.times > MAX_ENDS
    }
}

#[cfg(test)]
mod tests {
    use iot_contracts::{AgentProgram, UpdatePhase};

    use super::{MAX_ENDS, Moment, WITHIN};
    use crate::update::judge::{Judgement, judge};
    use crate::update::record::{Placed, Record, Slot, Start};
    use crate::update::tests::{numbered, placed, trusting, wanted};

    /// Release 1 was proven in slot A, and release 2 after it in slot B, which the key's revisions 1 and 2 asked for.
    fn twice_updated() -> Record {
        let mut record = Record::of_installed([0xff; 32].into());
        for (slot, serial) in [(Slot::A, 1), (Slot::B, 2)] {
            record.try_out(placed(slot, serial), serial, false);
            record.prove();
        }
        record
    }

    fn start(record: &mut Record, second: u64) -> Start {
        record.next_start(Some(&Moment::at("boot", second)))
    }

    /// What is started after it has ended as often as it may, a minute apart.
    fn start_after_all(record: &mut Record, running: &Placed) -> Start {
        for minute in 0..MAX_ENDS {
            let started = start(record, u64::from(minute) * 60);
            assert_eq!(started, Start::Proven(running.clone()));
        }
        start(record, u64::from(MAX_ENDS) * 60)
    }

    #[test]
    fn what_ends_again_and_again_gives_way_to_the_one_before() {
        let mut record = twice_updated();
        let before = Start::Proven(placed(Slot::A, 1));
        assert_eq!(start_after_all(&mut record, &placed(Slot::B, 2)), before);
        let told = record.told().unwrap();
        assert_eq!((told.phase, told.revision), (UpdatePhase::Failed, 2));
        let why = "it was proven, and ended 5 times within 15 min";
        assert_eq!(told.detail.as_deref(), Some(why));
        // The key still asks for it, and it is not fetched again.
        let wanted = wanted(2, &numbered(2));
        let judged = judge(&wanted, Some(&trusting(&[1])), &record, AgentProgram::A);
        assert_eq!(judged.unwrap(), Judgement::Leave(told.clone()));
        // Where that one ends as well, nothing else is told, and the installed one is left.
        let installed = start_after_all(&mut record, &placed(Slot::A, 1));
        assert_eq!(installed, Start::Installed);
        assert_eq!(record.told(), Some(told));
        assert_eq!(start(&mut record, 0), Start::Installed);
    }

    #[test]
    fn a_report_forgets_no_end_of_a_program_that_is_not_trusted() {
        let mut record = twice_updated();
        for second in 0..u64::from(MAX_ENDS) {
            assert_eq!(
                start(&mut record, second),
                Start::Proven(placed(Slot::B, 2))
            );
            assert!(!record.forget_starts_for_report());
        }
        // What comes back has to show it anew.
        let before = Start::Proven(placed(Slot::A, 1));
        assert_eq!(start(&mut record, 9), before);
        assert!(!record.forget_starts_for_report());
        assert!(record.trust());
        // A trusted one that reports nothing is gone back from, too.
        let mut record = twice_updated();
        record.trust();
        assert_eq!(start_after_all(&mut record, &placed(Slot::B, 2)), before);
        let told = record.told().unwrap().detail.unwrap();
        assert!(told.ends_with("within 15 min before a report of it was stored"));
    }

    #[test]
    fn ends_count_while_they_follow_each_other_and_are_not_forgotten() {
        let running = Start::Proven(placed(Slot::B, 2));
        let mut record = twice_updated();
        for boot in ["x", "y", "z"] {
            for second in 0..u64::from(MAX_ENDS) {
                let now = Moment::at(boot, second);
                assert_eq!(record.next_start(Some(&now)), running);
            }
        }
        for time in 0..20 {
            let second = time * WITHIN.as_secs() / u64::from(MAX_ENDS);
            assert_eq!(start(&mut record, second), running);
        }
        for second in 0..20 {
            assert_eq!(start(&mut record, second), running);
            assert!(record.forget_starts() && !record.forget_starts());
        }
        assert!(record.trust() && !record.trust());
        for second in 0..20 {
            assert_eq!(start(&mut record, second), running);
            assert!(record.forget_starts_for_report());
        }
        // Where the time cannot be told.
        for _ in 0..20 {
            assert_eq!(record.next_start(None), running);
        }
    }

    #[test]
    fn an_end_for_an_update_is_none_of_the_programs_own() {
        let mut record = twice_updated();
        for serial in 3..20 {
            assert_eq!(
                start(&mut record, serial),
                Start::Proven(placed(Slot::B, 2))
            );
            record.try_out(placed(Slot::A, serial), serial, false);
            record.fail("why".to_owned());
        }
    }

    #[test]
    fn a_program_whose_slot_was_taken_is_not_gone_back_to() {
        let mut record = twice_updated();
        record.try_out(placed(Slot::A, 3), 3, false);
        // A report of what is on trial says nothing of the one before.
        assert!(!record.forget_starts());
        record.fail("why".to_owned());
        let failed = record.told();
        let left = start_after_all(&mut record, &placed(Slot::B, 2));
        assert_eq!(left, Start::Installed);
        assert_eq!(record.told(), failed);
    }
}
