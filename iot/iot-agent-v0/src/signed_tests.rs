//! What becomes of a device that obeys signed orders when others may write its desired state.

use iot_contracts::{BucketMarker, DeploymentName, Refusal};

use super::{Entry, Followed, SeenMarker};
use crate::desired::Target;
use crate::keep::{Keeper, Kept};
use crate::order::Rules;
use crate::signing::{self, key};

/// The rules of pi-1, which obeys those keys.
fn rules(keys: &[u8], revoked: &[u8]) -> Rules {
    let list = |keys: &[u8]| {
        let keys: Vec<_> = keys.iter().map(|n| key(*n)).collect();
        serde_json::to_string(&keys).unwrap()
    };
    let config = format!(
        "device_id = \"pi-1\"\nnats.urls = [\"tls://h\"]\n[operator]\nkeys = {}\nrevoked = {}\n",
        list(keys),
        list(revoked)
    );
    Rules::of(&toml::from_str(&config).unwrap())
}

fn name(text: &str) -> DeploymentName {
    text.parse().unwrap()
}

fn score(tag: &str) -> String {
    format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}"}}]}}}}"#
    )
}

/// A value that key `n` signed; `None` for a removal.
fn signed(n: u8, device: &str, deployment: &str, counter: u64, tag: Option<&str>) -> Vec<u8> {
    signing::signed(n, device, deployment, counter, tag.map(score))
}

fn web(counter: u64, tag: &str) -> Vec<u8> {
    signed(1, "pi-1", "web", counter, Some(tag))
}

fn entry(deployment: &str, revision: u64, value: Option<Vec<u8>>) -> Entry {
    Entry {
        name: name(deployment),
        revision,
        value,
    }
}

fn marker() -> SeenMarker {
    SeenMarker {
        marker: BucketMarker {
            id: "b1".parse().unwrap(),
            replaces: Vec::new(),
        },
        revision: 1,
    }
}

/// pi-1, which obeys key 1 and runs web as of counter 100.
fn device() -> Followed {
    let first = [entry("web", 5, Some(web(100, "1")))];
    let device = Followed::default().obeying(rules(&[1], &[]));
    let (device, missing) = device.listed(Some(&marker()), &first).unwrap();
    assert!(missing.is_empty());
    assert_eq!(told(&device, "web"), "1");
    device
}

/// What shall run.
fn told(device: &Followed, deployment: &str) -> String {
    match device.desired().target(&name(deployment)) {
        Target::Absent => "-".to_owned(),
        Target::Hold => "hold".to_owned(),
        Target::Services(services) => services[0].image().as_str().replace("host/x:", ""),
    }
}

fn refusal(device: &Followed, deployment: &str) -> Option<Refusal> {
    let mut refused = device.refused();
    let of = refused.find(|(refused, _)| refused.as_str() == deployment);
    of.map(|(_, entry)| entry.why.clone())
}

#[test]
fn what_an_operator_signs_is_obeyed() {
    let mut device = device();
    device.apply(&entry("web", 6, Some(web(101, "2")))).unwrap();
    assert_eq!(told(&device, "web"), "2");
    let desired = device.desired();
    let version = desired.wanted(&name("web")).unwrap().version.clone();
    let version = version.unwrap();
    assert_eq!((version.revision, version.counter), (6, Some(101)));
    let removal = signed(1, "pi-1", "web", 102, None);
    device.apply(&entry("web", 7, Some(removal))).unwrap();
    assert_eq!(told(&device, "web"), "-");
    device.apply(&entry("web", 8, Some(web(103, "3")))).unwrap();
    assert_eq!(told(&device, "web"), "3");
    assert_eq!(device.refused().count(), 0);
}

#[test]
fn whatever_nobody_signed_for_it_changes_nothing_and_is_reported() {
    let tampered = |from: &str, to: &str| {
        let text = String::from_utf8(web(101, "2")).unwrap();
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text);
        Some(other.into_bytes())
    };
    let good = web(101, "2");
    let cut = Some(good[..good.len() / 2].to_vec());
    let bad = Refusal::BadSignature { key: key(1) };
    let not_above = |counter| Refusal::CounterNotAbove {
        counter,
        highest: 100,
    };
    let attacks = [
        (
            "a plain value",
            Some(score("2").into_bytes()),
            Refusal::Unsigned,
        ),
        (
            "a value of no kind",
            Some(b"{}".to_vec()),
            Refusal::Unsigned,
        ),
        ("a mark of deletion", None, Refusal::UnsignedRemoval),
        ("half a value", cut, Refusal::Malformed),
        ("nothing", Some(Vec::new()), Refusal::Malformed),
        (
            "more than there may be",
            Some(vec![b' '; 300_000]),
            Refusal::Malformed,
        ),
        (
            "a signed one without a signature",
            Some(br#"{"type":"Signed","data":{}}"#.to_vec()),
            Refusal::Malformed,
        ),
        ("an older one", Some(web(99, "0")), not_above(99)),
        (
            "the same counter again",
            Some(web(100, "2")),
            not_above(100),
        ),
        (
            "an older removal",
            Some(signed(1, "pi-1", "web", 99, None)),
            not_above(99),
        ),
        (
            "another device's",
            Some(signed(1, "pi-2", "web", 101, Some("2"))),
            Refusal::OtherDevice {
                named: "pi-2".parse().unwrap(),
            },
        ),
        (
            "another deployment's",
            Some(signed(1, "pi-1", "db", 101, Some("2"))),
            Refusal::OtherDeployment { named: name("db") },
        ),
        (
            "another deployment's removal",
            Some(signed(1, "pi-1", "db", 101, None)),
            Refusal::OtherDeployment { named: name("db") },
        ),
        (
            "a key that nobody knows",
            Some(signed(9, "pi-1", "web", 101, Some("2"))),
            Refusal::UnknownKey { key: key(9) },
        ),
        (
            "another score",
            tampered("host/x:2", "host/x:3"),
            bad.clone(),
        ),
        ("a higher counter", tampered("101", "901"), bad.clone()),
        (
            "another device in it",
            tampered("pi-1", "pi-2"),
            bad.clone(),
        ),
        (
            "a removal made of it",
            tampered(r#""score":"#, r#""x":"#),
            Refusal::Malformed,
        ),
    ];
    for (what, value, why) in attacks {
        let mut device = device();
        device.apply(&entry("web", 6, value.clone())).unwrap();
        assert_eq!(told(&device, "web"), "1", "{what}");
        assert_eq!(refusal(&device, "web"), Some(why.clone()), "{what}");
        // Nor in a listing, after a restart, or where nothing was known.
        let listed = [entry("web", 6, value.clone())];
        let (again, _) = device.listed(Some(&marker()), &listed).unwrap();
        assert_eq!(told(&again, "web"), "1", "{what}");
        let mut new = Followed::default().obeying(rules(&[1], &[]));
        let is_old = matches!(why, Refusal::CounterNotAbove { .. });
        new.apply(&entry("web", 6, value)).unwrap();
        assert!(is_old || told(&new, "web") == "hold", "{what}");
        // A better one is obeyed.
        device.apply(&entry("web", 7, Some(web(101, "2")))).unwrap();
        assert_eq!(told(&device, "web"), "2", "{what}");
        assert_eq!(refusal(&device, "web"), None, "{what}");
    }
}

#[test]
fn a_key_that_is_gone_without_a_signed_removal_stays() {
    let (mut device, missing) = device().listed(Some(&marker()), &[]).unwrap();
    assert_eq!(missing, [name("web")]);
    let kept = device.never_vanishes(&name("web"));
    assert_eq!(kept, Some("and no signed order removed it"));
    device.vanished(&name("web"));
    assert_eq!(told(&device, "web"), "1");
}

#[test]
fn what_was_removed_is_not_brought_back_by_what_it_was() {
    let mut device = device();
    let removal = signed(1, "pi-1", "web", 101, None);
    device
        .apply(&entry("web", 6, Some(removal.clone())))
        .unwrap();
    device.apply(&entry("web", 7, Some(web(100, "1")))).unwrap();
    assert_eq!(told(&device, "web"), "-");
    let why = Refusal::CounterNotAbove {
        counter: 100,
        highest: 101,
    };
    assert_eq!(refusal(&device, "web"), Some(why));
    // Its key may be cleared away.
    device.apply(&entry("web", 8, None)).unwrap();
    assert_eq!(
        (told(&device, "web").as_str(), device.refused().count()),
        ("-", 0)
    );
}

#[test]
fn removals_that_are_forgotten_leave_their_counters() {
    // As if each had been signed, which takes a while.
    let mut kept = serde_json::to_value(device()).unwrap();
    for n in 0..1005 {
        kept["keys"][format!("old-{n}")] = serde_json::json!({
            "revision": 10 + n, "good": null, "error": null, "gone": true, "bucket": "b1",
            "version": { "revision": 10 + n, "digest": "", "counter": 1000 + n },
        });
    }
    let device: Followed = serde_json::from_value(kept).unwrap();
    let device = device.obeying(rules(&[1], &[]));
    let listed = [entry("web", 5, Some(web(100, "1")))];
    let (mut device, _) = device.listed(Some(&marker()), &listed).unwrap();
    assert_eq!(told(&device, "old-0"), "hold");
    let replayed = signed(1, "pi-1", "old-0", 900, Some("0"));
    device.apply(&entry("old-0", 2000, Some(replayed))).unwrap();
    assert_eq!(told(&device, "old-0"), "hold");
    let why = Refusal::CounterNotAbove {
        counter: 900,
        highest: 1004,
    };
    assert_eq!(refusal(&device, "old-0"), Some(why));
    // The removal itself is still in the bucket, and is no trouble.
    let removal = signed(1, "pi-1", "old-1", 1001, None);
    device.apply(&entry("old-1", 2001, Some(removal))).unwrap();
    assert_eq!(told(&device, "old-1"), "-");
}

#[test]
fn keys_are_rotated_and_revoked() {
    let mut device = device().obeying(rules(&[1, 2], &[]));
    let by_new = |counter, tag| Some(signed(2, "pi-1", "web", counter, Some(tag)));
    device.apply(&entry("web", 6, by_new(101, "2"))).unwrap();
    assert_eq!(told(&device, "web"), "2");
    // The counter is the operators', whoever of them signs.
    device.apply(&entry("web", 7, Some(web(101, "3")))).unwrap();
    assert_eq!(told(&device, "web"), "2");
    let mut device = device.obeying(rules(&[2], &[1]));
    device.apply(&entry("web", 8, Some(web(102, "3")))).unwrap();
    assert_eq!(told(&device, "web"), "2");
    let revoked = Some(Refusal::RevokedKey { key: key(1) });
    assert_eq!(refusal(&device, "web"), revoked);
    let mut device = device.obeying(rules(&[2], &[]));
    device.apply(&entry("web", 9, Some(web(103, "3")))).unwrap();
    let unknown = Some(Refusal::UnknownKey { key: key(1) });
    assert_eq!(refusal(&device, "web"), unknown);
    device.apply(&entry("web", 10, by_new(104, "4"))).unwrap();
    assert_eq!(told(&device, "web"), "4");
}

#[test]
fn a_device_that_gets_keys_goes_on_with_what_it_runs() {
    let plain = |revision, tag| entry("web", revision, Some(score(tag).into_bytes()));
    let unsigned = Followed::default().listed(Some(&marker()), &[plain(5, "1")]);
    let mut device = unsigned.unwrap().0.obeying(rules(&[1], &[]));
    let (listed, _) = device.listed(Some(&marker()), &[plain(5, "1")]).unwrap();
    device = listed;
    assert_eq!(told(&device, "web"), "1");
    assert_eq!(refusal(&device, "web"), Some(Refusal::Unsigned));
    device.apply(&entry("web", 6, Some(web(1, "1")))).unwrap();
    assert_eq!(refusal(&device, "web"), None);
    // A device that loses its keys again obeys what is there.
    device.apply(&plain(7, "2")).unwrap();
    assert_eq!(told(&device, "web"), "1");
    let device = device.obeying(Rules::default());
    let (device, _) = device.listed(Some(&marker()), &[plain(7, "2")]).unwrap();
    assert_eq!(
        (told(&device, "web").as_str(), device.refused().count()),
        ("2", 0)
    );
    // Without keys a signature is not looked at, and no counter is remembered.
    let mut device = Followed::default();
    device.apply(&entry("web", 6, Some(web(9, "1")))).unwrap();
    assert_eq!(told(&device, "web"), "1");
    device.apply(&entry("web", 7, Some(web(8, "2")))).unwrap();
    assert_eq!(told(&device, "web"), "2");
    let removal = signed(9, "pi-1", "web", 1, None);
    device.apply(&entry("web", 8, Some(removal))).unwrap();
    assert_eq!(told(&device, "web"), "-");
}

#[test]
fn a_signed_score_that_cannot_be_read_counts_and_keeps_what_ran() {
    let mut device = device();
    let odd = Some(r#"{"type":"PodmanV9"}"#.to_owned());
    let odd = signing::signed(1, "pi-1", "web", 101, odd);
    device.apply(&entry("web", 6, Some(odd))).unwrap();
    assert_eq!(told(&device, "web"), "1");
    let desired = device.desired();
    let wanted = desired.wanted(&name("web")).unwrap();
    assert!(wanted.error.as_ref().unwrap().contains("unknown variant"));
    device.apply(&entry("web", 7, Some(web(101, "2")))).unwrap();
    assert_eq!(told(&device, "web"), "1");
}

#[test]
fn keys_that_nobody_signed_take_no_room() {
    let mut device = device();
    for n in 0..500 {
        let value = Some(score("2").into_bytes());
        device
            .apply(&entry(&format!("x-{n}"), 10 + n, value))
            .unwrap();
    }
    assert_eq!(device.refused().count(), 50);
    assert_eq!(told(&device, "web"), "1");
    device
        .apply(&entry("web", 600, Some(web(101, "2"))))
        .unwrap();
    let new = signed(1, "pi-1", "new", 102, Some("1"));
    device.apply(&entry("new", 601, Some(new))).unwrap();
    assert_eq!(
        (told(&device, "web"), told(&device, "new")),
        ("2".into(), "1".into())
    );
    // They are gone with their keys, be those deleted or not listed.
    device.apply(&entry("x-1", 602, None)).unwrap();
    assert_eq!(device.refused().count(), 49);
    let listed = [entry("web", 600, Some(web(101, "2")))];
    let (device, missing) = device.listed(Some(&marker()), &listed).unwrap();
    assert_eq!((device.refused().count(), missing), (0, vec![name("new")]));
}

#[test]
fn the_highest_counter_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(dir.path().to_owned(), &"pi-1".parse().unwrap());
    let mut memory = device();
    memory.apply(&entry("web", 6, Some(web(101, "2")))).unwrap();
    let kept = Kept {
        memory,
        ran: [].into(),
    };
    keeper.keep(&kept).unwrap();
    let recalled = keeper.recall().0.memory.obeying(rules(&[1], &[]));
    assert_eq!(recalled, kept.memory);
    for replayed in [web(100, "1"), web(101, "1")] {
        let mut device = recalled.clone();
        device.apply(&entry("web", 7, Some(replayed))).unwrap();
        assert_eq!(told(&device, "web"), "2");
    }
}

#[test]
fn a_file_that_was_put_back_is_healed_by_what_is_in_the_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(dir.path().to_owned(), &"pi-1".parse().unwrap());
    let keep = |memory: &Followed| {
        let memory = memory.clone();
        keeper
            .keep(&Kept {
                memory,
                ran: [].into(),
            })
            .unwrap();
    };
    let old = device();
    keep(&old);
    let earlier = std::fs::read(dir.path().join("desired-state")).unwrap();
    let mut new = old;
    new.apply(&entry("web", 8, Some(web(105, "5")))).unwrap();
    keep(&new);
    std::fs::write(dir.path().join("desired-state"), earlier).unwrap();
    let back = keeper.recall().0.memory.obeying(rules(&[1], &[]));
    // What is older than the file is refused, and what is newer is obeyed: the disk's owner decides how old that is.
    let mut replayed = back.clone();
    replayed
        .apply(&entry("web", 7, Some(web(100, "1"))))
        .unwrap();
    assert_eq!(told(&replayed, "web"), "1");
    replayed
        .apply(&entry("web", 7, Some(web(100, "1"))))
        .unwrap();
    let (healed, _) = back
        .listed(Some(&marker()), &[entry("web", 8, Some(web(105, "5")))])
        .unwrap();
    assert_eq!(told(&healed, "web"), "5");
    let mut healed = healed;
    healed.apply(&entry("web", 9, Some(web(104, "4")))).unwrap();
    assert_eq!(told(&healed, "web"), "5");
}
