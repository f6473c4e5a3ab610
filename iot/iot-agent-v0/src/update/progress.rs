//! What the agent has done since it was started: what a report of it proves of its program.

use std::cell::Cell;

use tokio::sync::watch;

use super::Updater;
use crate::desired::DesiredState;
use crate::watchdog::{REPORTED, REPORTED_BLIND, ServiceManager};

/// What a stored report proves. The desired state was listed before it was made, and all of it was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Podman did not answer.
    Blind,
    /// The program saw the containers, and went on.
    Sees,
}

impl Proof {
    /// The word for the launcher.
    fn word(self) -> &'static str {
        match self {
            Self::Blind => REPORTED_BLIND,
            Self::Sees => REPORTED,
        }
    }
}

#[derive(Debug, Default)]
struct Done {
    is_listed: bool,
    /// What was desired when the containers were last looked for, and whether they were seen.
    look: Option<(DesiredState, bool)>,
}

/// What was done. Its loops say so.
#[derive(Debug, Default)]
pub struct Progress(watch::Sender<Done>);

impl Progress {
    /// The desired state was listed.
    pub fn listed(&self) {
        self.0.send_if_modified(|done| {
            let is_news = !done.is_listed;
            done.is_listed = true;
            is_news
        });
    }

    /// The containers were looked for, all that is to be done for `desired` was begun, and the loop goes on.
    pub fn looked(&self, desired: &DesiredState, sees: bool) {
        self.0.send_if_modified(|done| {
            let is_news = done
                .look
                .as_ref()
                .is_none_or(|(before, saw)| *saw != sees || before != desired);
            if is_news {
                done.look = Some((desired.clone(), sees));
            }
            is_news
        });
    }

    /// Whether the last look found no Podman.
    pub fn is_blind(&self) -> bool {
        matches!(self.0.borrow().look, Some((_, false)))
    }

    /// What a report that is made now proves, where that is desired.
    fn proof(&self, desired: &DesiredState) -> Option<Proof> {
        let done = self.0.borrow();
        let (looked_for, sees) = done.look.as_ref()?;
        let is_proof = done.is_listed && looked_for == desired;
        is_proof.then_some(match sees {
            true => Proof::Sees,
            false => Proof::Blind,
        })
    }
}

/// Tells the launcher what stored reports prove.
pub struct Proving<'a> {
    /// What was done.
    pub progress: &'a Progress,
    /// What is desired.
    pub desired: &'a watch::Sender<DesiredState>,
    /// The launcher, during a trial.
    pub manager: &'a ServiceManager,
    /// Who keeps the record.
    pub updater: &'a Updater,
    /// Whether a report was stored, and what was told of it.
    pub told: Cell<(bool, Option<Proof>)>,
}

impl Proving<'_> {
    /// What a report that is made now proves, where that is more than was told.
    pub fn now(&self) -> Option<Proof> {
        let proof = self.progress.proof(&self.desired.borrow());
        proof.filter(|_| proof > self.told.get().1)
    }

    /// A report was stored, which proves that. It is told again with the next where it is not heard.
    pub fn stored(&self, proof: Option<Proof>) {
        let (has_reported, told) = self.told.get();
        if !has_reported {
            self.updater.has_reported();
        }
        let heard = proof.filter(|proof| self.manager.tell(proof.word()));
        self.told.set((true, told.max(heard)));
    }

    /// Waits until a report proves more than was told, and than `made`, the last one, does. Can be dropped at any time.
    pub async fn proves_more_than(&self, made: Option<Proof>) {
        let mut done = self.progress.0.subscribe();
        while self.now() <= made {
            // It outlives its receivers.
            let _ = done.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::UnixDatagram;

    use tokio::sync::watch;

    use super::{Progress, Proof, Proving};
    use crate::desired::DesiredState;
    use crate::update::Updater;
    use crate::watchdog::{REPORTED, REPORTED_BLIND, ServiceManager};

    #[test]
    fn a_report_proves_something_once_all_that_is_desired_was_looked_for() {
        let (nothing, mut some) = (DesiredState::default(), DesiredState::default());
        some.set_gone("web".parse().unwrap());
        let progress = Progress::default();
        assert_eq!(progress.proof(&nothing), None);
        progress.looked(&nothing, true);
        assert_eq!(progress.proof(&nothing), None);
        progress.listed();
        assert_eq!(progress.proof(&nothing), Some(Proof::Sees));
        // What is listed has not been looked for yet.
        assert_eq!(progress.proof(&some), None);
        progress.looked(&some, false);
        assert_eq!(progress.proof(&some), Some(Proof::Blind));
        assert!(progress.is_blind() && Proof::Blind < Proof::Sees);
        progress.looked(&some, true);
        assert_eq!(progress.proof(&some), Some(Proof::Sees));
        assert!(!progress.is_blind());
    }

    #[tokio::test]
    async fn the_launcher_is_told_what_is_more_than_before_and_again_until_it_hears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trial.sock");
        let manager = ServiceManager::at(Some(path.clone().into()), None);
        let updater = Updater::of_this_process(None, None);
        let (progress, desired) = (Progress::default(), watch::Sender::default());
        let proving = Proving {
            progress: &progress,
            desired: &desired,
            manager: &manager,
            updater: &updater,
            told: Cell::default(),
        };
        let nothing = desired.borrow().clone();
        proving.stored(proving.now());
        // Two reports that prove something, before anybody listens.
        let blind = async {
            progress.looked(&nothing, false);
            progress.listed();
        };
        tokio::join!(proving.proves_more_than(None), blind);
        assert_eq!(proving.now(), Some(Proof::Blind));
        proving.stored(proving.now());
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut buffer = [0; 64];
        let mut heard = || {
            let length = listener.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        proving.stored(proving.now());
        assert_eq!(heard().as_deref(), Some(REPORTED_BLIND));
        assert_eq!(proving.now(), None);
        let sees = async { progress.looked(&nothing, true) };
        tokio::join!(proving.proves_more_than(None), sees);
        for expected in [Some(REPORTED), None] {
            proving.stored(proving.now());
            assert_eq!(heard().as_deref(), expected);
        }
        // A Podman that goes away proves nothing more.
        progress.looked(&nothing, false);
        assert_eq!(proving.now(), None);
    }

    #[test]
    fn a_listing_without_a_look_proves_nothing() {
        let progress = Progress::default();
        progress.listed();
        assert_eq!(progress.proof(&DesiredState::default()), None);
        assert!(!progress.is_blind());
    }
}
