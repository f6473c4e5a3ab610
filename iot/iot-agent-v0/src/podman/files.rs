//! Files that a container is given. Podman's store of secrets takes them while the container is made, which gets a copy
//! of its own; so no directory has to be shared with the containers' user, and no file is in a request that an error may
//! quote.

use std::cell::RefCell;
use std::collections::BTreeSet;

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

    pub(super) async fn store(&self, name: &str, content: &[u8]) -> Result<Reply, PodmanError> {
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

    /// Removes the files of containers that nobody is making now. A creation that was cut off left them, and there may
    /// never be another one of that container.
    pub(super) async fn discard_left_files(&self) -> Result<(), PodmanError> {
        let list = Call::get("list the files in the store".to_owned())
            .path(&["secrets", "json"])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(list).await?.expect(&[StatusCode::OK])?;
        let listed: Option<Vec<wire::ListedSecret>> = reply.json()?;
        let names = listed.into_iter().flatten().map(|listed| listed.spec.name);
        for name in names {
            let is_left = |key| !self.storing.borrow().contains(&key);
            if key_of(&name).is_some_and(is_left) {
                tracing::info!(name, "a file was left in Podman's store; it is removed");
                self.discard_file(&name).await?;
            }
        }
        Ok(())
    }

    async fn discard_file(&self, name: &str) -> Result<(), PodmanError> {
        let discard = Call::delete(format!("remove file {name} from the store"))
            .path(&["secrets", name])
            .limit(REQUEST_LIMIT);
        let done = [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND];
        self.api.send(discard).await?.expect(&done).map(drop)
    }
}

/// While it lives, files of a container are in the store because it is being made.
pub(super) struct Storing<'a> {
    all: &'a RefCell<BTreeSet<ContainerKey>>,
    key: &'a ContainerKey,
}

impl<'a> Storing<'a> {
    pub(super) fn of(podman: &'a Podman, key: &'a ContainerKey) -> Self {
        let all = &podman.storing;
        all.borrow_mut().insert(key.clone());
        Self { all, key }
    }
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        self.all.borrow_mut().remove(self.key);
    }
}

/// The container that a file in the store is for, by its name; `None` for what is not the agent's.
fn key_of(name: &str) -> Option<ContainerKey> {
    let (container, index) = name.strip_prefix("harmony.")?.rsplit_once('.')?;
    let (deployment, service) = container.split_once('.')?;
    let key = ContainerKey {
        deployment: deployment.parse().ok()?,
        service: service.parse().ok()?,
    };
    (file_name(&key, index.parse().ok()?) == name).then_some(key)
}

fn is_taken(reply: &Reply) -> bool {
    !reply.status.is_success() && wire::refusal(&reply.body).contains("name in use")
}
