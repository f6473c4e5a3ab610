//! Files that a container is given. Podman's store of secrets takes them while the container is made, which gets a copy
//! of its own; so no directory has to be shared with the containers' user, and no file is in a request that an error may
//! quote.

use hyper::StatusCode;

use super::create::{file_name, files};
use super::error::PodmanError;
use super::http::{Call, Reply};
use super::{Podman, REQUEST_LIMIT, wire};
use crate::container::{ContainerKey, ContainerSpec};
use crate::error::chain;

impl Podman {
    /// Puts the files of the container to be into the store.
    pub(super) async fn store_files(&self, spec: &ContainerSpec) -> Result<(), PodmanError> {
        for (index, (file, _)) in files(&spec.service.definition).enumerate() {
            let name = file_name(&spec.key, index);
            let content = file.content.expose();
            let mut reply = self.store(&name, content).await?;
            // One that was cut off left it there.
            if is_taken(&reply) {
                self.discard_file(&name).await?;
                reply = self.store(&name, content).await?;
            }
            reply.expect(&[StatusCode::OK, StatusCode::CREATED])?;
        }
        Ok(())
    }

    async fn store(&self, name: &str, content: &[u8]) -> Result<Reply, PodmanError> {
        let store = Call::post(format!("store file {name}"))
            .path(&["secrets", "create"])
            .query("name", name)
            .bytes(content.to_vec())
            .limit(REQUEST_LIMIT);
        self.api.send(store).await
    }

    /// Removes the first `number` files of `key` from the store; each stays gone.
    pub(super) async fn discard_files(&self, key: &ContainerKey, number: usize) {
        for index in 0..number {
            let name = file_name(key, index);
            if let Err(error) = self.discard_file(&name).await {
                // The next container of this name takes its place.
                tracing::warn!(
                    name,
                    error = chain(&error),
                    "a file stays in Podman's store"
                );
            }
        }
    }

    async fn discard_file(&self, name: &str) -> Result<(), PodmanError> {
        let discard = Call::delete(format!("remove file {name} from the store"))
            .path(&["secrets", name])
            .limit(REQUEST_LIMIT);
        let done = [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND];
        self.api.send(discard).await?.expect(&done).map(drop)
    }
}

fn is_taken(reply: &Reply) -> bool {
    !reply.status.is_success() && wire::refusal(&reply.body).contains("name in use")
}
