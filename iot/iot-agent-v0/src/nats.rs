//! The platform's side: the connection, the KV buckets, the desired state as it changes, the reports.
//!
//! The client reconnects by itself and for ever. With every new connection the desired state is listed anew
//! and then followed from the revision of that listing, so that nothing that happened meanwhile is
//! missed, deletions included.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::kv::{Entry, Operation, Store};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use futures::TryStreamExt;
use iot_contracts::{
    AgentStatus, DeploymentName, DeviceId, KvBucket, desired_state_key_deployment,
    desired_state_watch, status_key,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Loaded;
use crate::connection::options;
use crate::desired::DesiredState;
use crate::error::chain;

/// The wait after a first failure; it doubles with each further one, up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(15);
/// How often the desired state is listed anew although nothing seems to be missing.
const RELIST: Duration = Duration::from_secs(10 * 60);

type Source = Box<dyn std::error::Error + Send + Sync>;

/// NATS did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// There is no connection.
    #[error("not connected to NATS")]
    Disconnected,
    /// A bucket is not there and cannot be made.
    #[error("cannot open the KV bucket '{bucket}'")]
    Bucket {
        /// Its name.
        bucket: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
    /// The desired state cannot be read.
    #[error("cannot {what} '{keys}'")]
    Read {
        /// What was tried.
        what: &'static str,
        /// The keys.
        keys: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A report cannot be written.
    #[error("cannot write '{key}'")]
    Write {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: Source,
    },
}

/// The connection to NATS.
pub struct Nats {
    client: Client,
    context: Context,
    connections: watch::Receiver<u64>,
}

impl Nats {
    /// Starts connecting. This waits for no server: the client keeps trying in the background.
    pub async fn connect(config: &Loaded) -> Self {
        let mut backoff = Backoff::default();
        loop {
            let (counter, connections) = watch::channel(0);
            let urls = config.config().nats.urls.as_slice();
            let urls: Vec<_> = urls.iter().map(|url| url.as_str()).collect();
            match options(config, counter).map(|options| options.connect(urls)) {
                Ok(connecting) => match connecting.await {
                    Ok(client) => {
                        return Self {
                            context: jetstream::new(client.clone()),
                            client,
                            connections,
                        };
                    }
                    Err(error) => tracing::warn!(error = chain(&error), "cannot use NATS"),
                },
                Err(error) => tracing::warn!(error = chain(&error), "cannot use NATS credentials"),
            }
            backoff.wait().await;
        }
    }

    /// Changes with every new connection.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// Keeps `desired` equal to the device's part of the bucket, for ever.
    pub async fn follow_desired_state(
        &self,
        device_id: &DeviceId,
        desired: &watch::Sender<DesiredState>,
    ) {
        let mut connections = self.connections();
        let mut backoff = Backoff::default();
        loop {
            connections.mark_unchanged();
            tokio::select! {
                followed = self.follow(device_id, desired, &mut backoff) => {
                    if let Err(error) = followed {
                        tracing::warn!(error = chain(&error), "desired state not followed");
                        tokio::select! {
                            () = backoff.wait() => {}
                            _ = connections.changed() => {}
                        }
                    }
                }
                changed = connections.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Lists, then follows until it is time to list anew.
    async fn follow(
        &self,
        device_id: &DeviceId,
        desired: &watch::Sender<DesiredState>,
        backoff: &mut Backoff,
    ) -> Result<(), NatsError> {
        let store = self.bucket(KvBucket::DESIRED_STATE).await?;
        let keys = desired_state_watch(device_id);
        let read = |what| {
            let keys = keys.clone();
            move |source: Source| NatsError::Read { what, keys, source }
        };
        let listed = list(&store, &keys).await.map_err(read("list"))?;
        let named = listed
            .entries
            .iter()
            .filter_map(|entry| Some((deployment(device_id, &entry.key)?, entry.value.as_ref())));
        let count = listed.entries.len();
        tracing::info!(count, revision = listed.revision, "desired state listed");
        update(desired, |desired| desired.replace_all(named));
        let mut changes = store
            .watch_from_revision(&keys, listed.revision + 1)
            .await
            .map_err(|error| read("watch")(error.into()))?;
        *backoff = Backoff::default();
        let relist = Instant::now() + RELIST;
        while let Ok(change) = tokio::time::timeout_at(relist, changes.try_next()).await {
            match change.map_err(|error| read("watch")(error.into()))? {
                Some(entry) => apply(device_id, desired, &entry),
                None => return Err(read("watch")("the subscription ended".into())),
            }
        }
        Ok(())
    }

    /// Writes the device's report.
    ///
    /// # Errors
    ///
    /// [`NatsError`]: there is no connection, or the server did not store it.
    pub async fn publish_status(&self, status: &AgentStatus) -> Result<(), NatsError> {
        if self.client.connection_state() != async_nats::connection::State::Connected {
            return Err(NatsError::Disconnected);
        }
        let key = status_key(&status.device_id);
        let write = |source: Source| NatsError::Write {
            key: key.clone(),
            source,
        };
        let json = serde_json::to_vec(status).map_err(|error| write(error.into()))?;
        let bucket = KvBucket::AGENT_STATUS;
        // One round trip: that the bucket is not there is seen when nobody stores the report.
        let mut stored = self.store(&bucket, &key, json.clone()).await;
        if matches!(&stored, Err(error) if error.kind() == PublishErrorKind::StreamNotFound) {
            self.ensure_bucket(&bucket).await?;
            stored = self.store(&bucket, &key, json).await;
        }
        stored.map_err(|error| write(error.into()))
    }

    /// Writes `value` to `key` as the protocol's KV clients do, without asking for the bucket first.
    async fn store(
        &self,
        bucket: &KvBucket,
        key: &str,
        value: Vec<u8>,
    ) -> Result<(), PublishError> {
        let subject = format!("{}{key}", bucket.subject_prefix());
        let stored = self.context.publish(subject, value.into()).await?;
        stored.await.map(drop)
    }

    /// Opens a bucket, and makes it when it is not there.
    async fn bucket(&self, bucket: KvBucket) -> Result<Store, NatsError> {
        self.ensure_bucket(&bucket).await?;
        let store = self.context.get_key_value(bucket.name).await;
        store.map_err(|error| NatsError::Bucket {
            bucket: bucket.name,
            source: error.into(),
        })
    }

    /// The client's own way to make a bucket asks for account details that servers before 2.10 do not give.
    async fn ensure_bucket(&self, bucket: &KvBucket) -> Result<(), NatsError> {
        let config = stream_config(bucket);
        let stream = self.context.get_or_create_stream(config).await;
        stream.map(drop).map_err(|error| NatsError::Bucket {
            bucket: bucket.name,
            source: error.into(),
        })
    }
}

/// The stream behind a bucket: what the protocol's own KV clients would make.
fn stream_config(bucket: &KvBucket) -> Config {
    Config {
        name: bucket.stream_name(),
        subjects: vec![bucket.subjects()],
        max_messages_per_subject: bucket.history.into(),
        max_message_size: i32::try_from(bucket.max_value_bytes).unwrap_or(i32::MAX),
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        num_replicas: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

/// The newest entry of each key that is not deleted.
struct Listed {
    entries: Vec<Entry>,
    /// The bucket's newest revision before the listing began.
    revision: u64,
}

async fn list(store: &Store, keys: &str) -> Result<Listed, Source> {
    let filter = format!("{}{keys}", store.prefix);
    let mut subjects = store.stream.info_with_subjects(filter).await?;
    let revision = subjects.info.state.last_sequence;
    let mut entries = Vec::new();
    while let Some((subject, _)) = subjects.try_next().await? {
        let Some(key) = subject.strip_prefix(&store.prefix) else {
            continue;
        };
        if let Some(entry) = store.entry(key).await?
            && entry.operation == Operation::Put
        {
            entries.push(entry);
        }
    }
    Ok(Listed { entries, revision })
}

fn apply(device_id: &DeviceId, desired: &watch::Sender<DesiredState>, entry: &Entry) {
    let Some(name) = deployment(device_id, &entry.key) else {
        return;
    };
    tracing::info!(deployment = %name, operation = ?entry.operation, revision = entry.revision,
        "desired state changed");
    update(desired, |desired| match entry.operation {
        Operation::Put => desired.put(name, &entry.value),
        Operation::Delete | Operation::Purge => desired.delete(&name),
    });
}

fn deployment(device_id: &DeviceId, key: &str) -> Option<DeploymentName> {
    match desired_state_key_deployment(device_id, key) {
        Ok(name) => Some(name),
        Err(error) => {
            tracing::warn!(key, error = chain(&error), "key ignored");
            None
        }
    }
}

/// Changes the desired state, and wakes who follows it only when something is different.
fn update(desired: &watch::Sender<DesiredState>, change: impl FnOnce(&mut DesiredState)) {
    desired.send_if_modified(|desired| {
        let before = desired.clone();
        change(desired);
        *desired != before
    });
}

#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    async fn wait(&mut self) {
        let delay = FIRST_RETRY * 2_u32.saturating_pow(self.0.min(16));
        self.0 += 1;
        tokio::time::sleep(delay.min(LAST_RETRY)).await;
    }
}

#[cfg(test)]
#[path = "../tests/server/mod.rs"]
mod server;

#[cfg(test)]
#[path = "nats_tests.rs"]
mod tests;
