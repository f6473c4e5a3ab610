//! Tests of the configuration file.

use std::path::PathBuf;

use crate::{
    AgentConfig, HeartbeatSeconds, NatsConfig, NatsCredentials, NatsUrls, PodmanConfig,
    ProveWithin, SecretString, UpdateConfig, podman_socket,
};

const FULL: &str = r#"device_id = "pi-1"
heartbeat_seconds = 30

[nats]
urls = ["nats://10.0.2.2:4222", "nats://[::1]"]
allow_plaintext = ["10.0.2.2:4222"]

[nats.credentials]
type = "user-password"
username = "pi-1"
password = "hunter2"

[podman]
socket = "/run/podman/podman.sock"

[update]
keys = ["ODVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCZAW4"]
ca = "/etc/iot-agent/releases-ca.pem"
prove_within_seconds = 300
"#;

const MINIMAL: &str = "device_id = \"pi-1\"\nnats.urls = [\"tls://h\"]\n";

fn full() -> AgentConfig {
    AgentConfig {
        device_id: "pi-1".parse().unwrap(),
        heartbeat_seconds: HeartbeatSeconds::try_from(30).unwrap(),
        nats: NatsConfig {
            urls: NatsUrls::try_from(vec![
                "nats://10.0.2.2:4222".parse().unwrap(),
                "nats://[::1]".parse().unwrap(),
            ])
            .unwrap(),
            allow_plaintext: vec!["10.0.2.2:4222".parse().unwrap()],
            tls: None,
            credentials: Some(NatsCredentials::UserPassword {
                username: "pi-1".to_owned(),
                password: SecretString::new("hunter2"),
            }),
        },
        podman: PodmanConfig {
            socket: Some(PathBuf::from("/run/podman/podman.sock")),
        },
        update: Some(UpdateConfig {
            keys: vec![
                "ODVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCZAW4"
                    .parse()
                    .unwrap(),
            ],
            ca: Some(PathBuf::from("/etc/iot-agent/releases-ca.pem")),
            prove_within_seconds: ProveWithin::try_from(300).unwrap(),
        }),
        operator: None,
    }
}

#[test]
fn golden() {
    assert_eq!(toml::to_string(&full()).unwrap(), FULL);
    assert_eq!(toml::from_str::<AgentConfig>(FULL).unwrap(), full());
    assert!(!format!("{:?}", full()).contains("hunter2"));
}

#[test]
fn defaults() {
    let config: AgentConfig = toml::from_str(MINIMAL).unwrap();
    assert_eq!(config.heartbeat_seconds.duration().as_secs(), 10);
    assert_eq!(config.nats.credentials, None);
    assert_eq!(config.podman, PodmanConfig::default());
    assert_eq!(
        toml::to_string(&config).unwrap(),
        "device_id = \"pi-1\"\nheartbeat_seconds = 10\n\n[nats]\nurls = [\"tls://h\"]\n"
    );
}

#[test]
fn credentials_by_type() {
    let cases = [
        (
            "type = \"token\"\ntoken = \"t\"",
            NatsCredentials::Token {
                token: SecretString::new("t"),
            },
        ),
        (
            "type = \"creds-file\"\npath = \"/etc/x.creds\"",
            NatsCredentials::CredsFile {
                path: PathBuf::from("/etc/x.creds"),
            },
        ),
        (
            "type = \"nkey\"\nseed_file = \"/var/lib/x/nats.nk\"",
            NatsCredentials::Nkey {
                seed_file: PathBuf::from("/var/lib/x/nats.nk"),
                jwt_file: None,
            },
        ),
        (
            "type = \"nkey\"\nseed_file = \"/x.nk\"\njwt_file = \"/x.jwt\"",
            NatsCredentials::Nkey {
                seed_file: PathBuf::from("/x.nk"),
                jwt_file: Some(PathBuf::from("/x.jwt")),
            },
        ),
    ];
    for (toml, expected) in cases {
        assert_eq!(toml::from_str::<NatsCredentials>(toml).unwrap(), expected);
    }
}

#[test]
fn refuses_unknown_fields_types_and_bad_values() {
    let with = |text: &str| format!("{MINIMAL}{text}");
    let cases = [
        (with("x = 1"), "unknown field `x`"),
        (with("nats.x = 1"), "unknown field `x`"),
        (with("podman.x = 1"), "unknown field `x`"),
        (
            with("nats.credentials.type = \"kerberos\""),
            "unknown variant `kerberos`",
        ),
        (
            with("nats.credentials = { type = \"token\", token = \"t\", x = 1 }"),
            "unknown field `x`",
        ),
        (
            with("nats.credentials = { type = \"token\" }"),
            "missing field `token`",
        ),
        (
            with("heartbeat_seconds = 0"),
            "heartbeat_seconds is 0 (expected 1 to 3600)",
        ),
        (
            with("heartbeat_seconds = 3601"),
            "heartbeat_seconds is 3601",
        ),
        (with("heartbeat_seconds = -1"), "heartbeat_seconds is -1"),
        (
            "device_id = \"a.b\"\nnats.urls = [\"tls://h\"]".to_owned(),
            "device id 'a.b'",
        ),
        (
            "device_id = \"a\"\nnats.urls = []".to_owned(),
            "nats.urls is empty",
        ),
        ("device_id = \"a\"".to_owned(), "missing field `nats`"),
    ];
    for (toml, part) in cases {
        let error = toml::from_str::<AgentConfig>(&toml).unwrap_err();
        assert!(
            error.message().contains(part),
            "{toml}: {}",
            error.message()
        );
    }
}

#[test]
fn a_secret_of_another_type_is_not_quoted() {
    for secret in [
        "4711",
        "47.11",
        "true",
        "[4711]",
        "{ a = 4711 }",
        "4711-01-01",
    ] {
        let toml = format!("type = \"token\"\ntoken = {secret}");
        let error = toml::from_str::<NatsCredentials>(&toml).unwrap_err();
        assert!(!error.message().contains("4711"), "{}", error.message());
    }
}

#[test]
fn sockets() {
    assert_eq!(
        podman_socket(999),
        PathBuf::from("/run/user/999/podman/podman.sock")
    );
    assert_eq!(podman_socket(0), PathBuf::from("/run/podman/podman.sock"));
}
