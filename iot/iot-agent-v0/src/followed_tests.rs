//! What is believed of a bucket, and what is not.

use iot_contracts::{BucketMarker, DeploymentName};

use super::{Entry, Followed, Held, SeenMarker};
use crate::desired::Target;

fn name(name: &str) -> DeploymentName {
    name.parse().unwrap()
}

fn marker(id: &str, replaces: &[&str], revision: u64) -> SeenMarker {
    SeenMarker {
        marker: BucketMarker {
            id: id.parse().unwrap(),
            replaces: replaces.iter().map(|id| id.parse().unwrap()).collect(),
        },
        revision,
    }
}

fn score(tag: &str) -> Vec<u8> {
    format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}"}}]}}}}"#
    )
    .into_bytes()
}

fn put(key: &str, revision: u64, tag: &str) -> Entry {
    Entry {
        name: name(key),
        revision,
        value: Some(score(tag)),
    }
}

fn deleted(key: &str, revision: u64) -> Entry {
    Entry {
        name: name(key),
        revision,
        value: None,
    }
}

/// `web=1` or `-` or `hold`, for each name.
fn told(memory: &Followed, names: &[&str]) -> Vec<String> {
    let desired = memory.desired();
    let tell = |key: &&str| match desired.target(&name(key)) {
        Target::Absent => "-".to_owned(),
        Target::Hold => "hold".to_owned(),
        Target::Services(services) => services[0].image().as_str().replace("host/x:", ""),
    };
    names.iter().map(tell).collect()
}

/// A device that follows bucket b1, with web and db.
fn known() -> Followed {
    let listed = [put("web", 5, "1"), put("db", 7, "1")];
    let (memory, missing) = Followed::default()
        .listed(Some(&marker("b1", &[], 1)), &listed)
        .unwrap();
    assert!(missing.is_empty());
    memory
}

#[test]
fn a_bucket_is_followed_when_it_is_the_one_that_was_or_takes_its_place() {
    let known_id = || "b1".parse().unwrap();
    let cases = [
        (Some(marker("b1", &[], 1)), Ok(())),
        (Some(marker("b1", &[], 9)), Ok(())),
        (Some(marker("b2", &["b0", "b1"], 1)), Ok(())),
        (None, Err(Held::NoMarker { known: known_id() })),
        (
            Some(marker("b2", &["b0"], 100)),
            Err(Held::OtherBucket {
                known: known_id(),
                seen: "b2".parse().unwrap(),
            }),
        ),
        (
            Some(marker("b1", &[], 0)),
            Err(Held::WentBack {
                what: "its marker".to_owned(),
                known: 1,
                seen: 0,
            }),
        ),
    ];
    for (seen, expected) in cases {
        assert_eq!(known().judge(seen.as_ref()), expected, "{seen:?}");
        let listed = known().listed(seen.as_ref(), &[put("web", 5, "1"), put("db", 7, "1")]);
        assert_eq!(listed.map(drop), expected, "{seen:?}");
    }
    for seen in [None, Some(marker("b9", &[], 1))] {
        assert_eq!(Followed::default().judge(seen.as_ref()), Ok(()));
    }
}

#[test]
fn what_a_listing_does_not_have_is_missing_and_stays_until_that_is_certain() {
    let seen = marker("b1", &[], 1);
    let (mut memory, missing) = known().listed(Some(&seen), &[put("web", 5, "1")]).unwrap();
    assert_eq!(missing, [name("db")]);
    assert_eq!(told(&memory, &["web", "db", "other"]), ["1", "1", "hold"]);
    memory.vanished(&name("db"));
    assert_eq!(told(&memory, &["web", "db", "other"]), ["1", "-", "hold"]);
    assert_eq!(memory.revision(), 7);
    let unasked = memory.desired_unasked();
    assert_eq!(unasked.target(&name("db")), Target::Hold);
    assert!(matches!(unasked.target(&name("web")), Target::Services(_)));
    // What is gone is not missed again.
    let (memory, missing) = memory.listed(Some(&seen), &[put("web", 5, "1")]).unwrap();
    assert!(missing.is_empty());
    assert_eq!(told(&memory, &["db"]), ["-"]);
}

#[test]
fn a_mark_of_deletion_is_one_in_a_listing_and_alone() {
    let seen = marker("b1", &[], 1);
    let listed = [put("web", 5, "1"), deleted("db", 8)];
    let (mut memory, missing) = known().listed(Some(&seen), &listed).unwrap();
    assert!(missing.is_empty());
    assert_eq!(told(&memory, &["web", "db"]), ["1", "-"]);
    memory.apply(&deleted("web", 9)).unwrap();
    memory.apply(&put("db", 10, "2")).unwrap();
    assert_eq!(told(&memory, &["web", "db"]), ["-", "2"]);
    assert_eq!(memory.revision(), 10);
}

#[test]
fn nothing_older_than_what_is_known_is_applied() {
    let went_back = |seen| {
        Err(Held::WentBack {
            what: "web".to_owned(),
            known: 5,
            seen,
        })
    };
    let other = Err(Held::OtherHistory {
        what: "web".to_owned(),
        revision: 5,
    });
    let cases = [
        (put("web", 5, "1"), Ok(true)),
        (put("web", 6, "2"), Ok(true)),
        (put("web", 4, "0"), went_back(4)),
        (deleted("web", 2), went_back(2)),
        (put("web", 5, "2"), other.clone()),
        (deleted("web", 5), other),
    ];
    for (entry, expected) in cases {
        let mut memory = known();
        assert_eq!(memory.apply(&entry), expected, "{entry:?}");
        if expected.is_err() {
            assert_eq!(memory, known());
        }
        let listed = known().listed(
            Some(&marker("b1", &[], 1)),
            &[put("db", 8, "2"), entry.clone()],
        );
        assert_eq!(listed.map(|_| true), expected, "{entry:?}");
    }
}

#[test]
fn a_bucket_that_takes_anothers_place_starts_at_its_own_revisions() {
    let seen = marker("b2", &["b1"], 1);
    let (memory, missing) = known().listed(Some(&seen), &[put("web", 2, "2")]).unwrap();
    assert_eq!(missing, [name("db")]);
    assert_eq!(told(&memory, &["web", "db"]), ["2", "1"]);
    assert_eq!(memory.revision(), 2);
    // From now on that is the bucket.
    assert!(memory.judge(Some(&marker("b1", &[], 9))).is_err());
}

#[test]
fn a_bucket_takes_the_place_of_one_without_a_marker_when_it_says_so() {
    let listed = [put("web", 5, "1"), put("db", 7, "1")];
    let (unmarked, _) = Followed::default().listed(None, &listed).unwrap();
    let anew = [put("web", 2, "2")];
    for seen in [None, Some(marker("b1", &["b0"], 1))] {
        let held = unmarked.listed(seen.as_ref(), &anew).map(drop);
        let went_back = Held::WentBack {
            what: "web".to_owned(),
            known: 5,
            seen: 2,
        };
        assert_eq!(held, Err(went_back), "{seen:?}");
    }
    assert_eq!(unmarked.bucket_name(), "unmarked");
    let seen = marker("b1", &["unmarked"], 1);
    let (memory, missing) = unmarked.listed(Some(&seen), &anew).unwrap();
    assert_eq!(missing, [name("db")]);
    assert!(memory.never_vanishes(&name("db")).is_some());
    assert_eq!(told(&memory, &["web", "db"]), ["2", "1"]);
    assert_eq!((memory.bucket_name(), memory.revision()), ("b1", 2));
    // That is said of buckets without a marker only, and once.
    let anew = [put("web", 1, "0")];
    assert!(memory.listed(Some(&seen), &anew).is_err());
    let other = marker("b2", &["unmarked"], 1);
    assert!(memory.judge(Some(&other)).is_err());
}

#[test]
fn a_value_that_cannot_be_read_keeps_the_last_good_one_and_says_why() {
    let bad = |revision| Entry {
        value: Some(b"{".to_vec()),
        ..put("web", revision, "")
    };
    let mut memory = known();
    memory.apply(&bad(8)).unwrap();
    assert_eq!(told(&memory, &["web", "db"]), ["1", "1"]);
    let error = |memory: &Followed| {
        let desired = memory.desired();
        desired.wanted(&name("web")).unwrap().error.clone()
    };
    assert!(error(&memory).unwrap().starts_with("EOF while parsing"));
    // Another version of the agent may be able to read it.
    memory.apply(&put("web", 8, "2")).unwrap();
    assert_eq!(told(&memory, &["web"]), ["2"]);
    assert_eq!(error(&memory), None);
    let mut first = Followed::default();
    first.apply(&bad(1)).unwrap();
    assert_eq!(told(&first, &["web"]), ["hold"]);
}

#[test]
fn a_bucket_without_a_marker_is_followed_where_none_was_known() {
    let (memory, missing) = Followed::default()
        .listed(None, &[put("web", 5, "1")])
        .unwrap();
    assert!(missing.is_empty());
    let (memory, missing) = memory.listed(None, &[]).unwrap();
    assert_eq!(missing, [name("web")]);
    let kept = memory.never_vanishes(&name("web"));
    assert_eq!(kept, Some("in a bucket that has no marker"));
}

#[test]
fn a_key_vanishes_only_from_a_bucket_that_had_it() {
    let listed = [put("web", 5, "1"), put("db", 7, "1")];
    let (unmarked, _) = Followed::default().listed(None, &listed).unwrap();
    // The platform marks the bucket that is there: its keys are seen in it then.
    let (same, _) = unmarked
        .listed(Some(&marker("b1", &[], 8)), &listed)
        .unwrap();
    let (same, missing) = same
        .listed(Some(&marker("b1", &[], 8)), &listed[..1])
        .unwrap();
    assert_eq!(missing, [name("db")]);
    assert_eq!(same.never_vanishes(&name("db")), None);
    assert_eq!(same.revision(), 8);
    // Another bucket had one of them, and knows nothing of the other one, nor of its revision.
    let (mut other, missing) = unmarked
        .listed(Some(&marker("b2", &[], 1)), &[put("web", 6, "1")])
        .unwrap();
    assert_eq!(missing, [name("db")]);
    let kept = other.never_vanishes(&name("db"));
    assert_eq!(kept, Some("was never seen in this bucket"));
    assert_eq!(other.never_vanishes(&name("web")), None);
    assert_eq!(other.revision(), 6);
    assert_eq!(told(&other, &["web", "db"]), ["1", "1"]);
    other.apply(&deleted("db", 8)).unwrap();
    assert_eq!(told(&other, &["web", "db"]), ["1", "-"]);
}

#[test]
fn what_an_earlier_version_kept_was_seen_in_no_bucket_until_it_is_listed() {
    let mut json = serde_json::to_value(known()).unwrap();
    for known in json["keys"].as_object_mut().unwrap().values_mut() {
        assert_eq!(
            known.as_object_mut().unwrap().remove("bucket").unwrap(),
            "b1"
        );
    }
    let memory: Followed = serde_json::from_value(json).unwrap();
    let seen = marker("b1", &[], 1);
    let (memory, _) = memory.listed(Some(&seen), &[put("web", 5, "1")]).unwrap();
    assert_eq!(memory.never_vanishes(&name("web")), None);
    assert!(memory.never_vanishes(&name("db")).is_some());
}

#[test]
fn keys_that_are_long_gone_are_forgotten() {
    let mut memory = known();
    for n in 0..1005 {
        memory.apply(&deleted(&format!("old-{n}"), 10 + n)).unwrap();
    }
    let listed = [put("web", 5, "1"), put("db", 7, "1")];
    let (memory, _) = memory.listed(Some(&marker("b1", &[], 1)), &listed).unwrap();
    assert_eq!(
        told(&memory, &["web", "old-4", "old-5", "old-1004"]),
        ["1", "hold", "-", "-"]
    );
}

/// A value of nearly as many bytes as the bucket takes.
fn large(key: &str, revision: u64, tag: &str) -> Entry {
    let text = "x".repeat(250 * 1024);
    let value = format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}","env":{{"A":"{text}"}}}}]}}}}"#
    );
    Entry {
        name: name(key),
        revision,
        value: Some(value.into_bytes()),
    }
}

/// Why the value of that deployment is not brought about.
fn error(memory: &Followed, key: &str) -> Option<String> {
    let desired = memory.desired();
    desired
        .wanted(&name(key))
        .and_then(|wanted| wanted.error.clone())
}

#[test]
fn what_there_is_no_room_for_harms_itself_only() {
    let keys: Vec<_> = (0..10).map(|n| format!("d{n:02}")).collect();
    let mut entries: Vec<_> = keys.iter().map(|key| large(key, 1, "1")).collect();
    entries.push(put("web", 1, "1"));
    let (mut memory, missing) = Followed::default().listed(None, &entries).unwrap();
    assert!(missing.is_empty());
    let refused: Vec<_> = keys
        .iter()
        .filter(|key| error(&memory, key).is_some())
        .collect();
    assert_eq!(refused, ["d08", "d09"]);
    let why = error(&memory, "d08").unwrap();
    assert!(why.starts_with("there is no room for it"), "{why}");
    assert_eq!(
        told(&memory, &["d00", "d07", "d08", "web"]),
        ["1", "1", "hold", "1"]
    );
    assert!(!memory.has_room_again());
    // What is there already may change, and what grows runs on as it was.
    memory.apply(&large("d00", 2, "2")).unwrap();
    memory.apply(&large("web", 2, "2")).unwrap();
    assert_eq!(told(&memory, &["d00", "web"]), ["2", "1"]);
    assert!(error(&memory, "web").is_some());
    memory.apply(&deleted("d01", 3)).unwrap();
    assert!(memory.has_room_again());
    let (memory, _) = memory.listed(None, &[large("d08", 1, "1")]).unwrap();
    assert_eq!(
        (error(&memory, "d08"), memory.has_room_again()),
        (None, false)
    );
}

#[test]
fn a_deployment_too_many_is_not_taken_until_another_goes() {
    let entries: Vec<_> = (0..1001)
        .map(|n| put(&format!("d{n:04}"), 1, "1"))
        .collect();
    let mut listing = Followed::default().listing(None).unwrap();
    let taken: Vec<_> = entries.iter().map(|entry| listing.take(entry)).collect();
    assert_eq!(taken.iter().position(|taken| !taken), Some(1000));
    let (mut memory, _) = listing.end().unwrap();
    assert_eq!(memory.there().count(), 1000);
    assert!(!memory.has_room_again());
    assert!(memory.apply(&put("d0007", 2, "2")).unwrap());
    assert!(!memory.apply(&put("d1000", 1, "1")).unwrap());
    memory.apply(&deleted("d0007", 3)).unwrap();
    assert!(memory.has_room_again());
    assert!(memory.apply(&put("d1000", 1, "1")).unwrap());
    assert!(!memory.has_room_again());
}
