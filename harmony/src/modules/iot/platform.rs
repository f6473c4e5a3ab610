//! The platform's side of NATS: what a device should run, and what it reports.

mod again;
#[cfg(test)]
mod attack_tests;
mod buckets;
mod connection;
mod enrolment;
mod orders;
mod registry;
mod releases;
mod token;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use futures::StreamExt;
use iot_contracts::{
    AgentStatus, BucketId, BucketMarker, ContractError, DeploymentName, DeviceId, IotScore,
    KvBucket, NatsConfig, desired_state_key, not_separating, status_key,
};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use self::again::answered;
pub use self::orders::{Fate, fate};
use super::operator::OperatorError;
use crate::domain::error::{ErrorKind, HintedError};

pub use registry::{DeviceRegistry, RegistryError};
pub use releases::{PutRelease, ReleaseFate, release_fate};
pub use token::{DeviceTokens, devices_imports, devices_scope, platform_exports};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with NATS.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The servers cannot be used as they are given.
    #[error(transparent)]
    Config(#[from] ContractError),
    /// An operator cannot sign.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// No server answers.
    #[error("NATS does not answer at {urls}")]
    Connect {
        /// Where.
        urls: String,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// A request failed.
    #[error("NATS could not {action} {subject}")]
    Request {
        /// What was asked.
        action: &'static str,
        /// Of what.
        subject: String,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// A token cannot be made.
    #[error("no token for a device: {reason}")]
    Token {
        /// Why not.
        reason: &'static str,
    },
    /// A report did not come.
    #[error("{awaited} of device {device_id} did not come within {} s; last seen: {last_seen}", bound.as_secs())]
    TimedOut {
        /// Whose.
        device_id: DeviceId,
        /// What was awaited.
        awaited: String,
        /// The bound.
        bound: Duration,
        /// The last report.
        last_seen: String,
    },
}

impl HintedError for PlatformError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Token { .. } => ErrorKind::InvalidRequest,
            Self::Operator(error) => error.kind(),
            Self::Connect { .. } => ErrorKind::Unavailable,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Request { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(ContractError::Plaintext { host, .. }) => Some(format!(
                "let the server speak TLS, or allow plain text to it: --nats-allow-plaintext {host}"
            )),
            Self::Operator(error) => error.hint(),
            Self::Connect { .. } => Some(
                "start one with 'nats-server -js', or name yours with --nats-url and --nats-credentials"
                    .to_owned(),
            ),
            Self::TimedOut { .. } => Some(
                "look at the agent's journal in the guest: journalctl -u iot-agent".to_owned(),
            ),
            _ => None,
        }
    }
}

/// How the server comes to know a device by its key.
#[derive(Debug, Clone)]
pub enum KnownBy {
    /// It is one more user in the server's configuration. With `tls://` the server shows the registry's certificate, unless
    /// the device is given another authority.
    Registry(DeviceRegistry),
    /// It brings a token of its account along, which is put on the device.
    Token(Arc<DeviceTokens>),
}

/// What the platform may be told of its buckets.
#[derive(Debug, Clone, Copy, Default)]
pub struct BucketOptions {
    /// On how many servers of a cluster each bucket is, 1 to 5. Without it a bucket that is made is on one, and one that
    /// is there stays as it is.
    pub replicas: Option<u8>,
}

/// A connection to the NATS servers, with both buckets present.
#[derive(Debug, Clone)]
pub struct Platform {
    context: jetstream::Context,
    desired: kv::Store,
    status: kv::Store,
    server_version: String,
}

impl Platform {
    /// As [`Platform::connect_with`], with the options' defaults.
    ///
    /// # Errors
    /// As [`Platform::connect_with`].
    pub async fn connect(nats: &NatsConfig) -> Result<Self, PlatformError> {
        Self::connect_with(nats, BucketOptions::default()).await
    }

    /// Connects, and makes the buckets where they are missing and the marker of the desired state's where it has none:
    /// a device makes neither. Only the servers of the configuration are connected to, and in plain text only those on
    /// this machine and those that it allows by name.
    ///
    /// # Errors
    /// [`PlatformError::Config`] for what would be in plain text elsewhere; [`PlatformError::Connect`] when no server
    /// answers within 10 s; [`PlatformError::Request`] when JetStream is off or a bucket cannot be as it is asked for.
    pub async fn connect_with(
        nats: &NatsConfig,
        options: BucketOptions,
    ) -> Result<Self, PlatformError> {
        let client = connection::connect(nats).await?;
        let server_version = client.server_info().version;
        if let Some(lacks) = not_separating(&server_version) {
            warn!("{lacks}");
        }
        let context = jetstream::new(client);
        let desired = buckets::ensure(&context, &KvBucket::DESIRED_STATE, options).await?;
        buckets::ensure_marker(&desired).await?;
        let status = buckets::ensure(&context, &KvBucket::AGENT_STATUS, options).await?;
        Ok(Self {
            context,
            desired,
            status,
            server_version,
        })
    }

    /// What the desired state's bucket is known by.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn marker(&self) -> Result<BucketMarker, PlatformError> {
        buckets::ensure_marker(&self.desired).await
    }

    /// Says that the bucket that is there takes the place of others: of those in `replaced`, and of itself as it was.
    /// Devices that have followed one of them, and hold what they run since it was lost or its revisions went back,
    /// follow this one from then on, and remove what it does not have. Put everything that they shall go on running
    /// first. Which bucket a device has followed is in its report's `problems`.
    ///
    /// # Errors
    /// When NATS does not take it.
    pub async fn replace_buckets(
        &self,
        replaced: &[BucketId],
    ) -> Result<BucketMarker, PlatformError> {
        buckets::replace(&self.desired, replaced).await
    }

    /// Says what a device should run.
    ///
    /// # Errors
    /// When NATS does not take it.
    pub async fn put_score(
        &self,
        device_id: &DeviceId,
        deployment: &DeploymentName,
        score: &IotScore,
    ) -> Result<(), PlatformError> {
        let value = serde_json::to_vec(score);
        let put = self.put(device_id, deployment, value, None).await;
        put.map(drop)
    }

    /// Says that a device should no longer run a deployment.
    ///
    /// # Errors
    /// When NATS does not take it.
    pub async fn delete_score(
        &self,
        device_id: &DeviceId,
        deployment: &DeploymentName,
    ) -> Result<(), PlatformError> {
        let key = desired_state_key(device_id, deployment);
        self.write("delete", &key, None).await.map(drop)
    }

    /// The last report of a device, if there is one that this version can read.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn status(&self, device_id: &DeviceId) -> Result<Option<AgentStatus>, PlatformError> {
        let key = status_key(device_id);
        let value = answered(|| self.status.get(key.as_str())).await;
        let value = value.map_err(|e| request("read", &key, e.into()))?;
        Ok(value.and_then(|bytes| report(device_id, &bytes).ok()))
    }

    /// Waits for a report that fulfils a condition, from the last one that is stored on.
    ///
    /// # Errors
    /// [`PlatformError::TimedOut`] with the last report that was seen.
    pub async fn wait_for_status(
        &self,
        device_id: &DeviceId,
        awaited: &str,
        bound: Duration,
        condition: impl Fn(&AgentStatus) -> bool,
    ) -> Result<AgentStatus, PlatformError> {
        let key = status_key(device_id);
        let deadline = Instant::now() + bound;
        let late = |last_seen: &str| PlatformError::TimedOut {
            device_id: device_id.clone(),
            awaited: awaited.to_owned(),
            bound,
            last_seen: last_seen.to_owned(),
        };
        let mut last_seen = "no report".to_owned();
        let watch = answered(|| self.status.watch_with_history(&key));
        let watch = timeout_at(deadline, watch).await;
        let watch = watch.map_err(|_| late("nothing: nobody answered"))?;
        let mut watch = watch.map_err(|e| request("watch", &key, e.into()))?;
        loop {
            let entry = match timeout_at(deadline, watch.next()).await {
                Ok(Some(Ok(entry))) => entry,
                Ok(Some(Err(error))) => return Err(request("watch", &key, error.into())),
                Ok(None) => {
                    return Err(request("watch", &key, "the watch ended".into()));
                }
                Err(_) => return Err(late(&last_seen)),
            };
            if entry.operation != kv::Operation::Put {
                continue;
            }
            let status = match report(device_id, &entry.value) {
                Ok(status) => status,
                Err(unreadable) => {
                    last_seen = unreadable;
                    continue;
                }
            };
            debug!(device = %device_id, sequence = status.sequence, boot_id = %status.boot_id, "report");
            if condition(&status) {
                info!(device = %device_id, awaited, "seen in NATS");
                return Ok(status);
            }
            last_seen = serde_json::to_string(&status).unwrap_or_default();
        }
    }
}

/// A report, or what is wrong with it. One of another version's agent is passed over: the next one may be of
/// an agent that was just installed.
fn report(device_id: &DeviceId, bytes: &[u8]) -> Result<AgentStatus, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        warn!(device = %device_id, %error, "a report cannot be read and is passed over");
        format!("a report that cannot be read: {error}")
    })
}

fn request(action: &'static str, subject: &str, source: Cause) -> PlatformError {
    PlatformError::Request {
        action,
        subject: subject.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
