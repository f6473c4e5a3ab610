//! What an updater remembers, and who writes when.

use std::fs;
use std::path::Path;
use std::sync::mpsc;

use tokio::runtime::Builder;

use super::*;
use crate::update::record::Slot;
use crate::update::starts::Moment;
use crate::update::tests::{release, trusting};

/// One whose program is that of serial 100, in slot A.
fn updater(dir: &Path) -> Updater {
    let slots = Slots::below(dir);
    slots.prepare().unwrap();
    let mut record = Record::of_installed([0xff; 32].into());
    let (slot, release) = (Slot::A, numbered(100, 1));
    record.try_out(Placed { slot, release }, 1, false);
    record.prove();
    slots.save(&record).unwrap();
    Updater {
        slots: Ok(slots),
        program: AgentProgram::A,
        config: Some(trusting(&[1])),
        turn: Arc::default(),
    }
}

fn numbered(serial: u64, program: u8) -> AgentRelease {
    release(1, serial, [program; 32].into(), 10, "https://127.0.0.1:1/x")
}

fn wanted(revision: u64, release: &AgentRelease) -> Option<Wanted> {
    let value = serde_json::to_vec(release).unwrap();
    Some(Wanted { revision, value })
}

/// The next word about that revision.
async fn told(status: &mut watch::Receiver<UpdateStatus>, revision: u64) -> LastUpdate {
    let is_of = |status: &UpdateStatus| {
        let last = status.last.as_ref();
        last.is_some_and(|last| last.revision == revision)
    };
    status.wait_for(is_of).await.unwrap().last.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_runs_already_raises_the_serial() {
    let dir = tempfile::tempdir().unwrap();
    let updater = updater(dir.path());
    let (put, wants) = watch::channel(wanted(2, &numbered(300, 1)));
    let (tells, mut status) = watch::channel(updater.status());
    let progress = Progress::default();
    let checks = async {
        assert_eq!(told(&mut status, 2).await.phase, UpdatePhase::Proven);
        put.send_replace(wanted(3, &numbered(200, 2)));
        let refused = told(&mut status, 3).await;
        assert_eq!(refused.phase, UpdatePhase::Refused, "{refused:?}");
        assert!(refused.detail.unwrap().contains("expected 300 or higher"));
    };
    tokio::select! {
        () = updater.run(wants, &tells, &progress) => unreachable!(),
        () = checks => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_serial_that_cannot_be_saved_is_told_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let updater = updater(dir.path());
    let slots = Slots::below(dir.path());
    let obstacle = slots.beside("record.new");
    fs::create_dir(&obstacle).unwrap();
    let (_put, wants) = watch::channel(wanted(2, &numbered(300, 1)));
    let (tells, mut status) = watch::channel(updater.status());
    let progress = Progress::default();
    let checks = async {
        let kept = told(&mut status, 2).await;
        assert_eq!(kept.phase, UpdatePhase::Fetching, "{kept:?}");
        assert!(kept.detail.unwrap().starts_with("cannot note its serial: "));
        assert_eq!(slots.recall().unwrap().serial(), 100);
        fs::remove_dir(&obstacle).unwrap();
        status.mark_unchanged();
        status.changed().await.unwrap();
        assert_eq!(told(&mut status, 2).await.phase, UpdatePhase::Proven);
        assert_eq!(slots.recall().unwrap().serial(), 300);
    };
    tokio::select! {
        () = updater.run(wants, &tells, &progress) => unreachable!(),
        () = checks => {}
    }
}

#[test]
fn a_fetch_waits_for_the_last_write_of_one_that_was_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut updater = updater(dir.path());
    // So that it ends at once, but for the writer.
    updater.config.as_mut().unwrap().ca = Some(dir.path().join("nothing.pem"));
    let slots = Slots::below(dir.path());
    let (slot, release) = (Slot::B, numbered(200, 2));
    let placed = Placed { slot, release };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        // The only thread for writers is taken.
        let (free, is_taken) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || is_taken.recv());
        tokio::select! {
            biased;
            done = updater.fetch(&slots, &placed) => unreachable!("{done:?}"),
            () = std::future::ready(()) => {}
        }
        assert!(
            updater.turn.try_lock().is_err(),
            "its writer is still to come"
        );
        drop(free);
        let _turn = updater.turn.lock().await;
        assert!(!slots.unfinished(slot).exists());
    });
}

#[tokio::test(start_paused = true)]
async fn a_report_forgets_a_proven_programs_ends_once_it_has_worked_for_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let updater = updater(dir.path());
    let slots = Slots::below(dir.path());
    let counts = || {
        let mut record = slots.recall().unwrap();
        record.next_start(Some(&Moment::at("boot", 1)));
        slots.save(&record).unwrap();
        updater.has_reported();
        slots.recall().unwrap() == record
    };
    let (_put, wants) = watch::channel(None);
    let (tells, progress) = (watch::Sender::new(updater.status()), Progress::default());
    let run = updater.run(wants, &tells, &progress);
    tokio::pin!(run);
    for (time, counted) in [(3599, true), (2, false)] {
        let ended = tokio::time::timeout(Duration::from_secs(time), &mut run).await;
        assert!(ended.is_err(), "it ended by itself");
        assert_eq!(counts(), counted, "{time}");
    }
    // An end that it is asked for is none in its first hour, too.
    let mut record = slots.recall().unwrap();
    record.try_out(next(), 2, false);
    record.prove();
    slots.save(&record).unwrap();
    assert!(counts());
    updater.forget_starts();
    assert!(!slots.recall().unwrap().forget_starts());
}

/// The next release, in the other slot.
fn next() -> Placed {
    let (slot, release) = (Slot::B, numbered(200, 2));
    Placed { slot, release }
}
