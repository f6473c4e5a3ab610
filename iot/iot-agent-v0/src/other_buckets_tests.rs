//! What becomes of what is known when the bucket becomes another one, or its entries go by themselves.

use std::time::Duration;

use async_nats::HeaderMap;
use iot_contracts::Phase;

use super::platform::{Platform, config, score, until, with_agent, with_keeper};
use super::server::{Server, free_port};
use crate::bucket::Bucket;
use crate::changes::Changes;
use crate::fake::FakePodman;

#[tokio::test]
#[ignore = "needs nats-server: makes a bucket that had no marker anew, with one and without a key"]
async fn a_key_that_a_bucket_never_had_is_not_missed_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::without_marker(port).await;
    with_agent(port, &podman, async {
        platform.put("pi-1.web", &score("1")).await;
        platform.put("pi-1.db", &score("1")).await;
        platform.phase("web", Phase::Running).await;
        platform.phase("db", Phase::Running).await;
        platform.lose_the_bucket().await;
        platform.problem("there is no bucket").await;
        let anew = Platform::of(port).await;
        for tag in ["2", "3", "4"] {
            anew.put("pi-1.web", &score(tag)).await;
        }
        let problem = platform.problem("pi-1.db").await;
        assert!(
            problem.contains("was never seen in this bucket"),
            "{problem}"
        );
        assert_eq!(podman.running(), ["db.a", "web.a"]);
        // Who names it may remove it.
        anew.desired.delete("pi-1.db").await.unwrap();
        platform.gone("db").await;
        platform.no_problem().await;
        assert_eq!(podman.running(), ["web.a"]);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: makes a bucket without a marker anew, at lower revisions"]
async fn a_bucket_without_a_marker_is_replaced_on_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::without_marker(port).await;
    with_agent(port, &podman, async {
        for tag in ["1", "2", "3"] {
            platform.put("pi-1.web", &score(tag)).await;
        }
        until(|| podman.take_log().contains(&"image host/x:3".to_owned())).await;
        platform.lose_the_bucket().await;
        platform.problem("there is no bucket").await;
        let anew = Platform::without_marker(port).await;
        anew.put("pi-1.web", &score("7")).await;
        let problem = platform.problem("web is at revision 1, and was at 3").await;
        assert!(problem.contains("replaces 'unmarked'"), "{problem}");
        anew.mark(r#"{"id":"b1","replaces":["unmarked"]}"#, 0)
            .await
            .unwrap();
        platform.no_problem().await;
        until(|| podman.take_log().contains(&"image host/x:7".to_owned())).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: keeps that a deployment is gone, and has it made again without keeping that"]
async fn what_is_kept_removes_nothing_before_nats_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (state, port) = (dir.path().join("state"), free_port());
    std::fs::create_dir(&state).unwrap();
    let file = state.join("desired-state");
    let podman = FakePodman::default();
    let server = Server::start(dir.path(), port);
    let platform = Platform::of(port).await;
    with_keeper(port, &podman, Some(&state), async {
        platform.put("pi-1.web", &score("1")).await;
        platform.put("pi-1.old", &score("1")).await;
        platform.phase("web", Phase::Running).await;
        platform.phase("old", Phase::Running).await;
        platform.desired.delete("pi-1.old").await.unwrap();
        platform.gone("old").await;
        until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"gone\":true")))
            .await;
    })
    .await;
    with_agent(port, &podman, async {
        platform.put("pi-1.old", &score("2")).await;
        platform.phase("old", Phase::Running).await;
    })
    .await;
    drop(server);
    podman.cut_power();
    podman.take_log();
    with_keeper(port, &podman, Some(&state), async {
        until(|| podman.running() == ["old.a", "web.a"]).await;
    })
    .await;
    assert!(!podman.take_log().contains(&"remove old.a".to_owned()));
    // What was deleted while the device was away goes once that is said.
    let _server = Server::start(dir.path(), port);
    let platform = Platform::of(port).await;
    platform.desired.delete("pi-1.old").await.unwrap();
    with_keeper(port, &podman, Some(&state), async {
        until(|| podman.running() == ["web.a"]).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: writes what a server writes when an entry expires, and lets that go too"]
async fn the_mark_of_an_expiry_is_no_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::of(port).await;
    let state = Some(dir.path());
    let file = dir.path().join("desired-state");
    with_keeper(port, &podman, state, async {
        platform.put("pi-1.web", &score("1")).await;
        platform.phase("web", Phase::Running).await;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Marker-Reason", "MaxAge");
        let subject = "$KV.desired-state.pi-1.web";
        let context = &platform.nats.context;
        let sent = context.publish_with_headers(subject, headers, "".into());
        sent.await.unwrap().await.unwrap();
        platform.problem("its entry expired").await;
        until(|| {
            std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"expired\":true"))
        })
        .await;
    })
    .await;
    let kept = async || {
        with_keeper(port, &podman, state, async {
            // The problem of the last run is in its last report.
            let from = platform.report("any", |_| true).await.sequence;
            let report = platform.report("a new one", |report| {
                report.sequence != from && report.problems.len() == 1
            });
            let problem = report.await.problems.remove(0);
            assert!(
                problem.contains("not listed, its entry expired"),
                "{problem}"
            );
            assert_eq!(podman.running(), ["web.a"]);
        })
        .await;
    };
    kept().await;
    let purge = platform.desired.stream.purge();
    purge.filter("$KV.desired-state.pi-1.web").await.unwrap();
    kept().await;
    with_keeper(port, &podman, state, async {
        platform.put("pi-1.web", &score("2")).await;
        platform.no_problem().await;
        until(|| podman.take_log().contains(&"image host/x:2".to_owned())).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: waits as long as a request stands (30 s) for an entry that was purged"]
async fn a_listing_ends_whose_entries_are_purged_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let platform = Platform::of(port).await;
    let (config, context) = (config(port), &platform.nats.context);
    let device_id = config.device_id();
    let bucket = Bucket::new(context, device_id, Duration::from_secs(5));
    drop(bucket.changes().await.unwrap());
    let mut changes = Changes::begin(context, device_id, 1).await.unwrap();
    let listing = tokio::time::timeout(Duration::from_secs(45), changes.listing(drop));
    let error = listing.await.expect("it ends").unwrap_err();
    let expected = "the changes ended: entries that were there did not come";
    assert_eq!(error.to_string(), expected);
}
