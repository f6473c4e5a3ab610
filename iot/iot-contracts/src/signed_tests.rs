//! What is signed, and what is none.

use std::convert::Infallible;

use nkeys::KeyPair;

use super::{Refusal, Signature, SignedOrder, SignedValue, signing_input};
use crate::{DeploymentName, DeviceId, OperatorConfig, OperatorKey};

const SCORE: &str = r#"{"type":"PodmanV0","data":{"services":[]}}"#;

/// A key that is the same in each run.
fn pair(n: u8) -> KeyPair {
    KeyPair::new_from_raw(nkeys::KeyPairType::Operator, [n; 32]).unwrap()
}

fn key(pair: &KeyPair) -> OperatorKey {
    pair.public_key().parse().unwrap()
}

fn operator(pairs: &[&KeyPair], revoked: &[&KeyPair]) -> OperatorConfig {
    let keys = |pairs: &[&KeyPair]| pairs.iter().map(|pair| key(pair)).collect();
    OperatorConfig::new(keys(pairs), keys(revoked)).unwrap()
}

fn device() -> DeviceId {
    "pi-1".parse().unwrap()
}

fn web() -> DeploymentName {
    "web".parse().unwrap()
}

fn order(pair: &KeyPair, counter: u64, score: Option<&str>) -> SignedOrder {
    let score = score.map(str::to_owned);
    let signed = SignedOrder::sign(&device(), &web(), counter, score, &key(pair), |input| {
        let signature = pair.sign(input).unwrap();
        Ok::<_, Infallible>(signature.try_into().unwrap())
    });
    signed.unwrap()
}

#[test]
fn golden() {
    let value = SignedValue::Signed(order(&pair(7), 17, Some(SCORE)));
    let golden = concat!(
        r#"{"type":"Signed","data":{"device_id":"pi-1","deployment":"web","counter":17,"#,
        r#""score":"{\"type\":\"PodmanV0\",\"data\":{\"services\":[]}}","#,
        r#""key":"ODVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCZAW4","#,
        r#""signature":"g+ES8Fi0t76IZaMDnlVdPcF7Oxmp31Q0UaujwJe0SOE3i4zyY27hqHMfuebKjjta9HVI3cLX4GPdRLKGwk96Ag=="}}"#
    );
    assert_eq!(serde_json::to_string(&value).unwrap(), golden);
    assert_eq!(serde_json::from_str::<SignedValue>(golden).unwrap(), value);
    let removal = serde_json::to_string(&order(&pair(7), 18, None)).unwrap();
    assert!(!removal.contains("score"), "{removal}");
    // Another program has to sign exactly this.
    let input = signing_input(&device(), &web(), 17, Some(SCORE));
    let expected = format!("harmony desired state 1\npi-1\nweb\n17\nrun\n{SCORE}");
    assert_eq!(input, expected.as_bytes());
    let input = signing_input(&device(), &web(), 18, None);
    assert_eq!(input, b"harmony desired state 1\npi-1\nweb\n18\nremove\n");
}

#[test]
fn what_an_obeyed_key_signed_for_this_is_obeyed() {
    let (old, new) = (pair(1), pair(2));
    let both = operator(&[&old, &new], &[]);
    for score in [Some(SCORE), Some(""), None] {
        for pair in [&old, &new] {
            let order = order(pair, 1, score);
            assert_eq!(order.check(&both, &device(), &web()), Ok(()));
        }
    }
}

#[test]
fn nothing_of_an_order_can_be_changed() {
    let pair = pair(1);
    let operator = operator(&[&pair], &[]);
    let good = order(&pair, 5, Some(SCORE));
    let flipped = good.signature.flipped();
    let tampered = [
        SignedOrder {
            counter: 6,
            ..good.clone()
        },
        SignedOrder {
            device_id: "pi-2".parse().unwrap(),
            ..good.clone()
        },
        SignedOrder {
            deployment: "db".parse().unwrap(),
            ..good.clone()
        },
        SignedOrder {
            score: Some(format!("{SCORE} ")),
            ..good.clone()
        },
        SignedOrder {
            score: None,
            ..good.clone()
        },
        SignedOrder {
            score: Some(String::new()),
            ..order(&pair, 5, None)
        },
        SignedOrder {
            signature: flipped,
            ..good.clone()
        },
        SignedOrder {
            signature: Signature::from([0; 64]),
            ..good.clone()
        },
    ];
    let bad = Refusal::BadSignature { key: key(&pair) };
    for order in tampered {
        let refused = order.check(&operator, &device(), &web());
        assert_eq!(refused, Err(bad.clone()), "{order:?}");
    }
}

#[test]
fn an_order_is_for_one_device_and_one_deployment() {
    let pair = pair(1);
    let operator = operator(&[&pair], &[]);
    let good = order(&pair, 5, Some(SCORE));
    let refused = good.check(&operator, &"pi-2".parse().unwrap(), &web());
    assert_eq!(refused, Err(Refusal::OtherDevice { named: device() }));
    let refused = good.check(&operator, &device(), &"db".parse().unwrap());
    assert_eq!(refused, Err(Refusal::OtherDeployment { named: web() }));
}

#[test]
fn a_key_that_is_not_obeyed_is_told_from_one_that_is_not_known() {
    let (old, new) = (pair(1), pair(2));
    let of_old = order(&old, 5, Some(SCORE));
    let check = |operator: &OperatorConfig| of_old.check(operator, &device(), &web());
    let key = key(&old);
    let unknown = Err(Refusal::UnknownKey { key: key.clone() });
    assert_eq!(check(&operator(&[&new], &[])), unknown);
    let revoked = Err(Refusal::RevokedKey { key });
    assert_eq!(check(&operator(&[&new], &[&old])), revoked);
    assert_eq!(check(&operator(&[&new, &old], &[&old])), revoked);
    // Who names another's key has not signed with it.
    let forged = SignedOrder {
        key: self::key(&new),
        ..of_old.clone()
    };
    assert!(matches!(
        forged.check(&operator(&[&new], &[]), &device(), &web()),
        Err(Refusal::BadSignature { .. })
    ));
}

#[test]
fn a_signature_for_something_else_is_none() {
    let pair = pair(1);
    let forged = SignedOrder::sign(&device(), &web(), 5, None, &key(&pair), |input| {
        let other = input.strip_prefix(b"harmony desired state 1\n").unwrap();
        let signature = pair.sign(other).unwrap();
        Ok::<_, Infallible>(signature.try_into().unwrap())
    });
    let refused = forged
        .unwrap()
        .check(&operator(&[&pair], &[]), &device(), &web());
    assert!(matches!(refused, Err(Refusal::BadSignature { .. })));
}

#[test]
fn only_whole_values_are_read() {
    let json = serde_json::to_string(&SignedValue::Signed(order(&pair(1), 5, None))).unwrap();
    for end in 0..json.len() {
        assert!(serde_json::from_str::<SignedValue>(&json[..end]).is_err());
    }
    for (from, to) in [
        (r#""counter":5"#, r#""counter":-5"#),
        (r#""counter":5"#, r#""counter":5.0"#),
        (r#""counter":5"#, r#""counter":5,"x":1"#),
        (r#""counter":5"#, r#""counter":5,"counter":6"#),
        (r#""counter":5,"#, ""),
        ("==\"", "\""),
        ("\"pi-1\"", "\"pi.1\""),
    ] {
        let other = json.replace(from, to);
        assert_ne!(other, json, "{from}");
        assert!(
            serde_json::from_str::<SignedValue>(&other).is_err(),
            "{other}"
        );
    }
}

#[test]
fn a_reason_is_told_by_its_name_and_a_newer_one_is_not_an_error() {
    let refusal = Refusal::CounterNotAbove {
        counter: 3,
        highest: 5,
    };
    let json = r#"{"reason":"counter-not-above","counter":3,"highest":5}"#;
    assert_eq!(serde_json::to_string(&refusal).unwrap(), json);
    assert_eq!(serde_json::from_str::<Refusal>(json).unwrap(), refusal);
    let newer = serde_json::from_str::<Refusal>(r#"{"reason":"bad-weather","x":1}"#);
    assert_eq!(newer.unwrap(), Refusal::Unknown);
}
