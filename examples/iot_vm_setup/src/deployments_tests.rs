use std::time::Duration;

use harmony::domain::error::ErrorKind;
use harmony::modules::iot::platform::PlatformError;
use iot_contracts::{AgentStatus, DesiredVersion};
use serde_json::{Value, json};

use super::{DeployArg, Heard, reason, with_reason};

#[test]
fn a_deployment_is_a_name_and_a_file() {
    let arg: DeployArg = "web=a=b.json".parse().expect("valid");
    assert_eq!(arg.name.as_str(), "web");
    assert_eq!(arg.file.to_str(), Some("a=b.json"));
    for (text, part) in [
        ("web", "expected NAME=FILE"),
        ("W=f", "deployment name 'W'"),
    ] {
        let error = text.parse::<DeployArg>().expect_err(text);
        assert!(error.contains(part), "{error}");
    }
}

/// A report of a device with these deployments.
fn report(deployments: Value) -> AgentStatus {
    serde_json::from_value(json!({
        "device_id": "pi-1", "timestamp_unix_ms": 1, "boot_id": "b", "agent_version": "0.1.0",
        "architecture": "aarch64", "sequence": 1, "deployments": deployments,
    }))
    .expect("a report")
}

#[test]
fn a_reason_is_that_of_the_value_that_was_put() {
    let of = |digest: &str, detail: Value| json!({ "web": { "phase": "Failed", "detail": detail, "desired": { "revision": 7, "digest": digest } } });
    let version = DesiredVersion {
        revision: 7,
        digest: "b".to_owned(),
        counter: None,
    };
    let name = "web".parse().expect("valid");
    let of_it = |deployments| reason(&report(deployments), &name, Some(&version));
    let pull = "cannot pull registry/web:1: no such host";
    let told = format!("Failed: {pull}");
    assert_eq!(of_it(of("b", json!(pull))), Some(told.clone()));
    assert_eq!(of_it(of("a", json!(pull))), None, "of the value before");
    assert_eq!(of_it(of("b", Value::Null)), None);
    assert_eq!(
        of_it(json!({ "web": { "phase": "Failed", "detail": pull } })),
        None
    );
    assert_eq!(
        of_it(json!({ "other": { "phase": "Failed", "detail": pull } })),
        None
    );
    // What is to go away is none of a version.
    let of_any = reason(&report(of("a", json!(pull))), &name, None);
    assert_eq!(of_any, Some(told));
}

#[test]
fn a_reason_is_news_once_until_another_comes() {
    let heard = Heard::default();
    let news = ["a", "a", "-", "a", "b", "b", "a"].map(|reason| {
        let reason = Some(reason.to_owned()).filter(|reason| reason != "-");
        heard.news(reason)
    });
    let told: Vec<_> = news.iter().flatten().map(String::as_str).collect();
    assert_eq!(told, ["a", "b", "a"]);
    assert_eq!(
        news.map(|news| news.is_some()),
        [true, false, false, false, true, false, true]
    );
}

#[test]
fn what_takes_too_long_is_said_with_the_last_reason() {
    let late = || PlatformError::TimedOut {
        device_id: "pi-1".parse().expect("valid"),
        awaited: "deployment web".to_owned(),
        bound: Duration::from_secs(1800),
        last_seen: "{…}".to_owned(),
    };
    let error = |error: PlatformError, reasons: &[&str]| {
        let heard = Heard::default();
        for reason in reasons {
            heard.news(Some((*reason).to_owned()));
        }
        let error = with_reason(error, heard);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        error.to_string()
    };
    assert_eq!(
        error(late(), &["Pending: x", "Failed: no such host"]),
        "deployment web of device pi-1 did not come within 1800 s; the device says: Failed: no such host"
    );
    let text = error(late(), &[]);
    assert!(text.contains("last seen: {…}"), "{text}");
}
