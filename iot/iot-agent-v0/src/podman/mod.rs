//! Podman, through its REST API (libpod, version 4) on a Unix socket. The agent needs no `podman` program
//! and no privilege: what it asks for is done by the service behind the socket.
//!
//! The agent's containers bear four labels; nothing without them is ever listed, let alone touched.

mod http;
mod wire;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use hyper::StatusCode;
use iot_contracts::ImageReference;

use self::http::{Api, Call, Reply};
use crate::plan::{Action, ContainerSpec, ObservedContainer, Step};
use crate::reconcile::Executor;

/// How long a request may take that only reads or starts.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// How long an image may take: hundreds of megabytes over a slow line.
const PULL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long a container has to stop by itself before it is killed, in seconds.
const STOP_GRACE_SECONDS: u32 = 10;

/// Podman did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PodmanError {
    /// Nobody listens.
    #[error("cannot connect to Podman at '{socket}'")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("{what}: no answer from Podman")]
    Exchange {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer came in time.
    #[error("{what}: no answer from Podman within {seconds} s")]
    TimedOut {
        /// What was asked for.
        what: String,
        /// The bound, in seconds.
        seconds: u64,
    },
    /// Podman refused.
    #[error("{what}: Podman answered {status}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Podman's own words.
        message: String,
    },
    /// The image could not be had.
    #[error("cannot pull image '{image}': {message}")]
    Pull {
        /// The image.
        image: ImageReference,
        /// Podman's own words.
        message: String,
    },
    /// The answer is not what the API promises.
    #[error("{what}: the answer from Podman cannot be read")]
    Decode {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The containers of one user's Podman.
pub struct Podman {
    api: Api,
}

impl Podman {
    /// The Podman that listens at `socket`; nothing is connected yet.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            api: Api::new(socket),
        }
    }

    async fn ensure_image(&self, image: &ImageReference) -> Result<(), PodmanError> {
        let exists = Call::get(format!("look for image '{image}'"))
            .path(&["images", image.as_str(), "exists"])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(exists).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return self.pull(image).await;
        }
        reply.expect(&[StatusCode::NO_CONTENT]).map(drop)
    }

    async fn pull(&self, image: &ImageReference) -> Result<(), PodmanError> {
        tracing::info!(%image, "pulling");
        let pull = Call::post(format!("pull image '{image}'"))
            .path(&["images", "pull"])
            .query("reference", image.as_str())
            .limit(PULL_LIMIT);
        let reply = self.api.send(pull).await?.expect(&[StatusCode::OK])?;
        // The status is sent before the pull begins; whether it went well is in the last line.
        match wire::pull_error(&reply.body) {
            None => Ok(()),
            Some(message) => Err(PodmanError::Pull {
                image: image.clone(),
                message,
            }),
        }
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), PodmanError> {
        let name = spec.key.container_name();
        let create = Call::post(format!("create container {name}"))
            .path(&["containers", "create"])
            .json(&wire::CreateContainer::from(spec))?
            .limit(REQUEST_LIMIT);
        let reply = self
            .api
            .send(create)
            .await?
            .expect(&[StatusCode::CREATED])?;
        let created: wire::CreatedContainer = reply.json()?;
        for warning in &created.warnings {
            tracing::warn!(container = name, warning, "Podman warns");
        }
        write_out().await;
        self.start(&created.id, &name).await
    }

    async fn start(&self, id: &str, name: &str) -> Result<(), PodmanError> {
        let start = Call::post(format!("start container {name}"))
            .path(&["containers", id, "start"])
            .limit(REQUEST_LIMIT);
        let done = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        self.api.send(start).await?.expect(&done).map(drop)
    }

    async fn remove(&self, id: &str, name: &str) -> Result<(), PodmanError> {
        let remove = Call::delete(format!("remove container {name}"))
            .path(&["containers", id])
            .query("force", "true")
            .query("v", "true")
            .query("timeout", &STOP_GRACE_SECONDS.to_string())
            .limit(REQUEST_LIMIT);
        let reply: Reply = self.api.send(remove).await?;
        // Somebody else's removal is as good.
        let done = [
            StatusCode::OK,
            StatusCode::NO_CONTENT,
            StatusCode::NOT_FOUND,
        ];
        reply.expect(&done).map(drop)
    }
}

/// Has the kernel write everything to the disks. Podman does not: after a power cut within the next half
/// minute the files of a new image would be there, but empty, and the container would fail for ever with
/// "exec format error".
async fn write_out() {
    if let Err(error) = tokio::task::spawn_blocking(rustix::fs::sync).await {
        tracing::warn!(%error, "the disks' caches were not written out");
    }
}

impl Executor for Podman {
    type Error = PodmanError;

    async fn observe(&self) -> Result<Vec<ObservedContainer>, PodmanError> {
        let list = Call::get("list containers".to_owned())
            .path(&["containers", "json"])
            .query("all", "true")
            .query("filters", &wire::own_containers_filter())
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(list).await?.expect(&[StatusCode::OK])?;
        // Without a container some versions answer `null`.
        let listed: Option<Vec<wire::ListedContainer>> = reply.json()?;
        let containers = listed.unwrap_or_default();
        Ok(containers
            .into_iter()
            .filter_map(wire::ListedContainer::observed)
            .collect())
    }

    async fn execute(&self, step: &Step) -> Result<(), PodmanError> {
        let name = step.key.container_name();
        match &step.action {
            Action::EnsureImage { image } => self.ensure_image(image).await,
            Action::Remove { id } => self.remove(id, &name).await,
            Action::Create(spec) => self.create(spec).await,
            Action::Start { id } => self.start(id, &name).await,
        }
    }
}
