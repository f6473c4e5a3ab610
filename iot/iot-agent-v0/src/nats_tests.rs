//! The whole agent with the scripted executor against a real server of its own.

use std::time::Duration;

use iot_contracts::{AgentStatus, DESIRED_STATE_BUCKET, KvBucket, Phase};

use super::Nats;
use super::platform::{Platform, config, score, until, with_agent, with_keeper};
use super::server::{Server, bucket_config, free_port};
use crate::fake::FakePodman;

#[tokio::test]
#[ignore = "needs nats-server: runs one on loopback, and the agent with a scripted executor"]
async fn follows_the_desired_state_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    with_agent(port, &podman, async {
        let platform = Platform::of(port).await;
        let first = platform.report("any", |_| true).await;
        assert_eq!(first.architecture, std::env::consts::ARCH);
        let later = |report: &AgentStatus| report.sequence >= first.sequence + 2;
        let heartbeat = platform.report("two heartbeats later", later).await;
        assert_eq!(heartbeat.boot_id, first.boot_id);
        assert!(heartbeat.timestamp_unix_ms > first.timestamp_unix_ms);

        platform.put("pi-2.web", &score("1")).await;
        platform.put("pi-1.web", &score("1")).await;
        assert_eq!(platform.phase("web", Phase::Running).await, None);
        assert_eq!(podman.take_log(), ["image host/x:1", "create web.a"]);

        platform.put("pi-1.web", r#"{"type":"PodmanV9"}"#).await;
        let detail = platform.phase("web", Phase::Failed).await.unwrap();
        let expected = "type: unknown variant, expected `PodmanV0` or `PodmanV1`";
        assert!(detail.ends_with(expected), "{detail}");
        assert_eq!(podman.running(), ["web.a"]);

        platform.put("pi-1.web", &score("2")).await;
        platform.phase("web", Phase::Running).await;
        assert_eq!(
            podman.take_log()[..3],
            ["image host/x:2", "set aside web.a", "create web.a"]
        );
        platform.desired.delete("pi-1.web").await.unwrap();
        platform.gone("web").await;
        assert_eq!(podman.take_log().last().unwrap(), "remove web.a");

        platform.put("pi-1.db", &score("1")).await;
        platform.phase("db", Phase::Running).await;
        platform.desired.purge("pi-1.db").await.unwrap();
        platform.gone("db").await;
        assert!(podman.running().is_empty());
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: kills it and starts it again, with a deletion meanwhile"]
async fn survives_an_outage_and_notices_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let podman = FakePodman::default();
    // The agent starts before any server.
    with_agent(port, &podman, async {
        let server = Server::start(dir.path(), port);
        let platform = Platform::of(port).await;
        platform.put("pi-1.old", &score("1")).await;
        platform.put("pi-1.web", &score("1")).await;
        platform.phase("old", Phase::Running).await;
        platform.phase("web", Phase::Running).await;
        drop(server);

        // The same data on another port: the platform acts while the agent is cut off. Not even
        // the mark of the deletion is left, so that only a new listing can notice it.
        let elsewhere = free_port();
        let server = Server::start(dir.path(), elsewhere);
        let stream = Platform::of(elsewhere).await.desired.stream;
        stream
            .purge()
            .filter("$KV.desired-state.pi-1.old")
            .await
            .unwrap();
        drop(server);
        podman.cut_power();
        assert_eq!(podman.take_log().len(), 3);

        let _server = Server::start(dir.path(), port);
        let platform = Platform::of(port).await;
        platform.gone("old").await;
        platform.phase("web", Phase::Running).await;
        assert_eq!(podman.running(), ["web.a"]);
        platform.put("pi-1.new", &score("1")).await;
        platform.phase("new", Phase::Running).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: starts the agent anew beside running containers"]
async fn a_new_agent_takes_over_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    with_agent(port, &podman, async {
        let platform = Platform::of(port).await;
        platform.put("pi-1.old", &score("1")).await;
        platform.put("pi-1.web", &score("1")).await;
        platform.phase("old", Phase::Running).await;
        platform.phase("web", Phase::Running).await;
    })
    .await;
    assert_eq!(podman.running(), ["old.a", "web.a"]);
    podman.take_log();
    let platform = Platform::of(port).await;
    platform.desired.delete("pi-1.old").await.unwrap();
    with_agent(port, &podman, platform.gone("old")).await;
    assert_eq!(podman.take_log(), ["remove old.a"]);
    assert_eq!(podman.running(), ["web.a"]);
}

#[tokio::test]
#[ignore = "needs nats-server: runs one on loopback and never makes a bucket"]
async fn a_device_makes_no_bucket_and_says_that_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    std::fs::write(dir.path().join("desired-state"), "x").unwrap();
    with_keeper(port, &podman, Some(dir.path()), async {
        let nats = Nats::connect(&config(port)).await;
        let mut connections = nats.connections();
        connections.wait_for(|count| *count > 0).await.unwrap();
        // Where it could report, it says why it does not follow.
        let status = loop {
            if let Some(status) = Platform::bucket(&nats, &KvBucket::AGENT_STATUS).await {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let missing = nats.context.get_key_value(DESIRED_STATE_BUCKET).await;
        assert!(missing.is_err());
        let platform = Platform {
            desired: status.clone(),
            status,
            nats,
        };
        let problem = platform.problem("not followed").await;
        assert!(
            problem.contains("there is no bucket 'desired-state'"),
            "{problem}"
        );
        // It says as well that what it had kept is of no use.
        let problem = platform.problem("kept on the device is ignored").await;
        assert!(problem.contains("it has another format"), "{problem}");
        let nats = &platform.nats;
        let missing = nats.context.get_key_value(DESIRED_STATE_BUCKET).await;
        assert!(missing.is_err(), "the device made the bucket");
        let platform = Platform::of(port).await;
        platform.put("pi-1.web", &score("1")).await;
        platform.phase("web", Phase::Running).await;
        platform.no_problem().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: deletes the bucket below a running agent and makes it anew, empty and with one key"]
async fn a_bucket_that_is_lost_or_made_anew_removes_nothing_until_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::of(port).await;
    with_agent(port, &podman, async {
        platform.put("pi-1.web", &score("1")).await;
        platform.put("pi-1.db", &score("1")).await;
        platform.phase("web", Phase::Running).await;
        platform.phase("db", Phase::Running).await;
        assert_eq!(podman.take_log().len(), 3);
        let held = async |why: &str| {
            let problem = platform.problem(why).await;
            assert!(
                problem.starts_with("desired state not followed: "),
                "{problem}"
            );
            assert_eq!(podman.running().len(), 2, "{problem}");
            assert_eq!(podman.take_log(), [""; 0], "{problem}");
        };

        platform.lose_the_bucket().await;
        held("there is no bucket 'desired-state'").await;
        let anew = Platform::without_marker(port).await;
        anew.put("pi-1.web", &score("7")).await;
        held("no marker, and bucket b1 was followed").await;
        platform.lose_the_bucket().await;

        let anew = Platform::without_marker(port).await;
        let revision = anew.mark(r#"{"id":"b2"}"#, 0).await.unwrap();
        anew.put("pi-1.web", &score("7")).await;
        held("it is bucket b2, which does not take the place of b1").await;

        anew.mark(r#"{"id":"b3","replaces":["b2","b1"]}"#, revision)
            .await
            .unwrap();
        platform.no_problem().await;
        platform.gone("db").await;
        assert_eq!(platform.phase("web", Phase::Running).await, None);
        assert_eq!(podman.running(), ["web.a"]);
        assert!(podman.take_log().contains(&"image host/x:7".to_owned()));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: makes the bucket anew with the marker that it had, below a running agent"]
async fn a_bucket_whose_revisions_went_back_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::of(port).await;
    with_agent(port, &podman, async {
        for tag in ["1", "2", "3"] {
            platform.put("pi-1.web", &score(tag)).await;
        }
        platform.phase("web", Phase::Running).await;
        for (key, why) in [
            (None, "the bucket as a whole is at revision 1, and was at 4"),
            (Some("pi-1.web"), "web is at revision 2, and was at 4"),
        ] {
            platform.lose_the_bucket().await;
            platform.problem("there is no bucket").await;
            let anew = Platform::of(port).await;
            if let Some(key) = key {
                anew.put(key, &score("1")).await;
            }
            platform.problem(why).await;
            assert_eq!(podman.running(), ["web.a"]);
            assert!(!podman.take_log().contains(&"remove web.a".to_owned()));
        }
        let anew = Platform::of(port).await;
        anew.mark(r#"{"id":"b2","replaces":["b1"]}"#, 1)
            .await
            .unwrap();
        platform.no_problem().await;
        platform.phase("web", Phase::Running).await;
        assert!(podman.take_log().contains(&"image host/x:1".to_owned()));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: a bucket whose entries expire by themselves"]
async fn an_entry_that_expires_is_no_order_to_remove() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let state = Some(dir.path());
    let platform = Platform::of(port).await;
    let lasting = async |max_age| {
        let mut config = bucket_config(&KvBucket::DESIRED_STATE);
        config.max_age = max_age;
        config.duplicate_window = config.duplicate_window.min(max_age);
        platform.nats.context.update_stream(config).await.unwrap();
    };
    with_keeper(port, &podman, state, async {
        platform.put("pi-1.web", &score("1")).await;
        platform.phase("web", Phase::Running).await;
        let file = dir.path().join("desired-state");
        until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.contains("web"))).await;
    })
    .await;
    lasting(Duration::from_secs(1)).await;
    let entries = async || {
        platform
            .desired
            .stream
            .get_info()
            .await
            .unwrap()
            .state
            .messages
    };
    while entries().await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    lasting(Duration::from_secs(3600)).await;
    with_keeper(port, &podman, state, async {
        platform
            .problem("no marker, and bucket b1 was followed")
            .await;
        // The bucket is the same again, and the key is missing.
        platform.write_raw("_bucket", r#"{"id":"b1"}"#).await;
        let problem = platform.problem("pi-1.web").await;
        assert!(problem.contains("whose entries expire"), "{problem}");
        assert_eq!(podman.running(), ["web.a"]);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: keys that no client of the protocol would write, and a value that is too long"]
async fn an_odd_key_harms_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::of(port).await;
    let mut large = bucket_config(&KvBucket::DESIRED_STATE);
    large.max_message_size = 512 * 1024;
    platform.nats.context.update_stream(large).await.unwrap();
    for key in ["pi-1.web:1", "pi-1.we\u{1b}b", "pi-1.Web_App", "pi-1.a.b"] {
        platform.write_raw(key, "{}").await;
    }
    platform
        .put("pi-1.big", &format!("\"{}\"", "s3cr3t".repeat(50_000)))
        .await;
    platform.put("pi-1.bad", r#"{"type":"PodmanV0","data":{"services":[{"name":"a","image":"i","env":"A=s3cr3t"}]}}"#).await;
    platform.put("pi-1.web", &score("1")).await;
    with_agent(port, &podman, async {
        assert_eq!(platform.phase("web", Phase::Running).await, None);
        let detail = platform.phase("bad", Phase::Failed).await.unwrap();
        assert!(
            detail.ends_with("data.services[0].env: invalid type, expected a map"),
            "{detail}"
        );
        let detail = platform.phase("big", Phase::Failed).await.unwrap();
        assert!(
            detail.ends_with("it has 300002 bytes (expected at most 262144)"),
            "{detail}"
        );
        let report = platform.report("all", |_| true).await;
        let starts = |problem: &String| problem.split_once("': ").unwrap().0.to_owned();
        let told: Vec<_> = report.problems.iter().map(starts).collect();
        assert_eq!(
            told,
            [
                "key 'pi-1.Web_App",
                "key 'pi-1.a.b",
                "key 'pi-1.we\\u{1b}b",
                "key 'pi-1.web:1"
            ]
        );
        assert!(!serde_json::to_string(&report).unwrap().contains("s3cr3t"));
        // A change of it while it is followed harms nobody either.
        platform.write_raw("pi-1.web~x", "{}").await;
        platform.problem("pi-1.web~x").await;
        platform.put("pi-1.db", &score("1")).await;
        platform.phase("db", Phase::Running).await;
        assert_eq!(podman.running(), ["db.a", "web.a"]);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: starts the agent anew while it is away, then with it"]
async fn what_was_desired_last_is_brought_about_while_nats_is_away() {
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
    drop(server);
    // The power goes between a removal and a creation; what is gone stays so.
    let podman = FakePodman::default();
    let boot = async || {
        with_keeper(port, &podman, Some(&state), async {
            until(|| podman.running() == ["web.a"]).await;
        })
        .await;
    };
    boot().await;
    // The server is back with nothing: an empty store of another disk.
    let _server = Server::start(&dir.path().join("state"), port);
    with_keeper(port, &podman, Some(&state), async {
        let platform = Platform::without_marker(port).await;
        platform.mark(r#"{"id":"b2"}"#, 0).await.unwrap();
        platform
            .problem("bucket b2, which does not take the place of b1")
            .await;
        assert_eq!(podman.running(), ["web.a"]);
    })
    .await;
    // A file that is damaged is none: nothing is known, and nothing removed.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    podman.cut_power();
    with_keeper(port, &podman, Some(&state), async {
        let platform = Platform::of(port).await;
        platform.no_problem().await;
        until(|| podman.running() == ["web.a"]).await;
        until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"b2\""))).await;
    })
    .await;
    assert_eq!(podman.running(), ["web.a"]);
}

#[tokio::test]
#[ignore = "needs nats-server: marks the bucket after the agent has begun to follow it"]
async fn a_marker_that_comes_late_is_learnt_soon() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::without_marker(port).await;
    platform.put("pi-1.web", &score("1")).await;
    with_keeper(port, &podman, Some(dir.path()), async {
        platform.phase("web", Phase::Running).await;
        platform.mark(r#"{"id":"b1"}"#, 0).await.unwrap();
        let file = dir.path().join("desired-state");
        until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"b1\""))).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: ten values of nearly the largest size"]
async fn what_there_is_no_room_for_is_told_and_comes_in_when_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let platform = Platform::of(port).await;
    let text = "x".repeat(250 * 1024);
    let large = format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:1","env":{{"A":"{text}"}}}}]}}}}"#
    );
    for n in 0..10 {
        platform.put(&format!("pi-1.d{n:02}"), &large).await;
    }
    platform.put("pi-1.web", &score("1")).await;
    let podman = FakePodman::default();
    with_agent(port, &podman, async {
        platform.phase("web", Phase::Running).await;
        let detail = platform.phase("d09", Phase::Failed).await.unwrap();
        assert!(detail.contains("there is no room for it"), "{detail}");
        platform.phase("d07", Phase::Running).await;
        for gone in ["pi-1.d00", "pi-1.d01"] {
            platform.desired.delete(gone).await.unwrap();
        }
        platform.phase("d08", Phase::Running).await;
        platform.phase("d09", Phase::Running).await;
        platform.phase("web", Phase::Running).await;
    })
    .await;
}
