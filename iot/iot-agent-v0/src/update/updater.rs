//! Fetches what the platform wants of the agent's program, and has it tried.

use std::sync::Arc;
use std::time::Duration;

use iot_contracts::{
    AgentProgram, AgentRelease, Hex, LastUpdate, UpdateConfig, UpdatePhase, UpdateStatus,
};
use tokio::sync::{Mutex, watch};

use super::fetch::{Patience, fetch};
use super::judge::{Judgement, Refusal, Wanted, judge};
use super::progress::Progress;
use super::record::{Placed, Record};
use super::slots::{Slots, own_digest};
use super::starts::TRUSTED_AFTER;
use crate::backoff;
use crate::error::{bounded, chain};

/// The wait after a first failure to fetch a program.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// The longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(3600);

/// Looks after the agent's own program.
#[derive(Debug)]
pub struct Updater {
    /// Where programs are put; nowhere, and why.
    slots: Result<Slots, Refusal>,
    /// Which program this is.
    program: AgentProgram,
    config: Option<UpdateConfig>,
    /// Whose turn it is to write an unfinished program. Who is dropped keeps it until its last write is done.
    turn: Arc<Mutex<()>>,
}

/// What is left to do about what is wanted.
enum Step {
    Rest,
    Fetch(Placed, u64),
    Note(AgentRelease, LastUpdate),
}

impl Updater {
    /// For this process, which is `program` by the word of the launcher; `None` where there is no launcher.
    pub fn of_this_process(program: Option<AgentProgram>, config: Option<&UpdateConfig>) -> Self {
        let slots = match program {
            Some(_) => Slots::of_this_unit().ok_or(Refusal::NoPlace),
            None => Err(Refusal::NoLauncher),
        };
        Self {
            slots,
            program: program.unwrap_or(AgentProgram::Installed),
            config: config.cloned(),
            turn: Arc::default(),
        }
    }

    /// What is reported before anything is wanted.
    pub fn status(&self) -> UpdateStatus {
        let record = self.slots.as_ref().ok().and_then(Slots::recall);
        UpdateStatus {
            program: self.program,
            last: record.and_then(|record| record.told()),
        }
    }

    /// A report of this program was stored: its starts so far are no reason to go back, once it is trusted.
    pub fn has_reported(&self) {
        self.note_well(Record::forget_starts_for_report);
    }

    /// This program was asked to end: its starts so far are no reason to go back.
    pub fn forget_starts(&self) {
        self.note_well(Record::forget_starts);
    }

    /// Trusts this program when it has worked for long. Never ends.
    async fn trust(&self) {
        tokio::time::sleep(TRUSTED_AFTER).await;
        if self.program != AgentProgram::Installed {
            self.note_well(Record::trust);
        }
        std::future::pending().await
    }

    /// Changes what is known of this program, where there is something to change.
    fn note_well(&self, change: impl FnOnce(&mut Record) -> bool) {
        let Ok(slots) = &self.slots else { return };
        if let Some(mut record) = slots.recall()
            && change(&mut record)
            && let Err(error) = slots.save(&record)
        {
            tracing::warn!(
                error = chain(&error),
                "cannot note that this program is well"
            );
        }
    }

    /// Follows what is wanted until a new program is placed: then this process has to end, so that the launcher tries it.
    /// Says in `status` how it goes; `progress` tells whether this program sees Podman. Ends never where nothing new comes.
    pub async fn run(
        &self,
        wanted: watch::Receiver<Option<Wanted>>,
        status: &watch::Sender<UpdateStatus>,
        progress: &Progress,
    ) {
        tokio::select! {
            () = self.follow(wanted, status, progress) => {}
            () = self.trust() => {}
        }
    }

    async fn follow(
        &self,
        mut wanted: watch::Receiver<Option<Wanted>>,
        status: &watch::Sender<UpdateStatus>,
        progress: &Progress,
    ) {
        let mut failures = 0;
        loop {
            let now = wanted.borrow_and_update().clone();
            let step = now.map_or(Step::Rest, |wanted| self.decide(&wanted, status));
            let done = async {
                if failures > 0 && !matches!(step, Step::Rest) {
                    tokio::time::sleep(backoff::wait(failures, FIRST_RETRY, LAST_RETRY)).await;
                }
                match step {
                    Step::Rest => std::future::pending().await,
                    Step::Fetch(placed, revision) => {
                        self.place(placed, revision, status, progress).await
                    }
                    Step::Note(release, proven) => {
                        self.note_serial(&release, proven, status);
                        false
                    }
                }
            };
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => failures = 0,
                    Err(_) => return std::future::pending().await,
                },
                is_placed = done => match is_placed {
                    true => return,
                    false => failures += 1,
                },
            }
        }
    }

    /// What to do about what is wanted; what is not done is reported.
    fn decide(&self, wanted: &Wanted, status: &watch::Sender<UpdateStatus>) -> Step {
        let judged = match &self.slots {
            Ok(slots) => match known(slots) {
                // The launcher waits for the word that proves it.
                Some(record) if record.is_trying() => return Step::Rest,
                Some(record) => judge(wanted, self.config.as_ref(), &record, self.program)
                    .map(|judgement| (judgement, record)),
                None => Err(Refusal::NoPlace),
            },
            Err(Refusal::NoLauncher) => Err(Refusal::NoLauncher),
            Err(_) => Err(Refusal::NoPlace),
        };
        match judged {
            Ok((Judgement::Leave(last), _)) => {
                tell(status, last);
                Step::Rest
            }
            Ok((Judgement::Note(release, proven), _)) => Step::Note(release, proven),
            Ok((Judgement::Take(release), record)) => {
                let slot = record.free_slot();
                Step::Fetch(Placed { slot, release }, wanted.revision)
            }
            Err(refusal) => {
                let why = chain(&refusal);
                tracing::warn!(revision = wanted.revision, why, "update refused");
                tell(
                    status,
                    last(wanted.revision, None, UpdatePhase::Refused, Some(why)),
                );
                Step::Rest
            }
        }
    }

    /// Notes the serial of a release whose program already runs, and tells that; else why it is not noted.
    fn note_serial(
        &self,
        release: &AgentRelease,
        proven: LastUpdate,
        status: &watch::Sender<UpdateStatus>,
    ) {
        let Ok(slots) = &self.slots else { return };
        let prepared = slots.prepare().map_err(|error| chain(&error));
        let noted = prepared.and_then(|()| note(slots, |record| record.take_serial_of(release)));
        match noted {
            Ok(()) => tell(status, proven),
            Err(why) => {
                tracing::warn!(sha256 = %release.sha256(), why, "serial not noted");
                let (revision, sha256) = (proven.revision, proven.sha256);
                let why = Some(format!("cannot note its serial: {why}"));
                tell(status, last(revision, sha256, UpdatePhase::Fetching, why));
            }
        }
    }

    /// Fetches a program and notes that it is to be tried; whether that is so.
    async fn place(
        &self,
        placed: Placed,
        revision: u64,
        status: &watch::Sender<UpdateStatus>,
        progress: &Progress,
    ) -> bool {
        let Ok(slots) = &self.slots else { return false };
        let sha256 = placed.release.sha256();
        let fetching = |why| last(revision, Some(sha256), UpdatePhase::Fetching, why);
        if !is_fetching(status, revision) {
            tell(status, fetching(None));
        }
        tracing::info!(%sha256, "fetches an update");
        let why = match self.fetch(slots, &placed).await {
            Ok(()) => {
                let may_be_blind = progress.is_blind();
                let try_out = |record: &mut Record| record.try_out(placed, revision, may_be_blind);
                match note(slots, try_out) {
                    Ok(()) => return true,
                    Err(why) => why,
                }
            }
            Err((why, false)) => why,
            Err((why, true)) => {
                tracing::warn!(%sha256, why, "update failed");
                let fail = |record: &mut Record| {
                    record.fail_before_trial(sha256, revision, why.clone());
                };
                match note(slots, fail) {
                    Ok(()) => {
                        let failed = last(revision, Some(sha256), UpdatePhase::Failed, Some(why));
                        tell(status, failed);
                        return false;
                    }
                    Err(why) => why,
                }
            }
        };
        tracing::warn!(%sha256, why, "update not fetched");
        tell(status, fetching(Some(why)));
        false
    }

    /// Why it was not fetched, and whether another try would be in vain.
    async fn fetch(&self, slots: &Slots, placed: &Placed) -> Result<(), (String, bool)> {
        let failed = |error: std::io::Error| (chain(&error), false);
        slots.prepare().map_err(failed)?;
        let turn = Arc::new(self.turn.clone().lock_owned().await);
        let ca = self.config.as_ref().and_then(|config| config.ca.as_deref());
        let path = slots.unfinished(placed.slot);
        let fetched = fetch(&placed.release, ca, &path, Patience::SLOW, turn.clone()).await;
        fetched.map_err(|error| (chain(&error), error.is_final()))?;
        let (slots, slot) = (slots.clone(), placed.slot);
        let moved = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            slots.place(slot)
        });
        let moved = moved.await;
        let moved = moved.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        moved.map_err(failed)
    }
}

/// What is known; of the installed program alone, where nothing else is.
fn known(slots: &Slots) -> Option<Record> {
    let of_this = || own_digest().ok().map(Record::of_installed);
    slots.recall().or_else(of_this)
}

/// Changes what is known, for good.
fn note(slots: &Slots, change: impl FnOnce(&mut Record)) -> Result<(), String> {
    let mut record = known(slots).ok_or("the agent's own program cannot be read")?;
    change(&mut record);
    slots.save(&record).map_err(|error| chain(&error))
}

fn last(
    revision: u64,
    sha256: Option<Hex<32>>,
    phase: UpdatePhase,
    why: Option<String>,
) -> LastUpdate {
    LastUpdate {
        revision,
        sha256,
        phase,
        detail: why.map(|why| bounded(&why)),
    }
}

fn is_fetching(status: &watch::Sender<UpdateStatus>, revision: u64) -> bool {
    let status = status.borrow();
    let last = status.last.as_ref();
    last.is_some_and(|last| last.phase == UpdatePhase::Fetching && last.revision == revision)
}

fn tell(status: &watch::Sender<UpdateStatus>, last: LastUpdate) {
    status.send_if_modified(|status| {
        let is_news = status.last.as_ref() != Some(&last);
        status.last = Some(last);
        is_news
    });
}

#[cfg(test)]
#[path = "updater_tests.rs"]
mod tests;
