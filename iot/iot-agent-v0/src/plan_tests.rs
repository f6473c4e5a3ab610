//! What is planned, case by case.

#[path = "mending_tests.rs"]
mod mending;

use std::time::Duration;

use iot_contracts::Phase;
use tokio::time::Instant;

use super::{Action, Goal, Plan, Volumes, World, images_in_question, plan};
use crate::container::ContainerState::{Between, Created, Exited, Paused, Running};
use crate::container::{ContainerKey, ContainerState, ObservedContainer, Role};
use crate::desired::{DesiredState, Target};
use crate::history::{History, STEADY};
use crate::settle::TRIAL;

/// `deployment.service=tag` for each service.
fn desired(services: &[&str]) -> DesiredState {
    let mut scores = std::collections::BTreeMap::<&str, Vec<serde_json::Value>>::new();
    for text in services {
        let (key, tag) = text.split_once('=').unwrap();
        let (deployment, service) = key.split_once('.').unwrap();
        scores
            .entry(deployment)
            .or_default()
            .push(serde_json::json!({"name": service, "image": format!("host/x:{tag}")}));
    }
    let mut desired = DesiredState::default();
    // The one that cases have containers of and do not desire.
    desired.delete(&"old".parse().unwrap());
    for (deployment, services) in scores {
        let score = serde_json::json!({"type": "PodmanV0", "data": {"services": services}});
        desired.put(deployment.parse().unwrap(), score.to_string().as_bytes());
    }
    desired
}

fn key(text: &str) -> ContainerKey {
    let (deployment, service) = text.split_once('.').unwrap();
    ContainerKey {
        deployment: deployment.parse().unwrap(),
        service: service.parse().unwrap(),
    }
}

/// A container made from `deployment.service=tag`, named as it is or with `previous`, `failed` or `stray` behind.
fn observed(text: &str, state: ContainerState) -> ObservedContainer {
    let (made, role) = text.split_once(' ').unwrap_or((text, ""));
    let key = key(made.split_once('=').unwrap().0);
    let made_from = desired(&[made]);
    let Target::Services([service]) = made_from.target(&key.deployment) else {
        panic!("{text}");
    };
    ObservedContainer {
        id: text.replace(' ', "-"),
        digest: service.digest.clone(),
        terms: service.terms(),
        health: None,
        key,
        role: match role {
            "" => Role::Current,
            "previous" => Role::Previous,
            "failed" => Role::Failed,
            _ => Role::Stray,
        },
        state,
        image: String::new(),
        image_digest: None,
        started_at: i64::from(state != Created),
        exited_at: 0,
    }
}

/// A device with these containers and these tags of the image; of no other it is known that it is there.
fn world(desired: &DesiredState, containers: &[(&str, ContainerState)], tags: &[&str]) -> World {
    let there = containers
        .iter()
        .map(|(text, state)| observed(text, *state));
    let containers: Vec<_> = there.collect();
    let asked = images_in_question(desired, &containers).into_iter();
    let images = asked.map(|image| {
        let is_there = tags
            .iter()
            .any(|tag| image.as_str().ends_with(&format!(":{tag}")));
        (image, is_there)
    });
    World {
        images: images.collect(),
        containers,
        ..World::default()
    }
}

fn told(plan: Plan) -> Vec<String> {
    let tell = |action| match action {
        Action::Examine { id } => format!("examine {id}"),
        Action::RemoveImage { image } => format!("remove image {image}"),
        Action::Remove { id, .. } => format!("remove {id}"),
        Action::RemoveVolumes => "remove volumes".to_owned(),
        Action::Create(spec) => format!("create {} {:?}", spec.service.image(), spec.volumes_from),
        Action::Run(spec) => format!("run {} {:?}", spec.service.image(), spec.volumes_from),
        Action::Start { id } => format!("start {id}"),
        Action::Stop { id } => format!("stop {id}"),
        Action::Unpause { id } => format!("unpause {id}"),
        Action::SetAside { id } => format!("set aside {id}"),
        Action::Rename { id, role } => format!("rename {id} {role:?}"),
    };
    let told = plan.into_iter().map(|(key, verdict)| {
        let waits = verdict.image.map(|image| format!("image {image}"));
        let steps: Vec<_> = verdict.steps.into_iter().map(tell).chain(waits).collect();
        format!("{key}: {}", steps.join(", "))
    });
    told.collect()
}

struct Case {
    name: &'static str,
    desired: &'static [&'static str],
    observed: &'static [(&'static str, ContainerState)],
    images: &'static [&'static str],
    steps: &'static [&'static str],
}

const EXITED: ContainerState = Exited { code: 3 };

/// Looks once, waits for `later` while nothing changes, and plans.
fn check(cases: &[Case], later: Duration) {
    for case in cases {
        let desired = desired(case.desired);
        let world = world(&desired, case.observed, case.images);
        let mut history = History::default();
        let now = Instant::now();
        history.look(&world.containers, now);
        history.look(&world.containers, now + later);
        let plan = plan(&desired, &world, &history, now + later);
        assert_eq!(told(plan), case.steps, "{}", case.name);
    }
}

#[test]
fn steps_at_first_sight() {
    let cases = [
        Case {
            name: "nothing to do",
            desired: &["web.a=1"],
            observed: &[("web.a=1", Running)],
            images: &[],
            steps: &["web.a: "],
        },
        Case {
            name: "new, without its image",
            desired: &["web.a=1"],
            observed: &[],
            images: &[],
            steps: &["web.a: image host/x:1"],
        },
        Case {
            name: "new, with its image",
            desired: &["web.a=1"],
            observed: &[],
            images: &["1"],
            steps: &["web.a: run host/x:1 None"],
        },
        Case {
            name: "stopped containers start again",
            desired: &["web.a=1", "web.b=1"],
            observed: &[("web.a=1", EXITED), ("web.b=1", Created)],
            images: &[],
            steps: &["web.a: start web.a=1", "web.b: start web.b=1"],
        },
        Case {
            name: "paused ones and those that change are left",
            desired: &["web.a=1", "web.b=1"],
            observed: &[("web.a=1", Paused), ("web.b=1", Between)],
            images: &[],
            steps: &["web.a: ", "web.b: "],
        },
        Case {
            name: "what is not desired goes, all of it",
            desired: &["new.a=1"],
            observed: &[
                ("old.a=2", Running),
                ("old.a=1 previous", EXITED),
                ("old.a=1 failed", EXITED),
                ("old.b=1 stray", Running),
            ],
            images: &[],
            steps: &[
                "new.a: image host/x:1",
                "old.a: remove old.a=2, remove old.a=1-previous, remove old.a=1-failed",
                "old.b: remove old.b=1-stray",
            ],
        },
        Case {
            name: "a second container of a service goes",
            desired: &["web.a=1"],
            observed: &[("web.a=1", Running), ("web.a=1 stray", EXITED)],
            images: &[],
            steps: &["web.a: remove web.a=1-stray"],
        },
        Case {
            name: "what another hand renamed is taken as it is",
            desired: &["web.a=1"],
            observed: &[("web.a=1 stray", EXITED)],
            images: &["1"],
            steps: &["web.a: start web.a=1-stray"],
        },
    ];
    check(&cases, Duration::ZERO);
}

/// Each is a moment at which the power can go; what is there after it goes on to the end.
#[test]
fn an_update_goes_on_from_wherever_it_stands() {
    let cases = [
        Case {
            name: "the old one runs while the image comes",
            desired: &["web.a=2"],
            observed: &[("web.a=1", Running)],
            images: &[],
            steps: &["web.a: image host/x:2"],
        },
        Case {
            name: "after a power cut the old one is started while the image comes",
            desired: &["web.a=2"],
            observed: &[("web.a=1", EXITED)],
            images: &[],
            steps: &["web.a: start web.a=1, image host/x:2"],
        },
        Case {
            name: "with the image the old one is set aside",
            desired: &["web.a=2"],
            observed: &[("web.a=1", Running)],
            images: &["2"],
            steps: &["web.a: set aside web.a=1, run host/x:2 Some(\"web.a=1\")"],
        },
        Case {
            name: "set aside, and the new one not made",
            desired: &["web.a=2"],
            observed: &[("web.a=1 previous", EXITED)],
            images: &["2"],
            steps: &["web.a: run host/x:2 Some(\"web.a=1-previous\")"],
        },
        Case {
            name: "set aside, and the image is gone",
            desired: &["web.a=2"],
            observed: &[("web.a=1 previous", EXITED)],
            images: &[],
            steps: &[
                "web.a: rename web.a=1-previous Current, start web.a=1-previous, image host/x:2",
            ],
        },
        Case {
            name: "made, and not started",
            desired: &["web.a=2"],
            observed: &[("web.a=2", Created), ("web.a=1 previous", EXITED)],
            images: &["2"],
            steps: &["web.a: start web.a=2"],
        },
        Case {
            name: "started",
            desired: &["web.a=2"],
            observed: &[("web.a=2", Running), ("web.a=1 previous", EXITED)],
            images: &["2"],
            steps: &["web.a: "],
        },
        Case {
            name: "given up, and the old one not yet back",
            desired: &["web.a=2"],
            observed: &[("web.a=2 failed", EXITED), ("web.a=1 previous", EXITED)],
            images: &["2"],
            steps: &["web.a: rename web.a=1-previous Current, start web.a=1-previous"],
        },
        Case {
            name: "given up, and the old one not yet started",
            desired: &["web.a=2"],
            observed: &[("web.a=2 failed", EXITED), ("web.a=1", EXITED)],
            images: &["2"],
            steps: &["web.a: start web.a=1"],
        },
        Case {
            name: "given up, and the old one runs",
            desired: &["web.a=2"],
            observed: &[("web.a=2 failed", EXITED), ("web.a=1", Running)],
            images: &["2"],
            steps: &["web.a: "],
        },
        Case {
            name: "a third one comes while the second is not proven: the first one is kept",
            desired: &["web.a=3"],
            observed: &[("web.a=2", Running), ("web.a=1 previous", EXITED)],
            images: &["3"],
            steps: &["web.a: remove web.a=2, run host/x:3 Some(\"web.a=1-previous\")"],
        },
        Case {
            name: "back to the first one while the second is not proven",
            desired: &["web.a=1"],
            observed: &[("web.a=2", Running), ("web.a=1 previous", EXITED)],
            images: &[],
            steps: &[
                "web.a: remove web.a=2, rename web.a=1-previous Current, start web.a=1-previous",
            ],
        },
        Case {
            name: "another one comes after one was given up",
            desired: &["web.a=3"],
            observed: &[("web.a=1", Running), ("web.a=2 failed", EXITED)],
            images: &["3"],
            steps: &[
                "web.a: remove web.a=2-failed, set aside web.a=1, run host/x:3 Some(\"web.a=1\")",
            ],
        },
    ];
    check(&cases, Duration::ZERO);
}

#[test]
fn steps_once_a_new_container_is_proven() {
    let cases = [
        Case {
            name: "what was kept for it goes",
            desired: &["web.a=2"],
            observed: &[
                ("web.a=2", Running),
                ("web.a=1 previous", EXITED),
                ("web.a=2 failed", EXITED),
            ],
            images: &[],
            steps: &["web.a: remove web.a=1-previous, remove web.a=2-failed"],
        },
        Case {
            name: "it is the one that is kept",
            desired: &["web.a=3"],
            observed: &[("web.a=2", Running), ("web.a=1 previous", EXITED)],
            images: &["3"],
            steps: &[
                "web.a: remove web.a=1-previous, set aside web.a=2, run host/x:3 Some(\"web.a=2\")",
            ],
        },
    ];
    check(&cases, STEADY);
}

#[test]
fn steps_once_the_time_for_coming_up_is_over() {
    let cases = [
        Case {
            name: "it did not stay up",
            desired: &["web.a=2"],
            observed: &[("web.a=2", EXITED), ("web.a=1 previous", EXITED)],
            images: &[],
            steps: &[
                "web.a: rename web.a=2 Failed, rename web.a=1-previous Current, start web.a=1-previous",
            ],
        },
        Case {
            name: "it did not start, for the second time",
            desired: &["web.a=2"],
            observed: &[
                ("web.a=2", Created),
                ("web.a=1 previous", EXITED),
                ("web.a=2 failed", EXITED),
            ],
            images: &[],
            steps: &["web.a: remove web.a=2-failed, rename web.a=2 Failed, \
                 rename web.a=1-previous Current, start web.a=1-previous"],
        },
        Case {
            name: "without one before it is started again",
            desired: &["web.a=2"],
            observed: &[("web.a=2", EXITED)],
            images: &[],
            steps: &["web.a: start web.a=2"],
        },
    ];
    check(&cases, TRIAL);
}

#[test]
fn what_is_held_is_only_started_and_brought_back() {
    let cases: [(&[(&str, ContainerState)], &str); 4] = [
        (&[("web.a=1", Running)], "web.a: "),
        (&[("web.a=1", EXITED)], "web.a: start web.a=1"),
        (
            &[("web.a=1 previous", EXITED)],
            "web.a: rename web.a=1-previous Current, start web.a=1-previous",
        ),
        (
            &[
                ("web.a=2", Running),
                ("web.a=1 previous", EXITED),
                ("web.a=1 stray", EXITED),
            ],
            "web.a: ",
        ),
    ];
    let mut malformed = DesiredState::default();
    malformed.replace_all([("web".parse().unwrap(), &b"{"[..])]);
    for desired in [DesiredState::default(), malformed] {
        for (containers, steps) in cases {
            let world = world(&desired, containers, &[]);
            let mut history = History::default();
            let now = Instant::now();
            history.look(&world.containers, now);
            history.look(&world.containers, now + STEADY);
            let plan = plan(&desired, &world, &history, now + STEADY);
            assert_eq!(told(plan), [steps]);
        }
    }
}

#[test]
fn what_failed_waits_and_says_why() {
    let desired = desired(&["web.a=1"]);
    let world = world(&desired, &[("web.a=1", Created)], &[]);
    let mut history = History::default();
    let now = Instant::now();
    history.failed(&key("web.a"), "no such port".to_owned(), now);
    let verdict = plan(&desired, &world, &history, now)
        .remove(&key("web.a"))
        .unwrap();
    assert_eq!(verdict.steps, []);
    assert_eq!(
        verdict.finding,
        Some((Phase::Failed, "no such port".to_owned()))
    );
    let again = verdict.look_at.unwrap();
    assert!(again > now);
    let verdict = plan(&desired, &world, &history, again)
        .remove(&key("web.a"))
        .unwrap();
    assert_eq!(verdict.steps.len(), 1);
    assert_eq!(
        verdict.finding,
        Some((Phase::Failed, "no such port".to_owned()))
    );
}

#[test]
fn the_goal_is_the_service_and_not_the_deployment() {
    let goal = |services: &[&str]| super::goal(&desired(services), &key("web.a")).0;
    assert_eq!(goal(&["web.a=1"]), goal(&["web.a=1", "web.b=1"]));
    assert_ne!(goal(&["web.a=1"]), goal(&["web.a=2"]));
    assert_eq!(goal(&["web.b=1"]), Goal::Absent(Volumes::Anonymous));
    assert_eq!(
        super::goal(&DesiredState::default(), &key("web.a")).0,
        Goal::Hold
    );
}
