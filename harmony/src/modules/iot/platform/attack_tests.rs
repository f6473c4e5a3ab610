//! Device A tries everything against device B and the platform, on a real server. It knows the id and the public key of
//! B, which it is not told.
//!
//! Each is run against the `nats-server` on PATH, or the one that HARMONY_TEST_NATS_SERVER names.

mod attacks;
mod layouts;
mod raw;
mod reload;
mod scene;
mod server;
mod tls;

use iot_contracts::{ServerFlaw, entry_subject, next_subject};

use attacks::{STREAM, WILD, ears, payloads, permitted, sends, targets, traces};
use layouts::{Layout, id};
use raw::{Raw, Said};
use scene::{Attack, Scene};

async fn nothing_comes_of(scene: &mut Scene, attack: &Attack) {
    let harms = scene.harm(attack).await;
    assert!(harms.is_empty(), "{attack:?}: {harms:?}");
}

/// All of it, and how many. A server that does not keep devices apart is spared what it cannot stand, of which there is
/// a test of its own: a reply subject with a wildcard, or a header for tracing. All else comes to nothing there, too.
async fn everything(scene: &mut Scene) -> usize {
    let flaw = ServerFlaw::of(&scene.version);
    let mut count = 0;
    for (target, data) in targets(scene) {
        nothing_comes_of(scene, &sends(&target, &data, None)).await;
        if flaw != Some(ServerFlaw::Old) || !target.contains(['*', '>']) {
            for (subject, data) in permitted(scene) {
                nothing_comes_of(scene, &sends(&subject, &data, Some(&target))).await;
            }
        }
        count += 1;
    }
    let mut others = payloads(scene);
    if flaw != Some(ServerFlaw::Tracing) {
        others.extend(traces(scene));
    }
    for attack in others.into_iter().chain(ears(scene)) {
        nothing_comes_of(scene, &attack).await;
        count += 1;
    }
    count
}

/// What A is there for still works.
async fn a_does_its_own(scene: &mut Scene) {
    let inbox = format!("_INBOX.{}.own", scene.key("a"));
    for (subject, data) in permitted(scene) {
        if subject.ends_with("a.none") {
            continue;
        }
        scene.a.publish(&subject, &inbox, &[], &data).await;
        let mut said = scene.a.flush().await.expect("connected");
        for _ in 0..100 {
            if !said.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            said = scene.a.flush().await.expect("connected");
        }
        // One answers, and only one: nobody says that there is no JetStream.
        tokio::time::sleep(server::SETTLE).await;
        said.extend(scene.a.flush().await.expect("connected"));
        let refused = |text: &str| text.starts_with("NATS/1.0 503") || text.contains("\"error\"");
        let answered = |said: &Said| matches!(said, Said::Message { text, .. } if !refused(text));
        assert!(said.iter().all(answered), "{subject}: {said:?}");
        assert!(!said.is_empty(), "{subject}");
    }
}

async fn no_harm(layout: Layout) {
    let mut scene = Scene::new(layout).await;
    a_does_its_own(&mut scene).await;
    let count = everything(&mut scene).await;
    assert!(count >= 60, "{count}");
    a_does_its_own(&mut scene).await;
    assert!(scene.is_well().await);
}

#[tokio::test]
#[ignore = "needs nats-server: one device tries everything against another, each also by the reply subject"]
async fn a_device_reaches_nothing_but_its_own() {
    no_harm(Layout::Accounts).await;
}

#[tokio::test]
#[ignore = "needs nats-server: the same, where a signing key of an account made the devices' tokens"]
async fn a_device_with_a_token_reaches_nothing_but_its_own() {
    no_harm(Layout::Tokens).await;
}

#[tokio::test]
#[ignore = "needs nats-server: asks for answers to subjects with wildcards, by which one before 2.10 ends"]
async fn a_server_survives_wildcards_where_an_answer_goes_unless_it_is_old() {
    let mut scene = Scene::new(Layout::Accounts).await;
    for wild in WILD {
        for (subject, data) in permitted(&scene) {
            let harms = scene.harm(&sends(&subject, &data, Some(wild))).await;
            let is_well = scene.is_well().await;
            let is_old = ServerFlaw::of(&scene.version) == Some(ServerFlaw::Old);
            if !is_well && is_old {
                return;
            }
            let version = &scene.version;
            assert!(
                is_well && harms.is_empty(),
                "{version}: {subject} {wild}: {harms:?}"
            );
        }
    }
    let version = &scene.version;
    assert_ne!(
        ServerFlaw::of(version),
        Some(ServerFlaw::Old),
        "{version} survives"
    );
}

#[tokio::test]
#[ignore = "needs nats-server: has messages traced to subjects that a device may not publish to"]
async fn a_trace_goes_where_the_device_may_publish_unless_the_server_is_flawed() {
    let mut scene = Scene::new(Layout::Accounts).await;
    let flaw = ServerFlaw::of(&scene.version);
    let mut all = Vec::new();
    for attack in traces(&scene) {
        all.extend(scene.harm(&attack).await);
    }
    let (version, is_flawed) = (&scene.version, flaw == Some(ServerFlaw::Tracing));
    assert_eq!(!all.is_empty(), is_flawed, "{version}: {all:?}");
    // Even so it reaches nothing of the platform's but another's report, and an inbox whose name it knows.
    let known = ["$KV.agent-status.status.b is now", "B gets"];
    let reaches = |harm: &String| !known.iter().any(|known| harm.starts_with(known));
    assert!(!all.iter().any(reaches), "{version}: {all:?}");
}

/// What A may not do it would do: each kind of attack has been seen to succeed.
#[tokio::test]
#[ignore = "needs nats-server: permits too much, so that attacks succeed"]
async fn each_kind_of_attack_succeeds_where_it_is_permitted() {
    let get = entry_subject("a.web");
    let none = entry_subject("a.none");
    let delete = format!("$JS.API.STREAM.DELETE.{STREAM}");
    // By the reply subject alone, with exactly the permissions that a device has.
    for (attack, harm) in [
        (
            sends(&get, "", Some("$KV.agent-status.status.b")),
            "status.b is now",
        ),
        (
            sends(&get, "", Some("$KV.desired-state.b.web")),
            "desired-state.b.web is now",
        ),
        (sends(&none, "", Some(&delete)), "is gone"),
    ] {
        succeeds(Layout::OneAccount, attack, harm).await;
    }
    let mut scene = Scene::new(Layout::OneAccount).await;
    let next = next_subject(&scene.key("a"));
    let data = r#"{"batch":1,"no_wait":true}"#;
    let attack = sends(&next, data, Some("$KV.agent-status.status.b"));
    let harms = scene.harm(&attack).await;
    assert!(!harms.is_empty(), "MSG.NEXT's answer: {harms:?}");

    let of_b = r#"{"last_by_subj":"$KV.desired-state.b.web"}"#;
    let reads = |subject: &str, data: &str| sends(&format!("$JS.API.{subject}"), data, None);
    for (attack, harm) in [
        (
            sends("$KV.agent-status.status.b", "forged", None),
            "status.b is now",
        ),
        (
            sends("$KV.desired-state._bucket", "{}", None),
            "_bucket is now",
        ),
        (sends(&delete, "", None), "is gone"),
        (
            reads("STREAM.CREATE.T", r#"{"name":"T","subjects":["t.>"]}"#),
            "T is now",
        ),
        (reads(&format!("STREAM.MSG.GET.{STREAM}"), of_b), "A reads"),
        (reads(&format!("DIRECT.GET.{STREAM}"), of_b), "A reads"),
        (
            reads(&format!("DIRECT.GET.{STREAM}.$KV.desired-state.b.web"), ""),
            "A reads",
        ),
        (
            Attack {
                subscribe: Some(">".to_owned()),
                ..Attack::default()
            },
            "A reads",
        ),
    ] {
        succeeds(Layout::Everything, attack, harm).await;
    }
    let mut scene = Scene::new(Layout::Everything).await;
    let (a, b) = (scene.key("a"), scene.key("b"));
    let steal = sends(&next_subject(&b), r#"{"batch":9,"no_wait":true}"#, None);
    let harms = scene.harm(&steal).await;
    assert!(
        harms.iter().any(|harm| harm.contains("consumer")),
        "{harms:?}"
    );
    let to_b = sends(&get, "", Some(&format!("_INBOX.{b}.x")));
    let harms = scene.harm(&to_b).await;
    assert!(
        harms.iter().any(|harm| harm.starts_with("B gets")),
        "{harms:?}"
    );
    let wide = format!(
        r#"{{"stream_name":"{STREAM}","config":{{"name":"x","filter_subject":"$KV.desired-state.b.>","deliver_subject":"_INBOX.{a}.d","ack_policy":"none"}}}}"#
    );
    // It pushes to those only who subscribe to just that subject.
    scene.a.subscribe(&format!("_INBOX.{a}.d")).await;
    let create = format!("$JS.API.CONSUMER.CREATE.{STREAM}.x.$KV.desired-state.b.>");
    let harms = scene.harm(&sends(&create, &wide, None)).await;
    assert!(
        harms.iter().any(|harm| harm.starts_with("A reads")),
        "{harms:?}"
    );
    let forget = format!("$JS.API.CONSUMER.DELETE.{STREAM}.{b}");
    let harms = scene.harm(&sends(&forget, "", None)).await;
    assert!(
        harms.iter().any(|harm| harm.ends_with("is gone")),
        "{harms:?}"
    );
}

async fn succeeds(layout: Layout, attack: Attack, expected: &str) {
    let mut scene = Scene::new(layout).await;
    let harms = scene.harm(&attack).await;
    assert!(
        harms.iter().any(|harm| harm.contains(expected)),
        "{attack:?}: {harms:?}"
    );
}

#[tokio::test]
#[ignore = "needs nats-server: connects with tokens that nobody should have"]
async fn only_the_signing_key_says_who_a_device_is() {
    let scene = Scene::new(Layout::Tokens).await;
    for token in ["wide", "by itself", "of b"] {
        let token_text = Some(scene.tokens[token].as_str());
        let refused = Raw::connect(scene.port, &scene.keys["a"], token_text).await;
        let error = refused.map(drop).expect_err(token);
        assert!(
            error.contains("Authorization Violation"),
            "{token}: {error}"
        );
    }
    // The server puts any name in the subjects: an issuer signs for device ids, which have no wildcard.
    let token = Some(scene.tokens["named *"].as_str());
    let mut raw = Raw::connect(scene.port, &scene.keys["a"], token)
        .await
        .expect("signed");
    raw.publish("$KV.agent-status.status.*", "", &[], "x").await;
    let said = raw.flush().await.expect("connected");
    assert!(said.is_empty(), "{said:?}");
    assert!("*".parse::<iot_contracts::DeviceId>().is_err());
    assert_eq!(id("b").as_str(), "b");
}
