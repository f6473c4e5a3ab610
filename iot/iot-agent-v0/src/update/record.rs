//! What is known of the agent's programs. The transitions are pure; each is saved before it is acted upon.

use iot_contracts::{AgentProgram, AgentRelease, Hex, LastUpdate, UpdatePhase};
use serde::{Deserialize, Serialize};

use super::starts::{MAX_ENDS, Moment, Starts, WITHIN};

/// How often a program on trial is started. A power cut may end one try and is not its fault.
pub const MAX_STARTS: u32 = 3;

/// One of the two places for programs that were fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Its file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// A program in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Where it lies.
    pub slot: Slot,
    /// What it is.
    pub release: AgentRelease,
}

/// A program that has to prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    placed: Placed,
    /// The revision of the key that asked for it.
    revision: u64,
    /// How often it was started.
    starts: u32,
    /// Whether the program that fetched it found no Podman, so that this one need not.
    #[serde(default)]
    may_be_blind: bool,
}

/// How the last update went that came as far as to be tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    sha256: Hex<32>,
    revision: u64,
    is_proven: bool,
    #[serde(default)]
    why: Option<String>,
}

/// Everything that is known. An installed agent reads what a newer one wrote: unknown fields are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The program that was installed when this began.
    installed: Hex<32>,
    /// The one that proved itself last; absent for the installed one.
    #[serde(default)]
    current: Option<Placed>,
    /// The one before that, while it is in its slot; absent for the installed one.
    #[serde(default)]
    previous: Option<Placed>,
    /// How often the current one was started since there was a reason to forget that.
    #[serde(default)]
    starts: Option<Starts>,
    /// Whether the current one has not worked for long yet, so that its reports are no such reason.
    #[serde(default)]
    is_fresh: bool,
    #[serde(default)]
    trial: Option<Trial>,
    /// The highest serial that was taken.
    #[serde(default)]
    serial: u64,
    #[serde(default)]
    last: Option<Last>,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The installed program.
    Installed,
    /// One that has proved itself.
    Proven(Placed),
    /// One that has to.
    Trial(Placed),
}

impl Record {
    /// Where nothing but the installed program is known.
    pub fn of_installed(installed: Hex<32>) -> Self {
        Self {
            installed,
            current: None,
            previous: None,
            starts: None,
            is_fresh: false,
            trial: None,
            serial: 0,
            last: None,
        }
    }

    /// Whether it is about this installed program. Who installs another one wants that to run.
    pub fn is_about(&self, installed: Hex<32>) -> bool {
        self.installed == installed
    }

    /// Another program was installed: it runs, and what was fetched is forgotten, but not what is too old.
    pub fn installed_anew(&mut self, installed: Hex<32>) {
        let serial = self.serial;
        *self = Self::of_installed(installed);
        self.serial = serial;
    }

    /// What is to be started, and counted as started, where it can be told when that is.
    pub fn next_start(&mut self, now: Option<&Moment>) -> Start {
        if let Some(trial) = &mut self.trial {
            if trial.starts < MAX_STARTS {
                trial.starts += 1;
                return Start::Trial(trial.placed.clone());
            }
            let why = format!("it ended {MAX_STARTS} times before it was proven");
            self.fail(why);
        }
        if let (Some(now), Some(_)) = (now, &self.current) {
            let starts = Starts::and_one_more(self.starts.take(), now);
            match starts.are_too_many() {
                true => self.go_back(),
                false => self.starts = Some(starts),
            }
        }
        self.proven_start()
    }

    /// The one before takes the place of the proven one. What is told of another update stays.
    fn go_back(&mut self) {
        let gone = self.current.take().map(|placed| placed.release.sha256());
        self.current = self.previous.take();
        let reports = match std::mem::replace(&mut self.is_fresh, true) {
            true => "",
            false => " before a report of it was stored",
        };
        if let Some(last) = self.last.as_mut()
            && Some(last.sha256) == gone
        {
            last.is_proven = false;
            let minutes = WITHIN.as_secs() / 60;
            last.why = Some(format!(
                "it was proven, and ended {MAX_ENDS} times within {minutes} min{reports}"
            ));
        }
    }

    /// A report was stored: whether something had been counted, and is forgotten.
    pub fn forget_starts_for_report(&mut self) -> bool {
        !self.is_fresh && self.forget_starts()
    }

    /// An end was asked for: whether something had been counted.
    pub fn forget_starts(&mut self) -> bool {
        self.trial.is_none() && self.starts.take().is_some()
    }

    /// The current program has worked for long: whether that is news.
    pub fn trust(&mut self) -> bool {
        self.trial.is_none() && std::mem::take(&mut self.is_fresh)
    }

    /// What is started when nothing is tried.
    pub fn proven_start(&self) -> Start {
        let current = self.current.clone();
        current.map_or(Start::Installed, Start::Proven)
    }

    /// The slot that nothing is in which is needed.
    pub fn free_slot(&self) -> Slot {
        match &self.current {
            Some(Placed { slot: Slot::A, .. }) => Slot::B,
            _ => Slot::A,
        }
    }

    /// A release is taken: what is older is not, from now on.
    pub fn take_serial_of(&mut self, release: &AgentRelease) {
        self.serial = self.serial.max(release.serial());
    }

    /// A program was placed and has to prove itself; whether it need not see Podman for that.
    pub fn try_out(&mut self, placed: Placed, revision: u64, may_be_blind: bool) {
        self.take_serial_of(&placed.release);
        // It lies where the one before was.
        self.previous = None;
        // The current one ends for it.
        self.starts = None;
        self.trial = Some(Trial {
            placed,
            revision,
            starts: 0,
            may_be_blind,
        });
    }

    /// Whether what is on trial need not see Podman.
    pub fn may_be_blind(&self) -> bool {
        let trial = self.trial.as_ref();
        trial.is_some_and(|trial| trial.may_be_blind)
    }

    /// The program on trial has proved itself.
    pub fn prove(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.last = Some(Last {
                sha256: trial.placed.release.sha256(),
                revision: trial.revision,
                is_proven: true,
                why: None,
            });
            self.previous = self.current.replace(trial.placed);
            self.starts = None;
            self.is_fresh = true;
        }
    }

    /// The program on trial has not.
    pub fn fail(&mut self, why: String) {
        if let Some(trial) = self.trial.take() {
            self.fail_before_trial(trial.placed.release.sha256(), trial.revision, why);
        }
    }

    /// What was fetched is not what was asked for.
    pub fn fail_before_trial(&mut self, sha256: Hex<32>, revision: u64, why: String) {
        self.last = Some(Last {
            sha256,
            revision,
            is_proven: false,
            why: Some(why),
        });
    }

    /// Whether something is on trial.
    pub fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    /// Whether `program`, which runs, is this one. The installed one runs also where the proven one is damaged.
    pub fn runs(&self, program: AgentProgram, sha256: Hex<32>) -> bool {
        let current = self.current.as_ref();
        match program {
            AgentProgram::Installed => self.installed == sha256,
            _ => current.is_some_and(|placed| placed.release.sha256() == sha256),
        }
    }

    /// Whether a release is older than one that was taken, or claims to be the same.
    pub fn is_older(&self, release: &AgentRelease) -> bool {
        release.serial() < self.serial
    }

    /// The highest serial that was taken.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether this was tried by order of that revision, and failed.
    pub fn has_failed(&self, sha256: Hex<32>, revision: u64) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|last| {
            !last.is_proven && last.sha256 == sha256 && last.revision == revision
        })
    }

    /// How the last update went, as it is reported.
    pub fn told(&self) -> Option<LastUpdate> {
        if let Some(trial) = &self.trial {
            return Some(LastUpdate {
                revision: trial.revision,
                sha256: Some(trial.placed.release.sha256()),
                phase: UpdatePhase::Trying,
                detail: None,
            });
        }
        let last = self.last.as_ref()?;
        Some(LastUpdate {
            revision: last.revision,
            sha256: Some(last.sha256),
            phase: match last.is_proven {
                true => UpdatePhase::Proven,
                false => UpdatePhase::Failed,
            },
            detail: last.why.clone(),
        })
    }
}
