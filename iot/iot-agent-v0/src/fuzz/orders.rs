//! Values of a deployment for a device that obeys operators and nobody else.

use std::sync::OnceLock;

use iot_contracts::{
    AgentConfig, DeploymentName, DeviceId, KvBucket, OperatorConfig, Refusal, SignedValue,
};

use super::{MAX_MESSAGE, plan_for};
use crate::desired::{DesiredState, Target};
use crate::followed::{Entry, Followed};
use crate::order::Rules;
use crate::signing::{key, signed};
use crate::value;

/// The counter that the device obeyed last.
const OBEYED: u64 = 100;
/// What it ran by that.
const RUNS: &str = r#"{"type":"PodmanV0","data":{"services":[{"name":"a","image":"host/x:1"}]}}"#;

fn web() -> DeploymentName {
    "web".parse().unwrap()
}

fn device() -> DeviceId {
    "pi-1".parse().unwrap()
}

/// The device's configuration: two keys are obeyed, and one is revoked.
fn config() -> &'static AgentConfig {
    static CONFIG: OnceLock<AgentConfig> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let [obeyed, other, revoked] = [1, 2, 3].map(key);
        let text = format!(
            "device_id = \"pi-1\"\nnats.urls = [\"tls://h\"]\n[operator]\nkeys = [\"{obeyed}\", \"{other}\"]\n\
             revoked = [\"{revoked}\"]\n"
        );
        toml::from_str(&text).unwrap()
    })
}

fn operator() -> &'static OperatorConfig {
    config().operator.as_ref().unwrap()
}

fn entry(revision: u64, value: &[u8]) -> Entry {
    Entry {
        name: web(),
        revision,
        value: Some(value.to_vec()),
    }
}

/// The order that the device obeyed last, and what it knows by that.
fn obeying() -> &'static (Vec<u8>, Followed) {
    static KNOWN: OnceLock<(Vec<u8>, Followed)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let order = signed(1, "pi-1", "web", OBEYED, Some(RUNS.to_owned()));
        let mut known = Followed::default().obeying(Rules::of(config()));
        known.apply(&entry(1, &order)).unwrap();
        (order, known)
    })
}

/// The first byte says who signs the rest, for whom and with which counter; 0 that nobody does, as the rest may be signed.
pub fn orders(data: &[u8]) {
    let Some(value) = made(data) else { return };
    let (last, before) = obeying();
    let mut known = before.clone();
    known.apply(&entry(2, &value)).unwrap();
    let desired = known.desired();
    let obeyed = obeyed(&value);
    match &obeyed {
        Some(score) => runs(&desired, score.as_deref()),
        None => is_refused(&known, before),
    }
    plan_for(&desired, value.len());
    let json = serde_json::to_vec(&known).unwrap();
    let again = serde_json::from_slice::<Followed>(&json).unwrap();
    assert_eq!(again.obeying(Rules::of(config())), known);
    // What was obeyed before comes again.
    if obeyed.is_some() {
        known.apply(&entry(3, last)).unwrap();
        let (_, refused) = known.refused().next().unwrap();
        assert!(matches!(refused.why, Refusal::CounterNotAbove { .. }));
        assert!(known.desired().target(&web()) == desired.target(&web()));
    }
}

/// The value that is made of the bytes.
fn made(data: &[u8]) -> Option<Vec<u8>> {
    let [how, rest @ ..] = data else { return None };
    let (how, removes) = (how & 0x7f, how & 0x80 != 0);
    match (how, std::str::from_utf8(rest)) {
        (0, _) => Some(rest.to_vec()),
        (_, Ok(score)) => Some(sign(how, (!removes).then_some(score))),
        (_, Err(_)) => None,
    }
}

/// What `how` makes of a score: three of four are by a key that is obeyed, and most are for this device and deployment.
fn sign(how: u8, score: Option<&str>) -> Vec<u8> {
    let by = match how % 8 {
        0..=5 => 1 + how % 2,
        6 => 3,
        _ => 4,
    };
    let (mut device, mut deployment, mut counter) = ("pi-1", "web", OBEYED + u64::from(how));
    match how / 8 {
        13 => device = "pi-2",
        14 => deployment = "db",
        15 => counter = OBEYED,
        _ => {}
    }
    signed(by, device, deployment, counter, score.map(str::to_owned))
}

/// The score of a value that is to be obeyed, or `None` in it for a removal: told apart from what the agent does.
fn obeyed(value: &[u8]) -> Option<Option<String>> {
    let most = usize::try_from(KvBucket::DESIRED_STATE.max_value_bytes).unwrap();
    let SignedValue::Signed(order) = serde_json::from_slice(value).ok()?;
    let is_good = order.check(operator(), &device(), &web()).is_ok();
    (value.len() <= most && is_good && order.counter > OBEYED).then_some(order.score)
}

/// What was signed is what shall be; where it cannot be read, what ran before stays.
fn runs(desired: &DesiredState, score: Option<&str>) {
    let target = desired.target(&web());
    let Some(score) = score else {
        assert_eq!(target, Target::Absent);
        return;
    };
    let wanted = desired.wanted(&web()).unwrap();
    match value::read(score.as_bytes()) {
        Ok(score) => assert_eq!(target, Target::Services(&score.services())),
        Err(message) => {
            assert!(message.len() <= MAX_MESSAGE, "{message}");
            assert_eq!(wanted.error.as_ref(), Some(&message));
            let before = value::read(RUNS.as_bytes()).unwrap().services();
            assert_eq!(target, Target::Services(&before));
        }
    }
}

/// Nothing has changed but that it is told, unless the order that was obeyed last came again.
fn is_refused(known: &Followed, before: &Followed) {
    let (now, then) = (known.desired(), before.desired());
    assert!(now.target(&web()) == then.target(&web()));
    let version = |desired: &DesiredState| {
        let wanted = desired.wanted(&web());
        wanted.and_then(|wanted| wanted.version.as_ref()?.counter)
    };
    assert_eq!(version(&now), version(&then));
    for (_, refused) in known.refused() {
        let message = refused.why.to_string();
        assert!(message.len() <= MAX_MESSAGE, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{made, obeyed};

    #[test]
    fn seeds_reach_what_lies_behind_a_signature() {
        let seeds = [
            ("by-key", true),
            ("by-other-key", true),
            ("removal", true),
            ("unreadable", true),
            ("signed-as-it-is", true),
            ("signed-removal-as-it-is", true),
            ("by-revoked-key", false),
            ("for-another-device", false),
            ("old-counter", false),
            ("unsigned", false),
        ];
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/orders");
        for (name, expected) in seeds {
            let value = made(&std::fs::read(dir.join(name)).unwrap()).unwrap();
            assert_eq!(obeyed(&value).is_some(), expected, "{name}");
        }
    }
}
