//! What is planned, case by case.

use super::{Action, ContainerKey, ContainerState, ObservedContainer, plan, service_digest};
use crate::desired::{DesiredState, Target};
use crate::plan::ContainerState::{Busy, Created, Exited, Paused, Running};

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

/// A container made from `deployment.service=tag`.
fn observed(text: &str, state: ContainerState) -> ObservedContainer {
    let key = key(text.split_once('=').unwrap().0);
    let made_from = desired(&[text]);
    let Target::Services([service]) = made_from.target(&key.deployment) else {
        panic!("{text}");
    };
    ObservedContainer {
        id: format!("id-of-{text}"),
        digest: service_digest(service),
        key,
        state,
    }
}

fn told(desired: &DesiredState, observed: &[ObservedContainer]) -> Vec<String> {
    let tell = |step: super::Step| match step.action {
        Action::Remove { id } => format!("remove {id}"),
        Action::EnsureImage { image } => format!("image {image}"),
        Action::Create(spec) => format!("create {} {}", spec.key, spec.service.image),
        Action::Start { id } => format!("start {id}"),
    };
    plan(desired, observed).into_iter().map(tell).collect()
}

#[test]
fn steps() {
    struct Case {
        name: &'static str,
        desired: &'static [&'static str],
        observed: &'static [(&'static str, ContainerState)],
        steps: &'static [&'static str],
    }
    let cases = [
        Case {
            name: "nothing to do",
            desired: &["web.a=1"],
            observed: &[("web.a=1", Running)],
            steps: &[],
        },
        Case {
            name: "new",
            desired: &["web.a=1"],
            observed: &[],
            steps: &["image host/x:1", "create web.a host/x:1"],
        },
        Case {
            name: "stopped containers start again",
            desired: &["web.a=1", "web.b=1"],
            observed: &[("web.a=1", Exited { code: 3 }), ("web.b=1", Created)],
            steps: &["start id-of-web.a=1", "start id-of-web.b=1"],
        },
        Case {
            name: "paused and busy ones are left",
            desired: &["web.a=1", "web.b=1"],
            observed: &[("web.a=1", Paused), ("web.b=1", Busy)],
            steps: &[],
        },
        Case {
            name: "a change pulls before it removes",
            desired: &["web.a=2"],
            observed: &[("web.a=1", Running)],
            steps: &[
                "image host/x:2",
                "remove id-of-web.a=1",
                "create web.a host/x:2",
            ],
        },
        Case {
            name: "what is not desired goes first, removals before additions",
            desired: &["new.a=1", "web.a=2"],
            observed: &[
                ("old.a=1", Running),
                ("web.a=1", Running),
                ("web.b=1", Running),
            ],
            steps: &[
                "remove id-of-old.a=1",
                "remove id-of-web.b=1",
                "image host/x:1",
                "image host/x:2",
                "remove id-of-web.a=1",
                "create new.a host/x:1",
                "create web.a host/x:2",
            ],
        },
        Case {
            name: "a second container of a service goes",
            desired: &["web.a=1"],
            observed: &[("web.a=1", Running), ("web.a=1", Exited { code: 0 })],
            steps: &["remove id-of-web.a=1"],
        },
    ];
    for case in cases {
        let there: Vec<_> = case
            .observed
            .iter()
            .map(|(text, state)| observed(text, *state))
            .collect();
        assert_eq!(
            told(&desired(case.desired), &there),
            case.steps,
            "{}",
            case.name
        );
    }
}

#[test]
fn what_is_held_is_only_started() {
    let there = [
        observed("web.a=1", Running),
        observed("web.b=1", Exited { code: 1 }),
    ];
    let mut malformed = DesiredState::default();
    malformed.replace_all([("web".parse().unwrap(), &b"{"[..])]);
    for desired in [DesiredState::default(), malformed] {
        assert_eq!(told(&desired, &there), ["start id-of-web.b=1"]);
    }
}

#[test]
fn the_digest_is_of_the_whole_service_and_stable() {
    let digest = |json: &str| service_digest(&serde_json::from_str(json).unwrap());
    let base = digest(r#"{"name":"a","image":"x"}"#);
    // sha256 of {"name":"a","image":"x"}: a changed form would recreate every container.
    assert_eq!(
        base,
        "e91210eac3f48b7f08471363df8c62940430bc67197425b51af035e699a56d0f"
    );
    for json in [
        r#"{"name":"b","image":"x"}"#,
        r#"{"name":"a","image":"y"}"#,
        r#"{"name":"a","image":"x","command":["c"]}"#,
        r#"{"name":"a","image":"x","env":{"A":"b"}}"#,
        r#"{"name":"a","image":"x","ports":["1:1"]}"#,
    ] {
        assert_ne!(digest(json), base, "{json}");
    }
    assert_eq!(
        digest(r#"{"image":"x","name":"a","command":[],"env":{}}"#),
        base
    );
}

#[test]
fn container_names_do_not_collide() {
    assert_eq!(key("a-b.c").container_name(), "harmony.a-b.c");
    assert_ne!(key("a-b.c").container_name(), key("a.b-c").container_name());
}
