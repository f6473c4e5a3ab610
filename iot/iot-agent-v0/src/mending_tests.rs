//! What is planned for what is broken.

use iot_contracts::{Phase, Restart};
use tokio::time::Instant;

use super::{Case, EXITED, check, desired, key, told, world};
use crate::container::ContainerState::{Between, Created, Paused, Running};
use crate::desired::DesiredState;
use crate::history::{History, STEADY};
use crate::plan::plan;
use crate::settle::{BETWEEN, STUCK};

#[test]
fn what_is_between_two_states_is_stopped_first() {
    let cases = [
        Case {
            name: "it runs again",
            desired: &["web.a=1"],
            observed: &[("web.a=1", Between)],
            images: &[],
            steps: &["web.a: stop web.a=1, start web.a=1"],
        },
        Case {
            name: "it is replaced",
            desired: &["web.a=2"],
            observed: &[("web.a=1", Between)],
            images: &["2"],
            steps: &["web.a: set aside web.a=1, run host/x:2 Some(\"web.a=1\")"],
        },
        Case {
            name: "it runs while the image comes",
            desired: &["web.a=2"],
            observed: &[("web.a=1", Between)],
            images: &[],
            steps: &["web.a: stop web.a=1, start web.a=1, image host/x:2"],
        },
    ];
    check(&cases, BETWEEN);
    let [again, replaced, _] = cases;
    let waits = [again, replaced].map(|case| Case {
        steps: &["web.a: "],
        ..case
    });
    check(&waits, BETWEEN / 2);
}

#[test]
fn what_rests_between_two_states_is_made_anew() {
    let cases = [
        Case {
            name: "with its volumes",
            desired: &["web.a=1"],
            observed: &[("web.a=1", Between)],
            images: &[],
            steps: &[
                "web.a: rename web.a=1 Previous, create host/x:1 Some(\"web.a=1\"), remove web.a=1",
            ],
        },
        Case {
            name: "the one before comes back",
            desired: &["web.a=2"],
            observed: &[("web.a=2", Between), ("web.a=1 previous", EXITED)],
            images: &[],
            steps: &[
                "web.a: remove web.a=2, rename web.a=1-previous Current, start web.a=1-previous",
            ],
        },
        Case {
            name: "made anew, and the old one not yet removed",
            desired: &["web.a=1"],
            observed: &[("web.a=1", Created), ("web.a=1 previous", Between)],
            images: &[],
            steps: &["web.a: start web.a=1"],
        },
        Case {
            name: "the only one there is, and it is mended as the current one",
            desired: &["web.a=2"],
            observed: &[("web.a=1 previous", Between)],
            images: &[],
            steps: &["web.a: rename web.a=1-previous Current, image host/x:2"],
        },
        Case {
            name: "a third one comes, and the first one is kept",
            desired: &["web.a=3"],
            observed: &[("web.a=2", Between), ("web.a=1 previous", EXITED)],
            images: &["3"],
            steps: &["web.a: remove web.a=2, run host/x:3 Some(\"web.a=1-previous\")"],
        },
        Case {
            name: "it is replaced all the same",
            desired: &["web.a=2"],
            observed: &[("web.a=1", Between)],
            images: &["2"],
            steps: &[
                "web.a: rename web.a=1 Previous, create host/x:2 Some(\"web.a=1\"), remove web.a=1",
            ],
        },
    ];
    check(&cases, STUCK);
}

#[test]
fn a_damaged_image_is_fetched_anew_and_not_for_ever() {
    let desired = desired(&["web.a=2"]);
    let image = "host/x:2".parse().unwrap();
    let key = key("web.a");
    let mut history = History::default();
    let now = Instant::now();
    let steps = |history: &History, containers: &[_]| {
        let world = world(&desired, containers, &["2"]);
        told(plan(&desired, &world, history, now)).remove(0)
    };
    let alone = [("web.a=2", EXITED)];
    let with_previous = [("web.a=2", EXITED), ("web.a=1 previous", EXITED)];
    for _ in 0..3 {
        history.damaged(&image, &key, now);
        // What may be the only one there is stays until its registry has shown another one.
        assert_eq!(
            steps(&history, &alone),
            "web.a: start web.a=2, image host/x:2"
        );
        assert_eq!(
            steps(&history, &with_previous),
            "web.a: rename web.a=2 Failed, rename web.a=1-previous Current, start web.a=1-previous, \
             image host/x:2"
        );
        assert_eq!(
            steps(&history, &[]),
            "web.a: run host/x:2 None, image host/x:2"
        );
        assert_eq!(steps(&history, &[("web.a=2", Running)]), "web.a: ");
        history.pulled(&image);
        assert_eq!(
            steps(&history, &alone),
            "web.a: remove web.a=2, remove image host/x:2"
        );
        assert_eq!(
            steps(&history, &with_previous),
            "web.a: remove web.a=2, rename web.a=1-previous Current, start web.a=1-previous, \
             remove image host/x:2"
        );
        assert_eq!(steps(&history, &[]), "web.a: remove image host/x:2");
        assert_eq!(
            steps(
                &history,
                &[("web.a=1", Running), ("web.a=2 failed", EXITED)]
            ),
            "web.a: remove web.a=2-failed, remove image host/x:2"
        );
        history.mends(&image);
        assert_eq!(steps(&history, &alone), "web.a: start web.a=2");
    }
    history.damaged(&image, &key, now);
    assert_eq!(steps(&history, &alone), "web.a: start web.a=2");
    assert_eq!(
        steps(&history, &with_previous),
        "web.a: rename web.a=2 Failed, rename web.a=1-previous Current, start web.a=1-previous"
    );
}

/// The image may be all right, and the fault in what one container was given.
#[test]
fn what_has_run_is_not_thrown_away_for_what_another_one_of_its_image_has_seen() {
    let desired = desired(&["odd.a=2", "ran.a=2", "new.a=2", "job.a=2"]);
    let image = "host/x:2".parse().unwrap();
    let at = |ran| {
        let there = [
            ("odd.a=2", EXITED),
            ("ran.a=2", ran),
            ("new.a=2", EXITED),
            ("job.a=2", EXITED),
        ];
        let mut world = world(&desired, &there, &["2"]);
        world.containers[3].terms.restart = Restart::Never;
        world
    };
    let mut history = History::default();
    let now = Instant::now();
    history.look(&at(Running).containers, now);
    let now = now + STEADY;
    history.look(&at(Running).containers, now);
    history.look(&at(EXITED).containers, now);
    let mut see = |by: &str| {
        history.damaged(&image, &key(by), now);
        history.replaceable(&image);
        told(plan(&desired, &at(EXITED), &history, now))
    };
    let mended = ["job.a: ", "new.a: remove new.a=2, remove image host/x:2"];
    let odd = "odd.a: remove odd.a=2, remove image host/x:2";
    let seen = see("odd.a");
    assert_eq!(seen[..3], [mended[0], mended[1], odd]);
    assert_eq!(seen[3], "ran.a: start ran.a=2");
    assert_eq!(
        see("ran.a")[3],
        "ran.a: remove ran.a=2, remove image host/x:2"
    );
}

/// A look for which there is a time in the past would follow at once, and the next one too.
#[test]
fn no_look_is_due_in_the_past() {
    let desired = desired(&["web.a=2"]);
    let now = Instant::now();
    for containers in [
        &[("web.a=1", Between)][..],
        &[("web.a=2", Between)],
        &[("web.a=1", EXITED)],
    ] {
        let world = world(&desired, containers, &[]);
        let mut history = History::default();
        history.look(&world.containers, now);
        for seconds in 0..200 {
            let now = now + std::time::Duration::from_secs(seconds);
            for verdict in plan(&desired, &world, &history, now).into_values() {
                assert!(
                    verdict.look_at.is_none_or(|at| at > now),
                    "{containers:?} {seconds}"
                );
            }
        }
    }
}

/// It ran for long, has just ended, and the one before it is still there.
#[test]
fn what_has_proven_itself_is_neither_rolled_back_nor_thrown_away() {
    for (tag, state, images, steps) in [
        ("2", EXITED, &[][..], "web.a: start web.a=2"),
        (
            "2",
            Between,
            &[],
            "web.a: remove web.a=1-previous, rename web.a=2 Previous, create host/x:2 \
             Some(\"web.a=2\"), remove web.a=2",
        ),
        (
            "3",
            EXITED,
            &["3"],
            "web.a: remove web.a=1-previous, set aside web.a=2, run host/x:3 Some(\"web.a=2\")",
        ),
    ] {
        let desired = desired(&[&format!("web.a={tag}")]);
        let at = |state| {
            let there = [("web.a=2", state), ("web.a=1 previous", EXITED)];
            world(&desired, &there, images)
        };
        let mut history = History::default();
        let start = Instant::now();
        let mut now = start;
        for (state, time) in [
            (Running, STEADY),
            (Running, STUCK),
            (state, STUCK),
            (state, STUCK),
        ] {
            history.look(&at(state).containers, now);
            now += time;
        }
        let plan = plan(&desired, &at(state), &history, now);
        assert_eq!(told(plan), [steps], "{tag} {state:?}");
    }
}

/// An agent that begins anew knows of no proof: a new container has its time, and its run is the proof.
#[test]
fn what_runs_again_after_a_boot_is_proven_again() {
    let desired = desired(&["web.a=2"]);
    let at = |state| {
        world(
            &desired,
            &[("web.a=2", state), ("web.a=1 previous", EXITED)],
            &[],
        )
    };
    let mut history = History::default();
    let mut now = Instant::now();
    let mut steps = Vec::new();
    for (state, time) in [
        (EXITED, STEADY),
        (Running, STEADY),
        (Running, 2 * STUCK),
        (EXITED, STEADY),
    ] {
        let world = at(state);
        history.look(&world.containers, now);
        steps.extend(told(plan(&desired, &world, &history, now)));
        now += time;
    }
    let expected = [
        "web.a: start web.a=2",
        "web.a: ",
        "web.a: remove web.a=1-previous",
        "web.a: start web.a=2",
    ];
    assert_eq!(steps, expected);
}

/// Podman does not stop what is paused, and says that it did.
#[test]
fn what_is_paused_goes_on_before_it_is_stopped_or_comes_back() {
    let cases = [
        Case {
            name: "it is replaced",
            desired: &["web.a=2"],
            observed: &[("web.a=1", Paused)],
            images: &["2"],
            steps: &["web.a: unpause web.a=1, set aside web.a=1, run host/x:2 Some(\"web.a=1\")"],
        },
        Case {
            name: "set aside while it was paused, and the new one not made",
            desired: &["web.a=2"],
            observed: &[("web.a=1 previous", Paused)],
            images: &["2"],
            steps: &["web.a: unpause web.a=1-previous, stop web.a=1-previous, \
                 run host/x:2 Some(\"web.a=1-previous\")"],
        },
        Case {
            name: "set aside while it was paused, and the new one not started",
            desired: &["web.a=2"],
            observed: &[("web.a=2", Created), ("web.a=1 previous", Paused)],
            images: &["2"],
            steps: &["web.a: unpause web.a=1-previous, stop web.a=1-previous, start web.a=2"],
        },
        Case {
            name: "it comes back",
            desired: &["web.a=1"],
            observed: &[("web.a=2", EXITED), ("web.a=1 previous", Paused)],
            images: &[],
            steps: &["web.a: remove web.a=2, rename web.a=1-previous Current, \
                 unpause web.a=1-previous, start web.a=1-previous"],
        },
    ];
    check(&cases, std::time::Duration::ZERO);
}

#[test]
fn of_what_is_held_and_does_not_run_it_is_told_so() {
    let desired = DesiredState::default();
    let world = world(&desired, &[("web.a=2 failed", EXITED)], &[]);
    let plan = plan(&desired, &world, &History::default(), Instant::now());
    let text = "nothing runs: there is only what did not stay up";
    for verdict in plan.into_values() {
        assert_eq!(verdict.steps, []);
        assert_eq!(verdict.finding, Some((Phase::Failed, text.to_owned())));
    }
}
