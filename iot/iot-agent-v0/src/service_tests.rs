//! What a container is made from, and what is remembered of it.

use iot_contracts::Restart;

use super::{Score, Service, Terms};
use crate::value;

fn services(score: &str) -> Vec<Service> {
    value::read(score.as_bytes()).unwrap().services().to_vec()
}

fn v0(service: &str) -> Service {
    let score = format!(r#"{{"type":"PodmanV0","data":{{"services":[{service}]}}}}"#);
    services(&score).remove(0)
}

fn v1(service: &str, volumes: &str) -> Service {
    let score = format!(
        r#"{{"type":"PodmanV1","data":{{"volumes":{{{volumes}}},"services":[{service}]}}}}"#
    );
    services(&score).remove(0)
}

#[test]
fn the_digest_of_the_first_version_is_of_the_whole_service_and_stable() {
    let digest = |json: &str| v0(json).digest;
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
fn the_digest_of_the_second_version_is_of_all_that_the_container_is_made_from() {
    let volumes = r#""v":{},"w":{}"#;
    let digest = |more: &str| v1(&format!(r#"{{"name":"a","image":"x"{more}}}"#), volumes).digest;
    let base = digest("");
    // sha256 of {"service":{"name":"a","image":"x"}}: a changed form would recreate every container.
    assert_eq!(
        base,
        "28fcef5ba711a1d8bb9784c0ccad8110baddc05175334a0632ed98e0880e5608"
    );
    let changes = [
        r#","command":["c"]"#,
        r#","env":{"A":"b"}"#,
        r#","ports":["1:1"]"#,
        r#","ports":["1:1/udp"]"#,
        r#","ports":["127.0.0.1:1:1"]"#,
        r#","volumes":[{"name":"v","path":"/v"}]"#,
        r#","volumes":[{"name":"w","path":"/v"}]"#,
        r#","volumes":[{"name":"v","path":"/w"}]"#,
        r#","volumes":[{"name":"v","path":"/v","read_only":true}]"#,
        r#","files":[{"path":"/f","content":"a"}]"#,
        r#","files":[{"path":"/f","content":"b"}]"#,
        r#","files":[{"path":"/g","content":"a"}]"#,
        r#","files":[{"path":"/f","content":"a","mode":"0400"}]"#,
        r#","files":[{"path":"/f","content":"a","uid":1}]"#,
        r#","files":[{"path":"/f","content":"a","gid":1}]"#,
        r#","secrets":[{"path":"/f","content":"a"}]"#,
        r#","devices":["/dev/a"]"#,
        r#","user":"1""#,
        r#","read_only":true"#,
        r#","capabilities":{"add":["NET_RAW"]}"#,
        r#","capabilities":{"drop":["NET_RAW"]}"#,
        r#","memory_mib":8"#,
        r#","cpu_millis":10"#,
        r#","pids":10"#,
        r#","log_max_mib":1"#,
        r#","restart":"never""#,
        r#","stop_timeout_seconds":1"#,
        r#","health":{"command":["c"]}"#,
        r#","health":{"command":["c"],"interval_seconds":1}"#,
        r#","health":{"command":["c"],"timeout_seconds":1}"#,
        r#","health":{"command":["c"],"retries":1}"#,
        r#","health":{"command":["c"],"start_period_seconds":1}"#,
    ];
    let mut digests: Vec<_> = changes.iter().map(|change| digest(change)).collect();
    let passing = r#""v":{"on_removal":"remove"}"#;
    let mounts = r#"{"name":"a","image":"x","volumes":[{"name":"v","path":"/v"}]}"#;
    digests.push(v1(mounts, passing).digest);
    digests.push(v0(r#"{"name":"a","image":"x"}"#).digest);
    digests.push(base.clone());
    let all = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all);
    // What changes no container.
    assert_eq!(
        digest(r#","registry_login":{"username":"u","password":"p"}"#),
        base
    );
    assert_eq!(
        digest(r#","restart":"always","stop_timeout_seconds":10,"ports":[]"#),
        base
    );
}

#[test]
fn the_terms_are_read_from_what_was_written_and_default_to_those_of_the_first_version() {
    assert_eq!(v0(r#"{"name":"a","image":"x"}"#).terms(), Terms::default());
    let service = r#"{"name":"a","image":"x","restart":"never","stop_timeout_seconds":0,
        "health":{"command":["c"]},"files":[{"path":"/f","content":"c"}],
        "volumes":[{"name":"v","path":"/v"},{"name":"w","path":"/w"}]}"#;
    let terms = v1(service, r#""v":{},"w":{"on_removal":"remove"}"#).terms();
    assert_eq!(terms.restart, Restart::Never);
    assert_eq!(terms.stop_seconds, 0);
    assert_eq!(terms.healthy_within_seconds, Some(210));
    assert_eq!(terms.files, 1);
    let written = serde_json::to_string(&terms).unwrap();
    let golden = concat!(
        r#"{"restart":"never","stop_seconds":0,"healthy_within_seconds":210,"files":1,"#,
        r#""volumes":["v"],"passing_volumes":["w"]}"#
    );
    assert_eq!(written, golden);
    assert_eq!(serde_json::from_str::<Terms>(&written).unwrap(), terms);
    // A newer agent's.
    let newer = serde_json::from_str::<Terms>(r#"{"new":1}"#).unwrap();
    assert_eq!(newer, Terms::default());
}

#[test]
fn what_is_kept_on_the_disk_is_read_by_both_agents_and_of_both_versions() {
    let old = r#"{"services":[{"name":"a","image":"x"}]}"#;
    let new = r#"{"type":"PodmanV1","data":{"services":[{"name":"a","image":"x"}]}}"#;
    for text in [old, new] {
        let score: Score = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&score).unwrap(), text);
        assert_eq!(score.services()[0].name().as_str(), "a");
    }
    assert!(serde_json::from_str::<Score>(r#"{"services":1}"#).is_err());
}

#[test]
fn nothing_secret_is_left_out() {
    let service = v1(
        r#"{"name":"a","image":"x","env":{"A":"env"},"registry_login":{"username":"u","password":"login"},
            "files":[{"path":"/f","content":"file\n"},{"path":"/g","base64":"/wA="},
            {"path":"/h","base64":"/3NvbWV0aGluZyBsb25n/3Nob3J0/w=="}],
            "secrets":[{"path":"/s","content":"secret"}]}"#,
        "",
    );
    let secrets: Vec<_> = service.secrets().collect();
    // Of a binary file, the long pieces of text.
    assert_eq!(
        secrets,
        ["env", "file", "something long", "secret", "login"]
    );
}
