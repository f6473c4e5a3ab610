//! The published JSON schemas, in `docs/schema/`: they are what the types say, and the types take what they take.

use std::path::PathBuf;

use boon::{Compiler, Schemas};
use schemars::{
    JsonSchema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{AgentConfig, AgentStatus, IotScore, SignedValue};

/// Set to write the files anew.
const UPDATE: &str = "HARMONY_UPDATE_GOLDEN";

/// The schema of a type, as it is published.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(plain_words));
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    schema.to_value()
}

/// A description is rustdoc's, with links that lead nowhere here.
fn plain_words(schema: &mut schemars::Schema) {
    let Some(Value::String(text)) = schema.get("description") else {
        return;
    };
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, after) = link.split_once("`]").unwrap_or((link, ""));
        plain += &format!("{before}`{name}`");
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').map_or("", |(_, after)| after),
            None => after,
        };
    }
    plain += rest;
    schema.insert("description".to_owned(), plain.into());
}

fn file(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema");
    PathBuf::from(root).join(format!("{name}.schema.json"))
}

fn check_file<T: JsonSchema>(name: &str) {
    let text = format!("{:#}\n", schema::<T>());
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(file(name), &text).unwrap();
    }
    let published = std::fs::read_to_string(file(name)).unwrap_or_default();
    assert!(
        published == text,
        "docs/schema/{name}.schema.json is not what the types say ({UPDATE}=1 cargo test -p iot-contracts)"
    );
}

#[test]
fn what_is_published_is_what_the_types_say() {
    check_file::<IotScore>("score");
    check_file::<SignedValue>("signed");
    check_file::<AgentStatus>("status");
    check_file::<AgentConfig>("agent-config");
}

/// The published schema of that name, and the type that it is of, judge alike.
struct Judge<T> {
    schemas: Schemas,
    index: boon::SchemaIndex,
    of: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Judge<T> {
    fn of(name: &str) -> Self {
        let text = std::fs::read_to_string(file(name)).unwrap();
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let url = format!("file:///{name}.json");
        compiler
            .add_resource(&url, serde_json::from_str(&text).unwrap())
            .unwrap();
        let index = compiler.compile(&url, &mut schemas).unwrap();
        Self {
            schemas,
            index,
            of: std::marker::PhantomData,
        }
    }

    fn takes(&self, sample: &Value) -> bool {
        let by_schema = self.schemas.validate(sample, self.index);
        let by_type = serde_json::from_value::<T>(sample.clone());
        assert_eq!(
            by_schema.is_ok(),
            by_type.is_ok(),
            "{sample}: {by_schema:?} {:?}",
            by_type.err()
        );
        by_type.is_ok()
    }

    /// `whole` is taken, and so is what each of `good` makes of it, and nothing that `bad` makes: a pointer and what
    /// stands there then.
    fn check(&self, whole: &str, good: &[(&str, &str)], bad: &[(&str, &str)]) {
        let whole: Value = serde_json::from_str(whole).unwrap();
        assert!(self.takes(&whole));
        for (changes, expected) in [(good, true), (bad, false)] {
            for (place, value) in changes {
                let mut sample = whole.clone();
                let (parent, name) = place.rsplit_once('/').unwrap();
                let parent = sample.pointer_mut(parent).unwrap().as_object_mut().unwrap();
                match *value {
                    "" => drop(parent.remove(name).unwrap()),
                    value => {
                        drop(parent.insert(name.to_owned(), serde_json::from_str(value).unwrap()))
                    }
                }
                assert_eq!(self.takes(&sample), expected, "{place} {value}");
            }
        }
    }
}

#[test]
fn scores_of_the_second_version() {
    let judge = Judge::<IotScore>::of("score");
    let whole = r#"{"type":"PodmanV1","data":{"volumes":{"data":{"on_removal":"remove"}},"services":[{"name":"front",
        "image":"host/a:b","registry_login":{"username":"u","password":"p"},"env":{"A":"b"},
        "ports":["127.0.0.1:8080:80","53:53/udp"],"volumes":[{"name":"data","path":"/data","read_only":true}],
        "files":[{"path":"/etc/a.conf","content":"x","mode":"0644"}],"secrets":[{"path":"/run/key","base64":"AAE="}],
        "devices":["/dev/gpiochip0"],"user":"1000:1000","read_only":true,"capabilities":{"add":["NET_ADMIN"]},
        "memory_mib":64,"cpu_millis":500,"pids":16,"log_max_mib":1,"restart":"on-failure","stop_timeout_seconds":5,
        "health":{"command":["/check"],"interval_seconds":5}}]}}"#;
    let service = "/data/services/0";
    let at = |field: &str| format!("{service}/{field}");
    let places: Vec<_> = [
        "memory_mib",
        "restart",
        "ports",
        "files",
        "health",
        "more",
        "image",
    ]
    .iter()
    .map(|field| at(field))
    .collect();
    judge.check(
        whole,
        &[
            (&places[0], ""),
            (&places[1], "\"never\""),
            (&places[2], "[]"),
        ],
        &[
            (&places[0], "7"),
            (&places[0], "1048577"),
            (&places[1], "\"sometimes\""),
            (&places[2], "[\"80\"]"),
            (&places[3], r#"[{"path":"etc","content":"x"}]"#),
            (&places[4], r#"{"command":[]}"#),
            (&places[5], "1"),
            (&places[6], ""),
        ],
    );
}

#[test]
fn scores() {
    let judge = Judge::<IotScore>::of("score");
    let whole = r#"{"type":"PodmanV0","data":{"services":[{"name":"front","image":"host:5000/a/b:c",
        "command":["a"],"env":{"A":"b"},"ports":["8080:80"]}]}}"#;
    let service = "/data/services";
    let one = |service: &str| format!("[{service}]");
    judge.check(
        whole,
        &[
            (service, "[]"),
            (service, &one(r#"{"name":"a","image":"x"}"#)),
        ],
        &[
            ("/type", "\"PodmanV9\""),
            ("/type", ""),
            ("/data", ""),
            ("/x", "1"),
            ("/data/x", "1"),
            (service, ""),
            (service, &one(r#"{"name":"a"}"#)),
            (service, &one(r#"{"name":"a","image":"x","x":1}"#)),
            (service, &one(r#"{"name":"A","image":"x"}"#)),
            (service, &one(r#"{"name":"a","image":"-x"}"#)),
            (service, &one(r#"{"name":"a","image":"x","ports":["80"]}"#)),
            (service, &one(r#"{"name":"a","image":"x","env":{"A":1}}"#)),
            (service, &one(r#"{"name":"a","image":"x","command":"c"}"#)),
        ],
    );
}

#[test]
fn signed_values() {
    let pair = nkeys::KeyPair::new_operator();
    let whole = format!(
        r#"{{"type":"Signed","data":{{"device_id":"pi-1","deployment":"web","counter":17,"score":"x",
        "key":"{}","signature":"{}=="}}}}"#,
        pair.public_key(),
        "A".repeat(86)
    );
    Judge::<SignedValue>::of("signed").check(
        &whole,
        &[("/data/score", ""), ("/data/counter", "0")],
        &[
            ("/data/counter", "-1"),
            ("/data/counter", "\"1\""),
            ("/data/counter", ""),
            ("/data/key", "\"ops\""),
            ("/data/signature", "\"AA==\""),
            ("/data/device_id", "\"a.b\""),
            ("/data/x", "1"),
            ("/type", "\"signed\""),
        ],
    );
}

#[test]
fn statuses() {
    let whole = r#"{"device_id":"pi-1","timestamp_unix_ms":1,"boot_id":"b","agent_version":"0","architecture":"x",
        "sequence":1,"operator_keys":1,"problems":["x"],"shortened":true,"deployments_left_out":7,
        "update":{"program":"b","last":{"revision":9,"phase":"Refused","detail":"why"}},"deployments":{"web":{"phase":"Running",
        "desired":{"revision":9,"digest":"sha256:0"},"ran":{"revision":9,"digest":"sha256:0","counter":7},
        "refused":{"revision":11,"reason":"counter-not-above","counter":1,"highest":7},"services":{"front":{
        "state":"Exited","image":"x","image_digest":"sha256:1","exit_code":-1,"restarts":2,"since_unix_s":3,
        "health":"Healthy"}}}}}"#;
    let web = "/deployments/web";
    Judge::<AgentStatus>::of("status").check(
        whole,
        &[
            ("/deployments", ""),
            ("/operator_keys", ""),
            // A newer agent may say more.
            ("/x", "1"),
            ("/deployments/web/x", "1"),
            ("/deployments/web/refused", ""),
            ("/update", ""),
            ("/update/last", ""),
            ("/update/last/detail", ""),
            (web, r#"{"phase":"Failed","detail":"why"}"#),
        ],
        &[
            ("/device_id", ""),
            ("/sequence", "-1"),
            ("/deployments_left_out", "-1"),
            ("/deployments/web/phase", "\"Happy\""),
            ("/deployments/web/desired", r#"{"revision":9}"#),
            (web, r#"{"phase":"Running","services":{"a":{"image":"x"}}}"#),
            ("/problems", "\"x\""),
            ("/update/last/revision", ""),
            ("/update/last/sha256", "\"ab\""),
        ],
    );
}

#[test]
fn configurations() {
    let key = nkeys::KeyPair::new_operator().public_key();
    let whole = format!(
        r#"{{"device_id":"pi-1","heartbeat_seconds":30,"nats":{{"urls":["tls://h","tls://[::1]:4222"],
        "credentials":{{"type":"token","token":"t"}},"tls":{{"ca":"/ca.pem"}}}},
        "podman":{{"socket":"/x.sock"}},"operator":{{"keys":["{key}"],"revoked":[]}},
        "update":{{"keys":["{key}"],"ca":"/releases.pem","prove_within_seconds":60}}}}"#
    );
    let digits = format!("[\"{}\"]", "ab".repeat(32));
    Judge::<AgentConfig>::of("agent-config").check(
        &whole,
        &[
            ("/heartbeat_seconds", ""),
            ("/operator", ""),
            ("/operator/revoked", ""),
            ("/podman", "{}"),
            ("/update", ""),
            ("/update/keys", "[]"),
            ("/update/ca", ""),
            ("/update/prove_within_seconds", ""),
        ],
        &[
            ("/x", "1"),
            ("/nats", ""),
            ("/nats/x", "1"),
            ("/heartbeat_seconds", "0"),
            ("/heartbeat_seconds", "3601"),
            ("/nats/urls", "[]"),
            ("/nats/urls", "[\"http://h\"]"),
            ("/nats/credentials", r#"{"type":"kerberos"}"#),
            ("/nats/credentials", r#"{"type":"token"}"#),
            ("/operator/keys", "[]"),
            ("/operator/keys", "[\"SOAB\"]"),
            ("/operator/x", "1"),
            ("/update/keys", "[\"SOAB\"]"),
            ("/update/keys", &digits),
            ("/update/prove_within_seconds", "4"),
            ("/update/x", "1"),
        ],
    );
}
