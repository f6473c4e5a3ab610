//! Tests of how NATS is reached.

use crate::{ContractError, HostPort, NatsConfig, NatsTls, NatsUrl, NatsUrls};

#[test]
fn urls() {
    for url in [
        "nats://h",
        "tls://a-b.c_d:1",
        "nats://[::1]",
        "nats://[fe80::1]:65535",
    ] {
        assert_eq!(url.parse::<NatsUrl>().unwrap().as_str(), url);
    }
    let bad = [
        "",
        "h",
        "nats://",
        "http://h",
        "nats://h/",
        "nats://h:",
        "nats://h:0",
        "nats://h:65536",
        "nats://h:+1",
        "nats://h:1:2",
        "nats://[::1",
        "nats://[x]",
        "nats://[::1]4222",
        "nats://a b",
        "nats://h?x",
        "NATS://h",
    ];
    for value in bad {
        let value = value.to_owned();
        assert_eq!(
            value.parse::<NatsUrl>(),
            Err(ContractError::NatsUrl { value })
        );
    }
    let refused = "nats://user:hunter2@h".parse::<NatsUrl>().unwrap_err();
    assert_eq!(refused, ContractError::NatsUrlUserinfo);
    assert!(!refused.to_string().contains("hunter2"));
}

#[test]
fn parts_of_a_url() {
    let cases = [
        ("nats://h", "h", "h:4222", false, false),
        ("tls://h:1", "h", "h:1", false, true),
        (
            "nats://LocalHost:1",
            "LocalHost",
            "LocalHost:1",
            true,
            false,
        ),
        (
            "nats://localhost.example",
            "localhost.example",
            "localhost.example:4222",
            false,
            false,
        ),
        (
            "nats://127.0.0.9",
            "127.0.0.9",
            "127.0.0.9:4222",
            true,
            false,
        ),
        ("nats://127.1", "127.1", "127.1:4222", false, false),
        ("nats://0.0.0.0", "0.0.0.0", "0.0.0.0:4222", false, false),
        ("nats://[::1]", "::1", "[::1]:4222", true, false),
        (
            "nats://[::ffff:127.0.0.1]:5",
            "::ffff:127.0.0.1",
            "[::ffff:127.0.0.1]:5",
            true,
            false,
        ),
        ("nats://[fe80::1]:5", "fe80::1", "[fe80::1]:5", false, false),
    ];
    for (text, host, both, is_loopback, is_tls) in cases {
        let url: NatsUrl = text.parse().unwrap();
        assert_eq!(url.host(), host);
        assert_eq!(url.host_and_port(), both);
        assert!(both.parse::<HostPort>().is_ok(), "{text}");
        assert_eq!(url.is_loopback(), is_loopback, "{text}");
        assert_eq!(url.is_tls(), is_tls, "{text}");
    }
}

#[test]
fn schemes_are_not_mixed() {
    let urls = |urls: &[&str]| {
        let urls: Vec<NatsUrl> = urls.iter().map(|url| url.parse().unwrap()).collect();
        NatsUrls::try_from(urls)
    };
    assert!(urls(&["tls://a", "tls://b"]).unwrap().are_tls());
    assert!(!urls(&["nats://a", "nats://b"]).unwrap().are_tls());
    for mix in [["tls://a", "nats://127.0.0.1"], ["nats://a", "tls://b"]] {
        assert_eq!(urls(&mix), Err(ContractError::MixedNatsUrls));
    }
}

fn parsed(text: &str) -> Result<NatsConfig, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

#[test]
fn plain_text_is_for_this_machine_or_by_name() {
    let allowed = [
        "urls = ['tls://nats.example']",
        "urls = ['nats://127.0.0.1:4222', 'nats://localhost', 'nats://[::1]:1']",
        "urls = ['nats://10.0.2.2:14222']\nallow_plaintext = ['10.0.2.2:14222']",
        "urls = ['nats://Nats.Example']\nallow_plaintext = ['x', 'nats.example:4222']",
        "urls = ['nats://[fe80::1]']\nallow_plaintext = ['[fe80::1]']",
    ];
    for text in allowed {
        assert!(parsed(text).is_ok(), "{text}: {:?}", parsed(text));
    }
    let refused = [
        (
            "urls = ['nats://10.0.2.2']",
            "\"10.0.2.2:4222\" in nats.allow_plaintext",
        ),
        (
            "urls = ['nats://127.0.0.1', 'nats://h:5']\nallow_plaintext = ['h:6', 'x.h:5']",
            "NATS URL 'nats://h:5' is plain text to another host",
        ),
        ("urls = ['nats://127.1']", "plain text to another host"),
        (
            "urls = ['tls://h']\nallow_plaintext = ['http://h']",
            "'http://h' is no server's name",
        ),
    ];
    for (text, part) in refused {
        let error = parsed(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn tls_is_whole_and_used() {
    let text = "urls = [\"tls://h\"]\n\n[tls]\nca = \"/ca.pem\"\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"\n";
    let config = parsed(text).unwrap();
    assert_eq!(toml::to_string(&config).unwrap(), text);
    let tls = config.tls.unwrap();
    assert_eq!(tls.ca.unwrap(), std::path::Path::new("/ca.pem"));
    let cases = [
        (
            "urls = ['nats://127.0.0.1']\n[tls]\nca = '/x'",
            ContractError::TlsUnused,
        ),
        (
            "urls = ['tls://h']\n[tls]\ncertificate = '/x'",
            ContractError::TlsKeyPair,
        ),
        (
            "urls = ['tls://h']\n[tls]\nkey = '/x'",
            ContractError::TlsKeyPair,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parsed(text).unwrap_err(), expected.to_string(), "{text}");
    }
    assert!(
        parsed("urls = ['tls://h']\n[tls]\nx = 1")
            .unwrap_err()
            .contains("unknown field `x`")
    );
    let mut config = NatsConfig::new(NatsUrls::from("tls://h".parse::<NatsUrl>().unwrap()));
    config.tls = Some(NatsTls::default());
    assert_eq!(config.check(), Ok(()));
}
