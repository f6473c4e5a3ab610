//! What others write and the agent reads, in whatever form it comes: `iot/scripts/fuzz.sh` has libFuzzer look for what the
//! agent does not withstand, and the test below goes once over what is kept in `fuzz/corpus`, and over what chance makes
//! of it. A target panics where a promise does not hold, for example that what was read and written is read as the same.

mod orders;

use std::collections::BTreeSet;
use std::path::Path;

use iot_contracts::{AgentStatus, BucketMarker, DeviceId, KvBucket, desired_state_key_deployment};
use tokio::time::Instant;

use crate::container::{ContainerState, ObservedContainer, Role};
use crate::desired::DesiredState;
use crate::followed::{Entry, Followed, SeenMarker};
use crate::history::History;
use crate::plan::{self, World};
use crate::{config, podman, report, update, value};

/// What is done with bytes that others wrote.
type Target = fn(&[u8]);

/// What is fuzzed: a name, and what is done with the bytes.
pub const TARGETS: [(&str, Target); 7] = [
    ("desired-state", desired_state),
    ("orders", orders::orders),
    ("release", update::fuzz::releases),
    ("kept", kept),
    ("report", reports),
    ("config", configuration),
    ("podman", podman::fuzz::answers),
];

/// The longest message about a value, in bytes: it is told in each report.
const MAX_MESSAGE: usize = 1000;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use std::sync::OnceLock;
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("HARMONY_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(known, _)| *known == name);
        found.expect("HARMONY_FUZZ_TARGET names a target").1
    });
    target(data);
});

/// Two values of a key one after the other, with a NUL between them, and what is planned for each.
fn desired_state(data: &[u8]) {
    let mut values = data.splitn(2, |byte| *byte == 0);
    let (first, second) = (values.next().unwrap_or(data), values.next());
    let device: DeviceId = "pi-1".parse().unwrap();
    if let Ok(key) = std::str::from_utf8(first) {
        // Most are none's.
        drop(desired_state_key_deployment(&device, key));
    }
    let mut known = Followed::default();
    for (revision, value) in [Some(first), second].into_iter().flatten().enumerate() {
        match value::read(value) {
            Ok(score) => {
                let json = serde_json::to_vec(score.read()).unwrap();
                // What is read is written in another form, which may be longer than the bucket takes.
                if json.len() <= KvBucket::DESIRED_STATE.max_value_bytes as usize {
                    assert_eq!(value::read(&json), Ok(score));
                }
            }
            Err(message) => assert!(message.len() <= MAX_MESSAGE, "{message}"),
        }
        let entry = Entry {
            name: "web".parse().unwrap(),
            revision: revision as u64 + 1,
            value: Some(value.to_vec()),
        };
        known.apply(&entry).unwrap();
        plan_for(&known.desired(), value.len());
    }
    // Whether there was no room for a value is not kept.
    let json = serde_json::to_vec(&known).unwrap();
    let again: Followed = serde_json::from_slice(&json).unwrap();
    assert_eq!(again.desired(), known.desired());
    assert_eq!(serde_json::to_vec(&again).unwrap(), json);
}

/// Plans with what is there, which is right, outdated, or in another state, as `chance` has it.
fn plan_for(desired: &DesiredState, chance: usize) {
    let states = [
        ContainerState::Running,
        ContainerState::Created,
        ContainerState::Exited { code: 1 },
        ContainerState::Paused,
        ContainerState::Between,
    ];
    let roles = [Role::Current, Role::Previous, Role::Failed, Role::Stray];
    let keys = plan::desired_keys(desired);
    let containers = keys.iter().enumerate().map(|(number, (key, service))| {
        let number = number + chance;
        ObservedContainer {
            id: number.to_string(),
            key: key.clone(),
            role: roles[number % roles.len()],
            digest: match number % 3 {
                0 => String::new(),
                _ => service.digest.clone(),
            },
            terms: service.terms(),
            state: states[number % states.len()],
            image: service.image().to_string(),
            image_digest: None,
            started_at: 1,
            exited_at: 2,
            health: None,
        }
    });
    let mut world = World {
        containers: containers.collect(),
        ..World::default()
    };
    let images = plan::images_in_question(desired, &world.containers);
    world.images = images
        .into_iter()
        .map(|image| (image, chance.is_multiple_of(2)))
        .collect();
    let mut history = History::default();
    let now = Instant::now();
    history.look(&world.containers, now);
    let plan = plan::plan(desired, &world, &history, now);
    let planned: BTreeSet<_> = plan.keys().collect();
    assert!(keys.keys().all(|key| planned.contains(key)));
}

/// The marker of a bucket, and what the device kept.
fn kept(data: &[u8]) {
    let marker = serde_json::from_slice::<BucketMarker>(data);
    let Ok(known) = serde_json::from_slice::<Followed>(data) else {
        if let Ok(marker) = marker {
            let seen = SeenMarker {
                marker,
                revision: 1,
            };
            Followed::default().judge(Some(&seen)).unwrap();
        }
        return;
    };
    let json = serde_json::to_vec(&known).unwrap();
    assert_eq!(serde_json::from_slice::<Followed>(&json).unwrap(), known);
    plan_for(&known.desired(), data.len());
    plan_for(&known.desired_unasked(), data.len());
    let seen = SeenMarker {
        marker: serde_json::from_str(r#"{"id":"b1"}"#).unwrap(),
        revision: 7,
    };
    // It may be another bucket, or one that went back.
    drop(known.judge(Some(&seen)));
    drop(known.listed(Some(&seen), &[]));
}

/// A report is never more than its bucket takes, and no deployment is left out without a word.
fn reports(data: &[u8]) {
    let Ok(status) = serde_json::from_slice::<AgentStatus>(data) else {
        return;
    };
    let deployments = status.deployments.len();
    for budget in [report::BUDGET, 1024] {
        let fitted = report::fitted(status.clone(), budget);
        let told = fitted.deployments.len();
        let left_out = fitted.deployments_left_out;
        assert!(told == deployments || told + left_out == deployments);
        let json = serde_json::to_vec(&fitted).unwrap();
        assert_eq!(
            serde_json::from_slice::<AgentStatus>(&json).unwrap(),
            fitted
        );
    }
}

/// A configuration.
fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let path = Path::new("/etc/iot-agent/config.toml");
    match config::parse(path, text) {
        Ok(config) => {
            config.nats.check().unwrap();
            let json = serde_json::to_value(&config).unwrap();
            let again = serde_json::from_value(json);
            assert_eq!(config, again.unwrap());
        }
        Err(config::ConfigError::Invalid { line, .. }) => {
            assert!(line <= 1 + text.lines().count());
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use fastrand::Rng;

    use super::TARGETS;

    /// How many inputs chance makes for each target.
    const EXECUTIONS: u32 = 2000;
    /// The same for those that sign, which takes milliseconds where it is not optimised.
    const SIGNED_EXECUTIONS: u32 = 200;
    /// The most memory that all of it may take, in KiB.
    const MAX_RESIDENT_KIB: u64 = 256 * 1024;
    /// The longest that one input may take.
    const SLOW: Duration = Duration::from_secs(10);

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut files: Vec<_> = std::fs::read_dir(dir.join(target))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let files = files.iter();
        files.map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// More than a value may have.
    const LONG: usize = 270_000;
    /// One of how many inputs is that long.
    const RARE: u32 = 100;

    /// Bytes are changed, left out, put in, repeated, or taken from another input.
    fn mutated(chance: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[chance.usize(..corpus.len())].clone();
        for _ in 0..chance.u32(1..6) {
            let at = chance.usize(..=input.len());
            let length = chance.usize(..=(input.len() - at).min(40));
            match chance.u32(..5) {
                0 if at < input.len() => input[at] = chance.u8(..),
                1 => drop(input.drain(at..at + length)),
                2 => {
                    let other = &corpus[chance.usize(..corpus.len())];
                    let from = chance.usize(..=other.len());
                    let part = &other[from..other.len().min(from + 40)];
                    input.splice(at..at, part.iter().copied());
                }
                3 => {
                    let part = input[at..at + length].repeat(chance.usize(1..8));
                    input.splice(at..at, part);
                }
                _ => {
                    let odd = [
                        &b"\0"[..],
                        b"\xff",
                        b"null",
                        b"-1",
                        b"18446744073709551616",
                        b"[[",
                        b"{\"",
                    ];
                    let part = odd[chance.usize(..odd.len())];
                    input.splice(at..at, part.iter().copied());
                }
            }
        }
        if chance.u32(..RARE) == 0 {
            let at = chance.usize(..=input.len());
            let length = chance.usize(..LONG);
            input.splice(at..at, std::iter::repeat_n(b'0', length));
        }
        input
    }

    #[test]
    fn what_is_kept_and_what_chance_makes_of_it_is_withstood() {
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            assert!(corpus.len() >= 3, "{name}: {} inputs", corpus.len());
            let mut chance = Rng::with_seed(15);
            let executions = match name {
                "orders" | "release" => SIGNED_EXECUTIONS,
                _ => EXECUTIONS,
            };
            let made = (0..executions).map(|_| mutated(&mut chance, &corpus));
            for input in corpus.iter().cloned().chain(made) {
                let since = Instant::now();
                let withstood = std::panic::catch_unwind(|| target(&input));
                let text = String::from_utf8_lossy(&input);
                assert!(withstood.is_ok(), "{name}: {text:?}");
                assert!(since.elapsed() < SLOW, "{name}: {text:?}");
            }
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = most
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        assert!(
            kib <= MAX_RESIDENT_KIB,
            "{kib} KiB (expected at most {MAX_RESIDENT_KIB})"
        );
    }
}
