//! Podman, through its REST API (libpod, version 4) on a Unix socket. The agent needs no `podman` program
//! and no privilege: what it asks for is done by the service behind the socket.
//!
//! The agent's containers bear labels of their own; nothing without them is ever listed, let alone touched.

mod containers;
mod create;
mod digests;
mod ends;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http;
mod images;
mod left;
mod wire;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use iot_contracts::{ImageReference, RegistryLogin};
use tokio::sync::Mutex;

use self::digests::Digests;
use self::ends::Ends;
pub use self::error::PodmanError;
use self::http::Api;
use self::left::Left;
use crate::container::{ContainerKey, ObservedContainer};
use crate::error::chain;
use crate::plan::{Action, Step};
use crate::reconcile::Executor;
use crate::room::{Image, Space};
use crate::service::Terms;

/// How long a request may take that only reads or starts.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// The containers of one user's Podman.
pub struct Podman {
    api: Api,
    digests: Mutex<Digests>,
    /// The directory of Podman's storage, once it was asked for.
    storage: RefCell<Option<PathBuf>>,
    /// What each container is looked after by that was there at the last look, by its id; without those of defaults.
    terms: RefCell<BTreeMap<String, Terms>>,
    /// The containers that are being made, with what they are given.
    storing: RefCell<BTreeSet<ContainerKey>>,
    left: Left,
    ends: Ends,
}

impl Podman {
    /// The Podman that listens at `socket`; nothing is connected yet.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            api: Api::new(socket),
            digests: Mutex::default(),
            storage: RefCell::default(),
            terms: RefCell::default(),
            storing: RefCell::default(),
            left: Left::default(),
            ends: Ends::default(),
        }
    }

    /// The same, which writes down in `dir` what Podman itself cannot tell.
    pub fn keeping_in(mut self, dir: Option<PathBuf>) -> Self {
        self.left = Left::of(dir);
        self
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
        self.list().await
    }

    fn orphans(&self) -> BTreeSet<ContainerKey> {
        self.left.keys()
    }

    async fn ended(&self) {
        self.ends.next().await;
    }

    async fn has_image(&self, image: &ImageReference) -> Result<bool, PodmanError> {
        self.image_exists(image).await
    }

    async fn pull(
        &self,
        image: &ImageReference,
        login: Option<&RegistryLogin>,
    ) -> Result<(), PodmanError> {
        self.pull_image(image, login).await
    }

    async fn execute(&self, step: &Step) -> Result<(), PodmanError> {
        let key = &step.key;
        match &step.action {
            Action::Examine { id } => self.examine(id, key).await,
            Action::RemoveImage { image } => self.remove_image(image.as_str()).await,
            Action::Start { id } => self.start(id, key).await,
            Action::Stop { id } => self.stop(id, key).await,
            Action::Unpause { id } => self.unpause(id, key).await,
            Action::SetAside { id } => self.set_aside(id, key).await,
            Action::Rename { id, role } => self.rename(id, key, *role).await,
            Action::Create(spec) => self.create(spec).await.map(drop),
            Action::Run(spec) => {
                let id = self.create(spec).await?;
                self.start(&id, key).await
            }
            Action::RemoveVolumes => self.remove_left(key).await,
            Action::Remove { id, volumes } => self.remove(id, key, *volumes).await,
        }
    }

    async fn images(&self) -> Result<Vec<Image>, PodmanError> {
        // It is as rarely needed, and has nothing to do with images.
        if let Err(error) = self.discard_left_files().await {
            tracing::warn!(
                error = chain(&error),
                "cannot look for files that were left"
            );
        }
        self.list_images().await
    }

    async fn discard(&self, image: &Image) -> Result<(), PodmanError> {
        self.discard_image(image).await
    }

    async fn space(&self) -> Option<Space> {
        self.image_space().await
    }

    fn is_damage(error: &PodmanError) -> bool {
        matches!(error, PodmanError::Damaged { .. })
    }

    fn is_no_space(error: &PodmanError) -> bool {
        matches!(error, PodmanError::NoSpace { .. })
    }
}
