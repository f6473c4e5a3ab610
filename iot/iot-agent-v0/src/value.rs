//! Reads the value of a key. What is wrong with one is told by place and kind, and never by what is there: it may be a
//! secret in the wrong place.

use iot_contracts::{KvBucket, SignedOrder, SignedValue};
use serde::Deserialize;
use serde_json::error::Category;

use crate::service::Score;
use crate::unquoted;

/// The names that a score may have, which a path may therefore show. All others are the value's own.
const FIELDS: [&str; 38] = [
    "type",
    "data",
    "services",
    "name",
    "image",
    "command",
    "env",
    "ports",
    // Of the second version.
    "registry_login",
    "username",
    "password",
    "volumes",
    "on_removal",
    "path",
    "read_only",
    "files",
    "secrets",
    "content",
    "base64",
    "mode",
    "uid",
    "gid",
    "devices",
    "user",
    "capabilities",
    "add",
    "drop",
    "memory_mib",
    "cpu_millis",
    "pids",
    "log_max_mib",
    "restart",
    "stop_timeout_seconds",
    "health",
    "interval_seconds",
    "timeout_seconds",
    "retries",
    "start_period_seconds",
];

/// What a value looks like.
#[derive(Debug)]
pub enum Kind {
    /// It does not say that it is signed.
    Plain,
    /// It is signed; by whom, and for what, is not looked at.
    Signed(Box<SignedOrder>),
    /// It says that it is signed, and is not what a signed value is.
    Broken,
    /// It is no JSON, or too long to be looked at.
    NoJson,
}

/// What `value` looks like.
pub fn kind(value: &[u8]) -> Kind {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "type")]
        kind: String,
    }
    if is_too_long(value) {
        return Kind::NoJson;
    }
    match serde_json::from_slice::<Probe>(value) {
        Ok(probe) if probe.kind == "Signed" => match serde_json::from_slice(value) {
            Ok(SignedValue::Signed(order)) => Kind::Signed(Box::new(order)),
            Err(_) => Kind::Broken,
        },
        Err(error) if error.classify() != Category::Data => Kind::NoJson,
        _ => Kind::Plain,
    }
}

fn is_too_long(value: &[u8]) -> bool {
    let most = usize::try_from(KvBucket::DESIRED_STATE.max_value_bytes);
    most.is_ok_and(|most| value.len() > most)
}

/// The score that a value is, or what is wrong with it.
///
/// # Errors
///
/// Why it is none, in words that quote nothing of it.
pub fn read(value: &[u8]) -> Result<Score, String> {
    let most = KvBucket::DESIRED_STATE.max_value_bytes;
    if is_too_long(value) {
        let bytes = value.len();
        return Err(format!("it has {bytes} bytes (expected at most {most})"));
    }
    let mut json = serde_json::Deserializer::from_slice(value);
    let score = serde_path_to_error::deserialize(&mut json);
    let score = score.map_err(|error| {
        let (path, kind) = (
            unquoted::path(error.path(), &FIELDS),
            kind_of(error.inner()),
        );
        // An error of syntax has its line and column.
        if error.inner().classify() != Category::Data || path.is_empty() {
            return kind;
        }
        format!("{path}: {kind}")
    })?;
    json.end().map_err(|error| kind_of(&error))?;
    Ok(Score::new(score))
}

/// What kind of error it is. Errors of syntax have fixed texts; of the others only what was expected is passed on.
fn kind_of(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let at = format!(" at line {} column {}", error.line(), error.column());
    if error.classify() != Category::Data {
        return message;
    }
    unquoted::kind(message.strip_suffix(&at).unwrap_or(&message))
}

#[cfg(test)]
mod tests {
    use super::read;

    fn with(service: &str) -> String {
        format!(r#"{{"type":"PodmanV0","data":{{"services":[{service}]}}}}"#)
    }

    fn with_v1(service: &str) -> String {
        with(service).replace("PodmanV0", "PodmanV1")
    }

    #[test]
    fn what_is_wrong_is_told_by_place_and_kind() {
        let cases = [
            (
                "{".to_owned(),
                "EOF while parsing an object at line 1 column 1",
            ),
            (
                r#"{"type":"PodmanV9"}"#.to_owned(),
                "type: unknown variant, expected `PodmanV0` or `PodmanV1`",
            ),
            (
                with(r#"{"name":"a"}"#),
                "data.services[0]: missing field `image`",
            ),
            (
                with(r#"{"name":"a","image":"i","env":"A=s3cr3t"}"#),
                "data.services[0].env: invalid type, expected a map",
            ),
            (
                with(r#"{"name":"a","image":"i","env":{"A=s3cr3t":"x"}}"#),
                "data.services[0].env.?: not valid (expected a name without '=' and NUL)",
            ),
            (
                with(r#"{"name":"a","image":"s3cr3t, expected x"}"#),
                "data.services[0].image: not valid (expected 1 to 512 of a-z, A-Z, 0-9 and '._-/:@')",
            ),
            (
                with_v1(r#"{"name":"a","image":"i","memory_mib":1}"#),
                "data.services[0].memory_mib: not valid (expected 8 to 1048576)",
            ),
            (
                with_v1(r#"{"name":"a","image":"i","secrets":[{"path":"/x","base64":"s3cr3t!"}]}"#),
                "data.services[0].secrets[0]: not valid (expected text in 'content' or base64 in 'base64')",
            ),
            (
                with_v1(
                    r#"{"name":"a","image":"i","health":{"command":["c"],"retries":"s3cr3t"}}"#,
                ),
                "data.services[0].health.retries: invalid type, expected i64",
            ),
            (
                with_v1(r#"{"name":"a","image":"i","restart":"s3cr3t"}"#),
                "data.services[0].restart: unknown variant, expected one of `always`, `on-failure`, `never`",
            ),
            (
                with_v1(r#"{"name":"a","image":"i","volumes":[{"name":"v","path":"/s3cr3t"}]}"#),
                "data: not valid (expected each volume that is mounted in 'volumes' of the deployment)",
            ),
            (
                format!("{} s3cr3t", with("")),
                "trailing characters at line 1 column 44",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value.as_bytes()).unwrap_err(), expected, "{value}");
        }
    }

    #[test]
    fn no_part_of_a_value_is_quoted() {
        let secret = "s3cr3t";
        let anywhere = [
            r#""s3cr3t""#,
            r#"{"type":"s3cr3t"}"#,
            r#"{"type":"PodmanV0","data":"s3cr3t"}"#,
            r#"{"type":"PodmanV0","data":{"s3cr3t":1}}"#,
            r#"{"type":"PodmanV0","data":{"services":[]},"s3cr3t":1}"#,
            r#"{"s3cr3t":1}"#,
            r#"{"data":{"services":[{"name":"a","image":"i","env":"s3cr3t"}]},"type":"PodmanV0"}"#,
            r#"{"type":"PodmanV0","data":{"services":[]}} s3cr3t"#,
        ];
        let services = [
            r#"{"name":"s3cr3t=","image":"i"}"#,
            r#"{"name":"a","image":" s3cr3t"}"#,
            r#"{"name":"a","image":"i","s3cr3t":"x"}"#,
            r#"{"name":"a","image":"i","ports":["s3cr3t"]}"#,
            r#"{"name":"a","image":"i","ports":"s3cr3t"}"#,
            r#"{"name":"a","image":"i","command":"s3cr3t"}"#,
            r#"{"name":"a","image":"i","env":{"A":["s3cr3t"]}}"#,
            r#"{"name":"a","image":"i","env":{"s3cr3t":1}}"#,
            r#"{"name":"a","image":"i","env":{"":"s3cr3t"}}"#,
            r#"{"name":"a","image":"i (expected s3cr3t","env":{}}"#,
            r#"{"name":"a","image":"i"},{"name":"a","image":"s3cr3t"}"#,
        ];
        let fields = [
            r#""s3cr3t""#,
            r#""/s3cr3t/..""#,
            r#"["s3cr3t"]"#,
            r#"{"s3cr3t":"s3cr3t"}"#,
            r#"[{"s3cr3t":"s3cr3t"}]"#,
            r#"[{"path":"/x","content":{"s3cr3t":1}}]"#,
            r#"[{"path":"/x","base64":"s3cr3t!"}]"#,
            r#"[{"path":"/x","content":"s3cr3t","mode":"s3cr3t"}]"#,
            r#"[{"path":"/x","content":"s3cr3t"},{"path":"/x","content":"s3cr3t"}]"#,
            r#"[{"name":"s3cr3t","path":"/s3cr3t"}]"#,
            r#"{"username":"s3cr3t","password":4711,"x":"s3cr3t"}"#,
            r#"{"username":["s3cr3t"],"password":"s3cr3t"}"#,
            r#"{"add":["s3cr3t"]}"#,
            r#"{"command":[],"interval_seconds":"s3cr3t"}"#,
        ];
        let names = [
            "registry_login",
            "ports",
            "volumes",
            "files",
            "secrets",
            "devices",
            "read_only",
            "capabilities",
            "memory_mib",
            "restart",
            "health",
        ];
        let newer = names.into_iter().flat_map(|name| {
            fields.map(|field| with_v1(&format!(r#"{{"name":"a","image":"i","{name}":{field}}}"#)))
        });
        let values = anywhere.map(str::to_owned).into_iter();
        for value in values.chain(services.map(with)).chain(newer) {
            let error = read(value.as_bytes()).unwrap_err();
            assert!(!error.contains(secret), "{value}: {error}");
        }
    }

    #[test]
    fn a_value_of_more_than_the_bucket_takes_is_not_even_parsed() {
        let value = vec![b'x'; 262_145];
        assert_eq!(
            read(&value).unwrap_err(),
            "it has 262145 bytes (expected at most 262144)"
        );
    }
}
