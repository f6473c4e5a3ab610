//! The whole agent with the scripted executor against a real server of its own.

use std::time::Duration;

use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use futures::TryStreamExt;
use iot_contracts::{AGENT_STATUS_BUCKET, AgentConfig, AgentStatus, DESIRED_STATE_BUCKET, Phase};

use super::Nats;
use super::server::{Server, free_port};
use crate::agent;
use crate::config::Loaded;
use crate::fake::FakePodman;
use crate::status::Identity;

/// How long any awaited event may take.
const LIMIT: Duration = Duration::from_secs(30);

fn config(port: u16) -> Loaded {
    let toml = format!(
        "device_id = \"pi-1\"\nheartbeat_seconds = 1\n[nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
         credentials = {{ type = \"user-password\", username = \"device\", password = \"hunter2\" }}\n"
    );
    Loaded::for_test(toml::from_str::<AgentConfig>(&toml).unwrap())
}

/// The platform's view.
struct Platform {
    desired: Store,
    status: Store,
}

impl Platform {
    /// Waits for the server and for the buckets, which the agent makes.
    async fn of(port: u16) -> Self {
        let nats = Nats::connect(&config(port)).await;
        let opening = async {
            nats.connections()
                .wait_for(|count| *count > 0)
                .await
                .unwrap();
            loop {
                // Nothing tells of a bucket that is not there yet.
                let desired = nats.context.get_key_value(DESIRED_STATE_BUCKET).await;
                let status = nats.context.get_key_value(AGENT_STATUS_BUCKET).await;
                if let (Ok(desired), Ok(status)) = (desired, status) {
                    return Self { desired, status };
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, opening)
            .await
            .expect("the buckets are made")
    }

    async fn put(&self, key: &str, score: &str) {
        self.desired
            .put(key, score.to_owned().into())
            .await
            .unwrap();
    }

    /// Waits for a report that is as expected, beginning with the newest that is there.
    async fn report(&self, what: &str, expected: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let mut last = None;
        let awaited = async {
            let mut reports = self.status.watch_with_history("status.pi-1").await.unwrap();
            while let Some(entry) = reports.try_next().await.unwrap() {
                let report: AgentStatus = serde_json::from_slice(&entry.value).unwrap();
                if expected(&report) {
                    return report;
                }
                last = Some(report);
            }
            panic!("the subscription ended");
        };
        match tokio::time::timeout(LIMIT, awaited).await {
            Ok(report) => report,
            Err(_) => panic!("no report with: {what}; the last: {last:?}"),
        }
    }

    async fn phase(&self, deployment: &str, phase: Phase) -> Option<String> {
        let name = deployment.parse().unwrap();
        let report = self
            .report(&format!("{deployment} {phase:?}"), |report| {
                report.deployments.get(&name).map(|status| status.phase) == Some(phase)
            })
            .await;
        report.deployments[&name].detail.clone()
    }

    async fn gone(&self, deployment: &str) {
        let name = deployment.parse().unwrap();
        let is_gone = |report: &AgentStatus| !report.deployments.contains_key(&name);
        self.report(&format!("no {deployment}"), is_gone).await;
    }
}

fn score(tag: &str) -> String {
    format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}"}}]}}}}"#
    )
}

/// The stream that the server made of a bucket, its own defaults filled in.
fn bucket_config(name: &str, history: i64) -> Config {
    Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: history,
        max_message_size: 262_144,
        max_bytes: -1,
        max_messages: -1,
        max_consumers: -1,
        duplicate_window: Duration::from_secs(120),
        discard: DiscardPolicy::New,
        num_replicas: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

/// Runs the agent beside `scenario`, until that ends.
async fn with_agent(port: u16, podman: &FakePodman, scenario: impl Future<Output = ()>) {
    let config = config(port);
    let identity = Identity::of_this_device(config.device_id().clone()).unwrap();
    tokio::select! {
        ended = agent::run(&config, identity, podman, None) => panic!("the agent ended: {ended:?}"),
        () = scenario => {}
    }
}

#[tokio::test]
#[ignore = "needs nats-server: runs one on loopback, and the agent with a scripted executor"]
async fn follows_the_desired_state_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    with_agent(port, &podman, async {
        let platform = Platform::of(port).await;
        for (store, name, history) in [
            (&platform.desired, "desired-state", 8),
            (&platform.status, "agent-status", 1),
        ] {
            let made = store.stream.cached_info().config.clone();
            assert_eq!(made, bucket_config(name, history));
        }
        let first = platform.report("any", |_| true).await;
        assert_eq!(first.architecture, std::env::consts::ARCH);
        let later = |report: &AgentStatus| report.sequence >= first.sequence + 2;
        let heartbeat = platform.report("two heartbeats later", later).await;
        assert_eq!(heartbeat.boot_id, first.boot_id);
        assert!(heartbeat.timestamp_unix_ms > first.timestamp_unix_ms);

        platform.put("pi-2.web", &score("1")).await;
        platform.put("pi-1.Web", &score("1")).await;
        platform.put("pi-1.web", &score("1")).await;
        assert_eq!(platform.phase("web", Phase::Running).await, None);
        assert_eq!(podman.take_log(), ["image host/x:1", "create web.a"]);

        platform.put("pi-1.web", r#"{"type":"PodmanV9"}"#).await;
        let detail = platform.phase("web", Phase::Failed).await.unwrap();
        assert!(detail.contains("unknown variant `PodmanV9`"), "{detail}");
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
