//! The platform's side: the connection and the reports. What is desired is read in `follow.rs`.
//!
//! The client reconnects by itself and for ever.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use iot_contracts::{AgentStatus, KvBucket, UserKey, status_key};
use tokio::sync::watch;

use crate::backoff;
use crate::config::Loaded;
use crate::connection::{Tries, options};
use crate::credentials::Credentials;
use crate::error::chain;
use crate::told::Told;

/// The wait after a first failure to make a client, and the longest one.
const RETRIES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

type Source = Box<dyn std::error::Error + Send + Sync>;

/// NATS did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// There is no connection.
    #[error("not connected to NATS")]
    Disconnected,
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
    tries: Arc<Tries>,
    credentials: Arc<Credentials>,
}

impl Nats {
    /// Starts connecting. This waits for no server: the client keeps trying in the background. It waits for the device's
    /// key where that cannot be used now.
    pub async fn connect(config: &Loaded) -> Self {
        let (mut failures, mut told) = (0, Told::default());
        loop {
            let error = match Self::begin(config).await {
                Ok(nats) => return nats,
                Err(error) => chain(&*error),
            };
            if told.is_news(Some(&error)) {
                tracing::warn!(error, "cannot use NATS");
            }
            failures += 1;
            tokio::time::sleep(backoff::wait(failures, RETRIES.0, RETRIES.1)).await;
        }
    }

    async fn begin(config: &Loaded) -> Result<Self, Source> {
        let credentials = Arc::new(Credentials::of(config)?);
        let (counter, connections) = watch::channel(0);
        let tries = Arc::new(Tries::default());
        let urls = config.config().nats.urls.as_slice();
        let urls: Vec<_> = urls.iter().map(|url| url.as_str()).collect();
        let options = options(
            config,
            Arc::clone(&credentials),
            counter,
            Arc::clone(&tries),
        );
        let client = options.connect(urls).await?;
        Ok(Self {
            context: jetstream::new(client.clone()),
            client,
            connections,
            tries,
            credentials,
        })
    }

    /// The public half of the device's key, where it has one of its own.
    pub fn key(&self) -> Option<&UserKey> {
        self.credentials.key()
    }

    /// Changes with every new connection.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The way to JetStream.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Gives the connection up. After a cut the kernel repeats what was lost after waits that double, up to 6 s for a cut
    /// that the client itself notices by its pings; a new connection is tried each second.
    pub async fn connect_anew(&self) {
        // It fails where the client has ended, and with it the agent.
        if let Err(error) = self.client.force_reconnect().await {
            tracing::debug!(%error, "no new connection");
        }
    }

    /// Takes up credentials that were renewed while there is a connection, by a new one; why they cannot be used, if so.
    /// Without a connection the client reads them for each try.
    pub async fn take_up_credentials(&self) -> Option<String> {
        if !self.is_connected() {
            return None;
        }
        match self.credentials.are_renewed() {
            Ok(false) => None,
            Ok(true) => {
                tracing::info!("NATS credentials were renewed, connects with them");
                self.connect_anew().await;
                None
            }
            Err(error) => Some(chain(&error)),
        }
    }

    /// What the server that it is connected to calls its version.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// JetStream answered: the connection is one that is of use.
    pub fn answered(&self) {
        self.tries.reset();
    }

    /// Writes the device's report. The platform makes the bucket: without it nobody stores the report.
    ///
    /// # Errors
    ///
    /// [`NatsError`]: there is no connection, it was lost meanwhile, or the server did not store it.
    pub async fn publish_status(&self, status: &AgentStatus) -> Result<(), NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Disconnected);
        }
        let key = status_key(&status.device_id);
        let write = |source: Source| NatsError::Write {
            key: key.clone(),
            source,
        };
        let json = serde_json::to_vec(status).map_err(|error| write(error.into()))?;
        // As the protocol's KV clients do, without asking for the bucket first.
        let subject = format!("{}{key}", KvBucket::AGENT_STATUS.subject_prefix());
        let mut connections = self.connections();
        connections.mark_unchanged();
        let stored = async {
            let sent = self.context.publish(subject, json.into()).await?;
            sent.await
        };
        tokio::select! {
            stored = stored => stored.map_err(|error| write(error.into()))?,
            // What was asked on the last connection is never answered.
            _ = connections.changed() => return Err(NatsError::Disconnected),
        };
        self.answered();
        Ok(())
    }
}

#[cfg(test)]
#[path = "../tests/server/mod.rs"]
mod server;

#[cfg(test)]
#[path = "platform_for_tests.rs"]
mod platform;

#[cfg(test)]
#[path = "other_buckets_tests.rs"]
mod other_buckets;

#[cfg(test)]
#[path = "nats_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "outage_tests.rs"]
mod outage_tests;

#[cfg(test)]
#[path = "access_tests.rs"]
mod access_tests;

#[cfg(test)]
#[path = "signed_server_tests.rs"]
mod signed_server_tests;

#[cfg(test)]
#[path = "identity_tests.rs"]
mod identity_tests;

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod credentials_tests;
