//! What device A tries.

use iot_contracts::{entry_subject, next_subject};

use super::scene::{Attack, Scene};

/// The bucket of what devices are to run.
pub(super) const STREAM: &str = "KV_desired-state";

/// What A wants to reach: a subject, and what it sends there.
pub(super) fn targets(scene: &Scene) -> Vec<(String, String)> {
    let (a, b) = (scene.key("a"), scene.key("b"));
    let api = |what: String, data: String| (format!("$JS.API.{what}"), data);
    let consumer = |name: &str, more: &str| {
        format!(
            r#"{{"stream_name":"{STREAM}","config":{{"name":"{name}","durable_name":"{name}","ack_policy":"none",{more}}}}}"#
        )
    };
    let wide = consumer(&a, r#""filter_subject":"$KV.desired-state.>""#);
    let pushing = consumer("x", r#""deliver_subject":"$KV.agent-status.status.b""#);
    let republishing = format!(
        r#"{{"name":"{STREAM}","subjects":["$KV.desired-state.>"],"republish":{{"src":">","dest":"_INBOX.{a}.>"}}}}"#
    );
    let forged = || "forged".to_owned();
    let none = String::new;
    vec![
        ("$KV.agent-status.status.b".to_owned(), forged()),
        ("$KV.agent-status.status.c".to_owned(), forged()),
        ("$KV.agent-status.status.a.x".to_owned(), forged()),
        ("$KV.agent-status.x".to_owned(), forged()),
        ("$KV.desired-state.b.web".to_owned(), forged()),
        ("$KV.desired-state.a.web".to_owned(), forged()),
        ("$KV.desired-state.a.new".to_owned(), forged()),
        (
            "$KV.desired-state._bucket".to_owned(),
            r#"{"id":"x"}"#.to_owned(),
        ),
        api(format!("STREAM.DELETE.{STREAM}"), none()),
        api("STREAM.DELETE.KV_agent-status".to_owned(), none()),
        api(format!("STREAM.PURGE.{STREAM}"), none()),
        api("STREAM.PURGE.KV_agent-status".to_owned(), none()),
        api(format!("STREAM.UPDATE.{STREAM}"), republishing),
        api(
            "STREAM.CREATE.M".to_owned(),
            format!(r#"{{"name":"M","mirror":{{"name":"{STREAM}"}}}}"#),
        ),
        api(
            "STREAM.CREATE.T".to_owned(),
            r#"{"name":"T","subjects":["t.>"]}"#.to_owned(),
        ),
        api(
            format!("STREAM.MSG.DELETE.{STREAM}"),
            r#"{"seq":1}"#.to_owned(),
        ),
        api(
            format!("STREAM.MSG.GET.{STREAM}"),
            r#"{"last_by_subj":"$KV.desired-state.b.web"}"#.to_owned(),
        ),
        api(
            format!("STREAM.INFO.{STREAM}"),
            r#"{"subjects_filter":">"}"#.to_owned(),
        ),
        api("STREAM.NAMES".to_owned(), none()),
        api(
            format!("STREAM.SNAPSHOT.{STREAM}"),
            format!(r#"{{"deliver_subject":"_INBOX.{a}.s"}}"#),
        ),
        api(format!("CONSUMER.NAMES.{STREAM}"), none()),
        api(format!("CONSUMER.INFO.{STREAM}.{b}"), none()),
        api(format!("CONSUMER.DELETE.{STREAM}.{b}"), none()),
        api(
            format!("CONSUMER.MSG.NEXT.{STREAM}.{b}"),
            r#"{"batch":9,"no_wait":true}"#.to_owned(),
        ),
        api(
            format!("CONSUMER.CREATE.{STREAM}.x.$KV.desired-state.b.>"),
            consumer("x", r#""filter_subject":"$KV.desired-state.b.>""#),
        ),
        api(
            format!("CONSUMER.CREATE.{STREAM}.{a}.$KV.desired-state.a.>"),
            wide.clone(),
        ),
        api(format!("CONSUMER.CREATE.{STREAM}.{a}"), wide.clone()),
        api(format!("CONSUMER.CREATE.{STREAM}"), pushing.clone()),
        api(format!("CONSUMER.DURABLE.CREATE.{STREAM}.{a}"), wide),
        api(format!("CONSUMER.DURABLE.CREATE.{STREAM}.x"), pushing),
        api(
            format!("DIRECT.GET.{STREAM}"),
            r#"{"last_by_subj":"$KV.desired-state.b.web"}"#.to_owned(),
        ),
        api(
            format!("DIRECT.GET.{STREAM}.$KV.desired-state.b.web"),
            none(),
        ),
        api(
            format!("DIRECT.GET.{STREAM}.$KV.desired-state.*.web"),
            none(),
        ),
        api(format!("DIRECT.GET.{STREAM}.$KV.desired-state.>"), none()),
        api(
            "DIRECT.GET.KV_agent-status.$KV.agent-status.status.b".to_owned(),
            none(),
        ),
        api("INFO".to_owned(), none()),
        (
            format!("$JS.ACK.{STREAM}.{b}.1.1.1.1.1"),
            "+TERM".to_owned(),
        ),
        (
            format!("$JS.ACK.{STREAM}.{a}.1.1.1.1.1"),
            "+TERM".to_owned(),
        ),
        (format!("$JS.FC.{STREAM}.{b}.x"), none()),
        ("$JS.EVENT.ADVISORY.API".to_owned(), "{}".to_owned()),
        ("$SYS.REQ.SERVER.PING".to_owned(), none()),
        ("$SYS.REQ.ACCOUNT.PING.CONNZ".to_owned(), none()),
        ("$SYS.ACCOUNT.IOT.CONNECT".to_owned(), "{}".to_owned()),
        ("_R_.abc.x".to_owned(), none()),
    ]
}

/// What A may ask for, to which the server answers wherever it is told to.
pub(super) fn permitted(scene: &Scene) -> [(String, String); 5] {
    let next = next_subject(&scene.key("a"));
    [
        (entry_subject("a.web"), String::new()),
        (entry_subject("a.none"), String::new()),
        (entry_subject("_bucket"), String::new()),
        ("$KV.agent-status.status.a".to_owned(), "forged".to_owned()),
        (next, r#"{"batch":3,"no_wait":true}"#.to_owned()),
    ]
}

/// Payloads and headers that mean more than the subject, on subjects that A may use.
pub(super) fn payloads(scene: &Scene) -> Vec<Attack> {
    let key = scene.key("a");
    let mut attacks = Vec::new();
    for data in [
        r#"{"seq":3}"#,
        r#"{"last_by_subj":"$KV.desired-state.b.web"}"#,
        r#"{"next_by_subj":"$KV.desired-state.b.>","seq":1}"#,
        r#"{"multi_last":["$KV.desired-state.b.>"]}"#,
        r#"{"batch":10,"seq":1}"#,
    ] {
        for subject in [
            entry_subject("a.web"),
            entry_subject("a.>"),
            entry_subject("_bucket"),
        ] {
            attacks.push(Attack {
                subject: Some(subject),
                data: data.to_owned(),
                ..Attack::default()
            });
        }
    }
    let b = scene.key("b");
    for header in [
        ("Nats-Rollup", "all".to_owned()),
        ("Nats-Rollup", "sub".to_owned()),
        ("Nats-TTL", "1s".to_owned()),
        (
            "Nats-Schedule-Target",
            "$KV.agent-status.status.b".to_owned(),
        ),
        ("Nats-Batch-Id", "b".to_owned()),
        (
            "Nats-Request-Info",
            r#"{"acc":"SYS","svc":"SYS"}"#.to_owned(),
        ),
        ("Nats-Expected-Stream", STREAM.to_owned()),
    ] {
        let mut headers = vec![header];
        match headers[0].0 {
            "Nats-Schedule-Target" => {
                headers.push(("Nats-Schedule", "@at 2020-01-01T00:00:00Z".to_owned()))
            }
            "Nats-Batch-Id" => {
                headers.push(("Nats-Batch-Sequence", "1".to_owned()));
                headers.push(("Nats-Batch-Commit", "1".to_owned()));
            }
            _ => {}
        }
        attacks.push(Attack {
            subject: Some("$KV.agent-status.status.a".to_owned()),
            headers,
            data: "forged".to_owned(),
            ..Attack::default()
        });
    }
    for data in [
        r#"{"batch":1000000000,"expires":1}"#.to_owned(),
        format!(r#"{{"batch":1,"no_wait":true,"group":"{b}","id":"{b}"}}"#),
        "+NXT".to_owned(),
    ] {
        attacks.push(Attack {
            subject: Some(next_subject(&key)),
            data,
            ..Attack::default()
        });
    }
    attacks
}

/// Messages whose way the server is to report to a subject that A may not publish to.
pub(super) fn traces(scene: &Scene) -> Vec<Attack> {
    let destinations = [
        "$KV.agent-status.status.b".to_owned(),
        "$KV.agent-status._bucket".to_owned(),
        "$KV.desired-state.b.web".to_owned(),
        format!("$JS.API.STREAM.DELETE.{STREAM}"),
        format!("_INBOX.{}.x", scene.key("b")),
    ];
    let attacks = destinations.into_iter().map(|destination| Attack {
        subject: Some("$KV.agent-status.status.a".to_owned()),
        headers: vec![("Nats-Trace-Dest", destination)],
        data: "forged".to_owned(),
        ..Attack::default()
    });
    attacks.collect()
}

/// What A would like to listen to.
pub(super) fn ears(scene: &Scene) -> Vec<Attack> {
    let b = scene.key("b");
    let subjects = [
        ">".to_owned(),
        "*.*.*.*".to_owned(),
        "$KV.>".to_owned(),
        "$KV.agent-status.status.b".to_owned(),
        "$KV.agent-status.status.a".to_owned(),
        "_INBOX.>".to_owned(),
        "_INBOX.*.>".to_owned(),
        format!("_INBOX.{b}.>"),
        format!("_INBOX.{b}.own"),
        "$JS.>".to_owned(),
        "$JS.EVENT.>".to_owned(),
        "$JS.ACK.>".to_owned(),
        "$SYS.>".to_owned(),
        "_R_.>".to_owned(),
        "$KV.> q".to_owned(),
    ];
    let subjects = subjects.into_iter().map(|subject| Attack {
        subscribe: Some(subject),
        ..Attack::default()
    });
    subjects.collect()
}

/// Replies that match many subjects. An old server ends by one of them.
pub(super) const WILD: [&str; 6] = ["foo.>", "foo.*", ">", "*", "$KV.>", "_INBOX.>"];

pub(super) fn sends(subject: &str, data: &str, reply: Option<&str>) -> Attack {
    Attack {
        subject: Some(subject.to_owned()),
        data: data.to_owned(),
        reply: reply.map(str::to_owned),
        ..Attack::default()
    }
}
