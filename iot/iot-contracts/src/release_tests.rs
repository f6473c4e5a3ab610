//! What is a release, and what is none.

use std::convert::Infallible;

use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use super::{AgentRelease, ReleaseUrl, ReleasedProgram, agent_release_key};
use crate::{ContractError, OperatorKey, desired_state_key_deployment};

/// A key that is the same in each run.
fn pair(n: u8) -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::Operator, [n; 32]).unwrap()
}

fn key(n: u8) -> OperatorKey {
    pair(n).public_key().parse().unwrap()
}

fn program(size: u64, url: &str) -> ReleasedProgram {
    ReleasedProgram::new("aarch64", [0xab; 32].into(), size, url.parse().unwrap()).unwrap()
}

fn signed(n: u8, serial: u64) -> AgentRelease {
    let signed = AgentRelease::sign(serial, program(3, "https://h/x"), |text| {
        let signature = pair(n).sign(text).unwrap();
        Ok::<_, Infallible>(signature.try_into().unwrap())
    });
    signed.unwrap()
}

#[test]
fn golden() {
    let release = signed(7, 17);
    let golden = format!(
        concat!(
            r#"{{"type":"AgentReleaseV0","serial":17,"architecture":"aarch64","sha256":"{}","size":3,"#,
            r#""url":"https://h/x","signature":"{}"}}"#
        ),
        "ab".repeat(32),
        "sSXYcaDr5EPgi8uqJfOGFIa4L5BZ2DSJB1LBckeCa99g0LONTngQNgidxOkMredmxjJnEI49A6gCKlDfp/HiAg=="
    );
    assert_eq!(serde_json::to_string(&release).unwrap(), golden);
    assert_eq!(
        serde_json::from_str::<AgentRelease>(&golden).unwrap(),
        release
    );
    // Another program has to sign exactly this.
    let text = format!(
        "harmony agent release 1\n17\naarch64\n3\n{}\n",
        "ab".repeat(32)
    );
    assert_eq!(release.signed_text(), text);
}

#[test]
fn a_signature_is_for_all_but_the_place() {
    let release = signed(7, 17);
    assert!(release.is_signed_by(&key(7)));
    assert!(!release.is_signed_by(&key(8)));
    let wire = serde_json::to_value(&release).unwrap();
    let changed: [(&str, Value, bool); 5] = [
        ("url", "https://h/y".into(), true),
        ("serial", 18.into(), false),
        ("size", 4.into(), false),
        ("architecture", "x86_64".into(), false),
        ("sha256", "ac".repeat(32).into(), false),
    ];
    for (field, value, holds) in changed {
        let mut wire = wire.clone();
        wire[field] = value;
        let changed: AgentRelease = serde_json::from_value(wire).unwrap();
        assert_eq!(changed.is_signed_by(&key(7)), holds, "{field}");
    }
}

#[test]
fn what_is_no_release_is_refused() {
    let good = serde_json::to_value(signed(7, 1)).unwrap();
    let bad: [(&str, Value); 22] = [
        ("type", "AgentReleaseV9".into()),
        ("serial", (-1).into()),
        ("architecture", "".into()),
        ("architecture", "a\nb".into()),
        ("sha256", "A".repeat(64).into()),
        ("size", 0.into()),
        ("size", 33_554_433.into()),
        ("url", "http://h/x".into()),
        ("url", "https://".into()),
        ("url", "https:///agent".into()),
        ("url", "https://?x".into()),
        ("url", "https://:8443/x".into()),
        ("url", "https://h:/x".into()),
        ("url", "https://h:0/x".into()),
        ("url", "https://h:99999/x".into()),
        ("url", "https://h:+1/x".into()),
        ("url", "https://::1/x".into()),
        ("url", "https://user@h/x".into()),
        ("url", "https://h/ x".into()),
        ("url", format!("https://h/{}", "x".repeat(2048)).into()),
        ("signature", "b".repeat(128).into()),
        ("more", 1.into()),
    ];
    for (field, value) in bad {
        let mut wire = good.clone();
        wire[field] = value;
        serde_json::from_value::<AgentRelease>(wire.clone()).expect_err(&wire.to_string());
    }
    let urls = ["https://h", "https://h:1/x", "https://[::1]:65535/x?a:b"];
    for url in urls {
        url.parse::<ReleaseUrl>().expect(url);
    }
    let size = ReleasedProgram::new("x86_64", [0; 32].into(), 0, "https://h/x".parse().unwrap());
    let expected = ContractError::Release {
        what: "size",
        expected: "1 to 33554432 bytes",
    };
    assert_eq!(size, Err(expected));
    assert_eq!(good["type"], json!("AgentReleaseV0"));
}

#[test]
fn its_key_is_no_deployments() {
    let device = "pi-1".parse().unwrap();
    let key = agent_release_key(&device);
    assert_eq!(key, "pi-1._agent");
    desired_state_key_deployment(&device, &key).unwrap_err();
}
