//! What is done with images.

use std::path::Path;
use std::time::Duration;

use hyper::StatusCode;
use iot_contracts::{ImageReference, RegistryLogin};
use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;

use super::error::PodmanError;
use super::http::Call;
use super::{Podman, REQUEST_LIMIT, wire, write_out};
use crate::room::{Image, Space};

/// How long an image may take: hundreds of megabytes over a slow line.
const PULL_LIMIT: Duration = Duration::from_secs(30 * 60);

impl Podman {
    pub(super) async fn image_exists(&self, image: &ImageReference) -> Result<bool, PodmanError> {
        let exists = Call::get(format!("look for image '{image}'"))
            .path(&["images", image.as_str(), "exists"])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(exists).await?;
        // What is no reference is refused here by some versions; the pull says why.
        Ok(reply.status == StatusCode::NO_CONTENT)
    }

    /// Removes an image; Podman refuses when a container is of it.
    pub(super) async fn remove_image(&self, image: &str) -> Result<(), PodmanError> {
        let remove = Call::delete(format!("remove image '{image}'"))
            .path(&["images", image])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(remove).await?;
        let done = [StatusCode::OK, StatusCode::NOT_FOUND];
        reply.expect(&done).map(drop)
    }

    /// All images, but for those that are only a part of another.
    pub(super) async fn list_images(&self) -> Result<Vec<Image>, PodmanError> {
        let list = Call::get("list images".to_owned())
            .path(&["images", "json"])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(list).await?.expect(&[StatusCode::OK])?;
        let listed: Option<Vec<wire::ListedImage>> = reply.json()?;
        Ok(listed
            .unwrap_or_default()
            .into_iter()
            .map(Image::from)
            .collect())
    }

    /// Removes an image by each of its names: by its id Podman refuses when it has several.
    pub(super) async fn discard_image(&self, image: &Image) -> Result<(), PodmanError> {
        for tag in &image.tags {
            self.remove_image(tag).await?;
        }
        // It has gone with its last tag.
        self.remove_image(&image.id).await
    }

    /// The space of the file system where Podman has its images.
    pub(super) async fn image_space(&self) -> Option<Space> {
        let known = self.storage.borrow().clone();
        let storage = match known {
            Some(storage) => storage,
            None => {
                let info = Call::get("ask for Podman's storage".to_owned())
                    .path(&["info"])
                    .limit(REQUEST_LIMIT);
                let reply = self.api.send(info).await.ok()?;
                let info: wire::Info = reply.expect(&[StatusCode::OK]).ok()?.json().ok()?;
                self.storage.replace(Some(info.store.graph_root.clone()));
                info.store.graph_root
            }
        };
        let found = file_system(&storage)?;
        Some(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    pub(super) async fn pull_image(
        &self,
        image: &ImageReference,
        login: Option<&RegistryLogin>,
    ) -> Result<(), PodmanError> {
        tracing::info!(%image, "pulling");
        let pull = Call::post(format!("pull image '{image}'"))
            .path(&["images", "pull"])
            .query("reference", image.as_str())
            .limit(PULL_LIMIT);
        let pull = match login {
            Some(login) => pull.login(login)?,
            None => pull,
        };
        let reply = self.api.send(pull).await?.expect(&[StatusCode::OK])?;
        // The status is sent before the pull begins; whether it went well is in the last line.
        if let Some(message) = wire::pull_error(&reply.body) {
            return Err(PodmanError::not_pulled(image, message));
        }
        write_out().await;
        Ok(())
    }
}

/// The file system of `directory`. Where the agent may not look into it, as it is another user's, that of the nearest one
/// above: nothing is mounted in between, where Podman has its storage in its user's home.
fn file_system(directory: &Path) -> Option<StatVfs> {
    for directory in directory.ancestors() {
        match statvfs(directory) {
            Err(Errno::ACCESS) => {}
            found => return found.ok(),
        }
    }
    None
}
