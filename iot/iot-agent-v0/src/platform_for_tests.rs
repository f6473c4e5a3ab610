//! What the tests of the whole agent share: the platform's view of a real server, and the agent with the scripted
//! executor.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use futures::TryStreamExt;
use iot_contracts::{AgentConfig, AgentStatus, DESIRED_STATE_BUCKET, KvBucket, Phase};

use super::Nats;
use super::server::bucket_config;
use crate::agent;
use crate::config::Loaded;
use crate::fake::FakePodman;
use crate::keep::Keeper;
use crate::status::Identity;
use crate::update::Updater;
use crate::watchdog::ServiceManager;

/// How long any awaited event may take.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn config(port: u16) -> Loaded {
    config_of(port, "device")
}

fn config_of(port: u16, user: &str) -> Loaded {
    let toml = format!(
        "device_id = \"pi-1\"\nheartbeat_seconds = 1\n[nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
         credentials = {{ type = \"user-password\", username = \"{user}\", password = \"hunter2\" }}\n"
    );
    Loaded::for_test(toml::from_str::<AgentConfig>(&toml).unwrap())
}

/// The platform's view.
pub struct Platform {
    pub nats: Nats,
    pub desired: Store,
    pub status: Store,
}

impl Platform {
    /// Waits for the server, and makes what is missing.
    pub async fn of(port: u16) -> Self {
        let platform = Self::without_marker(port).await;
        // It may be there.
        let _ = platform.mark(r#"{"id":"b1"}"#, 0).await;
        platform
    }

    pub async fn without_marker(port: u16) -> Self {
        Self::as_user(port, "device").await
    }

    pub async fn as_user(port: u16, user: &str) -> Self {
        let nats = Nats::connect(&config_of(port, user)).await;
        let opening = async {
            nats.connections()
                .wait_for(|count| *count > 0)
                .await
                .unwrap();
            loop {
                // Nothing tells of a JetStream that is not there yet.
                let desired = Self::bucket(&nats, &KvBucket::DESIRED_STATE).await;
                let status = Self::bucket(&nats, &KvBucket::AGENT_STATUS).await;
                if let (Some(desired), Some(status)) = (desired, status) {
                    return (desired, status);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let opened = tokio::time::timeout(LIMIT, opening).await;
        let (desired, status) = opened.expect("the buckets can be made");
        Self {
            nats,
            desired,
            status,
        }
    }

    pub async fn bucket(nats: &Nats, bucket: &KvBucket) -> Option<Store> {
        let stream = nats
            .context
            .get_or_create_stream(bucket_config(bucket))
            .await;
        stream.ok()?;
        nats.context.get_key_value(bucket.name).await.ok()
    }

    /// Writes the marker where it has that revision.
    pub async fn mark(&self, marker: &str, revision: u64) -> Option<u64> {
        let value = marker.to_owned().into();
        self.desired.update("_bucket", value, revision).await.ok()
    }

    pub async fn lose_the_bucket(&self) {
        let stream = format!("KV_{DESIRED_STATE_BUCKET}");
        self.nats.context.delete_stream(stream).await.unwrap();
    }

    /// Writes `key` past what a client of the protocol lets through.
    pub async fn write_raw(&self, key: &str, value: &str) {
        let subject = format!("$KV.{DESIRED_STATE_BUCKET}.{key}");
        let sent = self.nats.context.publish(subject, value.to_owned().into());
        sent.await.unwrap().await.unwrap();
    }

    pub async fn put(&self, key: &str, score: &str) {
        self.desired
            .put(key, score.to_owned().into())
            .await
            .unwrap();
    }

    /// Waits for a report that is as expected, beginning with the newest that is there.
    pub async fn report(&self, what: &str, expected: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
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

    pub async fn phase(&self, deployment: &str, phase: Phase) -> Option<String> {
        let name = deployment.parse().unwrap();
        let report = self
            .report(&format!("{deployment} {phase:?}"), |report| {
                report.deployments.get(&name).map(|status| status.phase) == Some(phase)
            })
            .await;
        report.deployments[&name].detail.clone()
    }

    pub async fn gone(&self, deployment: &str) {
        let name = deployment.parse().unwrap();
        let is_gone = |report: &AgentStatus| !report.deployments.contains_key(&name);
        self.report(&format!("no {deployment}"), is_gone).await;
    }

    /// The first problem of the report that has one like that.
    pub async fn problem(&self, part: &str) -> String {
        let has = |problem: &&String| problem.contains(part);
        let report = self
            .report(&format!("problem '{part}'"), |report| {
                report.problems.iter().any(|problem| has(&problem))
            })
            .await;
        report.problems.iter().find(has).unwrap().clone()
    }

    pub async fn no_problem(&self) {
        self.report("no problem", |report| report.problems.is_empty())
            .await;
    }
}

pub fn score(tag: &str) -> String {
    format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}"}}]}}}}"#
    )
}

/// Runs the agent beside `scenario`, until that ends.
pub async fn with_agent(port: u16, podman: &FakePodman, scenario: impl Future<Output = ()>) {
    with_keeper(port, podman, None, scenario).await;
}

pub async fn with_keeper(
    port: u16,
    podman: &FakePodman,
    state: Option<&Path>,
    scenario: impl Future<Output = ()>,
) {
    let config = config(port);
    let identity = Identity::of_this_device(config.device_id().clone()).unwrap();
    let keeper = state.map(|dir| Keeper::new(dir.to_owned(), config.device_id()));
    let manager = ServiceManager::default();
    let updater = Updater::of_this_process(None, None);
    let agent = agent::run(
        &config,
        identity,
        podman,
        keeper.as_ref(),
        None,
        &manager,
        &updater,
    );
    tokio::select! {
        ended = agent => panic!("the agent ended: {ended:?}"),
        () = scenario => {}
    }
}

/// Nothing tells of what is looked for.
pub async fn until(is_so: impl Fn() -> bool) {
    let awaited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let came = tokio::time::timeout(LIMIT, awaited).await;
    came.expect("it comes about");
}
