//! The platform's side: writes the desired state and reads the reports, through every fault.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use iot_contracts::{
    AGENT_STATUS_BUCKET, AgentStatus, DESIRED_STATE_BUCKET, DeviceConsumer, KvBucket, UserKey,
    not_separating,
};

use crate::device::DEVICE_ID;
use crate::rounds::LIMIT;
use crate::server_for_all::bucket_config;

/// How long one request may take before it is made again.
const REQUEST: Duration = Duration::from_secs(2);
/// The wait before a request is made again: nothing tells of a server that is there again.
const AGAIN: Duration = Duration::from_millis(50);

/// A client with the platform's rights.
pub struct Platform {
    context: Context,
    replicas: usize,
    /// The device's key, where it has one of its own.
    device: Option<UserKey>,
}

impl Platform {
    /// Connects as soon as one of the servers is there.
    pub async fn connect(urls: &[String], replicas: usize) -> Self {
        let (user, password) = ("device".to_owned(), "hunter2".to_owned());
        let options = ConnectOptions::with_user_and_password(user, password);
        Self::connect_with(options, urls, replicas).await
    }

    /// The same with other credentials.
    pub async fn connect_with(options: ConnectOptions, urls: &[String], replicas: usize) -> Self {
        let options = options
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ignore_discovered_servers()
            .ping_interval(Duration::from_secs(1))
            .connection_timeout(Duration::from_secs(1))
            .reconnect_delay_callback(|_| AGAIN);
        let servers: Vec<async_nats::ServerAddr> =
            urls.iter().map(|url| url.parse().unwrap()).collect();
        let client = options.connect(servers).await.unwrap();
        let mut context = jetstream::new(client);
        context.set_timeout(REQUEST);
        Self {
            context,
            replicas,
            device: None,
        }
    }

    /// The same, for a device with that key.
    pub fn of_device(self, key: UserKey) -> Self {
        let device = Some(key);
        Self { device, ..self }
    }

    /// Makes both buckets, the marker of the one that `id` names, and the consumer of the device.
    pub async fn make_buckets(&self, id: &str) {
        for bucket in [KvBucket::DESIRED_STATE, KvBucket::AGENT_STATUS] {
            self.make_bucket(&bucket).await;
        }
        self.mark(id, &[]).await;
        self.enrol().await;
    }

    /// Makes the consumer that tells the device of its keys, as harmony's `Platform::enrol` does. One without a key of its
    /// own needs none.
    pub async fn enrol(&self) {
        let Some(key) = &self.device else { return };
        let consumer = DeviceConsumer::of(&DEVICE_ID.parse().unwrap(), key);
        let consumer = serde_json::to_value(consumer).unwrap();
        let config: consumer::Config = serde_json::from_value(consumer).unwrap();
        persistently("enrol the device", async || {
            let stream = KvBucket::DESIRED_STATE.stream_name();
            let stream = self.context.get_stream_no_info(stream).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let made = stream.create_consumer(config.clone()).await;
            made.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Whether a report tells of no problem, but for a server that does not keep devices apart.
    pub fn is_well(&self, report: &AgentStatus) -> bool {
        let version = self.context.client().server_info().version;
        let expected = self.device.as_ref().and_then(|_| not_separating(&version));
        report.problems.iter().eq(expected.iter())
    }

    /// Makes a bucket.
    pub async fn make_bucket(&self, bucket: &KvBucket) {
        let config = Config {
            num_replicas: self.replicas,
            ..bucket_config(bucket)
        };
        persistently("make a bucket", async || {
            let made = self.context.get_or_create_stream(config.clone()).await;
            made.map(drop)
        })
        .await;
    }

    /// Says which bucket it is.
    pub async fn mark(&self, id: &str, replaces: &[&str]) {
        let marker = serde_json::json!({ "id": id, "replaces": replaces });
        self.write("_bucket", &marker.to_string()).await;
    }

    /// Deletes the bucket of the desired state, with all that is in it.
    pub async fn lose_the_bucket(&self) {
        let stream = KvBucket::DESIRED_STATE.stream_name();
        self.context.delete_stream(stream).await.unwrap();
    }

    async fn desired(&self) -> Result<Store, jetstream::context::KeyValueError> {
        self.context.get_key_value(DESIRED_STATE_BUCKET).await
    }

    /// Writes a key, again and again until the server has confirmed it: it may have it more than once.
    pub async fn write(&self, key: &str, value: &str) {
        persistently("write a key", async || {
            let put = self.desired().await.map_err(|error| error.to_string())?;
            let put = put.put(key, value.to_owned().into()).await;
            put.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Desires that image for a deployment of one service.
    pub async fn put(&self, deployment: &str, image: &str) {
        let score = format!(
            r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"{image}"}}]}}}}"#
        );
        self.write(&format!("{DEVICE_ID}.{deployment}"), &score)
            .await;
    }

    /// Deletes a deployment.
    pub async fn delete(&self, deployment: &str) {
        persistently("delete a key", async || {
            let desired = self.desired().await.map_err(|error| error.to_string())?;
            let deleted = desired.delete(format!("{DEVICE_ID}.{deployment}")).await;
            deleted.map_err(|error| error.to_string())
        })
        .await;
    }

    /// The newest report, if one can be had.
    pub async fn report(&self) -> Option<AgentStatus> {
        let reports = self.context.get_key_value(AGENT_STATUS_BUCKET).await.ok()?;
        let entry = reports.get(format!("status.{DEVICE_ID}")).await.ok()??;
        serde_json::from_slice(&entry).ok()
    }

    /// Waits for a report that is as expected; the last one that was seen, where none comes.
    pub async fn reported(
        &self,
        expected: impl Fn(&AgentStatus) -> bool,
    ) -> Result<AgentStatus, Option<AgentStatus>> {
        let mut last = None;
        let awaited = async {
            loop {
                if let Some(report) = self.report().await {
                    if expected(&report) {
                        return report;
                    }
                    last = Some(report);
                }
                tokio::time::sleep(4 * AGAIN).await;
            }
        };
        let awaited = tokio::time::timeout(LIMIT, awaited).await;
        awaited.map_err(|_| last)
    }

    /// The name of the server that leads the desired state.
    pub async fn leader(&self) -> String {
        let stream = KvBucket::DESIRED_STATE.stream_name();
        persistently("ask for the leader", async || {
            let stream = self.context.get_stream(stream.clone()).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let cluster = stream.cached_info().cluster.clone();
            let leader = cluster.and_then(|cluster| cluster.leader);
            leader.ok_or_else(|| "there is none".to_owned())
        })
        .await
    }

    /// Waits until each replica of both buckets has all of it.
    pub async fn replicated(&self) {
        for bucket in [KvBucket::DESIRED_STATE, KvBucket::AGENT_STATUS] {
            persistently("see all replicas", async || {
                let stream = self.context.get_stream(bucket.stream_name()).await;
                let stream = stream.map_err(|error| error.to_string())?;
                let cluster = stream.cached_info().cluster.clone().unwrap_or_default();
                let current = cluster.replicas.iter().filter(|r| r.current && !r.offline);
                match current.count() + 1 == self.replicas && cluster.leader.is_some() {
                    true => Ok(()),
                    false => Err(format!("{cluster:?}")),
                }
            })
            .await;
        }
    }
}

/// Does something until it succeeds.
async fn persistently<T, E: std::fmt::Display>(
    what: &str,
    attempt: impl AsyncFn() -> Result<T, E>,
) -> T {
    let mut last = String::new();
    let attempts = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    match tokio::time::timeout(LIMIT, attempts).await {
        Ok(done) => done,
        Err(_) => panic!("cannot {what} within {LIMIT:?}: {last}"),
    }
}
