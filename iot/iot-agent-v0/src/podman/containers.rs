//! What is done with containers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::StatusCode;

use super::create::{CreateContainer, CreateVolume, Inherited, STOP_SLACK, WRITABLE, volume_name};
use super::error::{PodmanError, is_about_damage};
use super::files::Storing;
use super::http::{Call, Reply};
use super::{Podman, REQUEST_LIMIT, wire, write_out};
use crate::container::{ContainerKey, ContainerSpec, ContainerState, ObservedContainer, Role};
use crate::error::chain;
use crate::plan::Volumes;
use crate::service::Terms;

impl Podman {
    /// The containers with the agent's labels.
    pub(super) async fn list(&self) -> Result<Vec<ObservedContainer>, PodmanError> {
        let list = Call::get("list containers".to_owned())
            .path(&["containers", "json"])
            .query("all", "true")
            .query("filters", &wire::own_containers_filter())
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(list).await?.expect(&[StatusCode::OK])?;
        // Without a container some versions answer `null`.
        let listed: Option<Vec<wire::ListedContainer>> = reply.json()?;
        let listed = listed.unwrap_or_default().into_iter();
        let (mut containers, mut pids) = (Vec::new(), BTreeSet::new());
        let (mut images, mut terms) = (BTreeSet::new(), BTreeMap::new());
        for (container, more) in listed.filter_map(wire::ListedContainer::observed) {
            if container.state == ContainerState::Running {
                pids.insert(more.pid);
            }
            if container.terms != Terms::default() {
                terms.insert(container.id.clone(), container.terms.clone());
            }
            images.insert(more.image_id.clone());
            containers.push((container, more.image_id));
        }
        self.terms.replace(terms);
        self.ends.watch(&pids);
        images.remove("");
        let digests = self.digests.lock().await.of(&self.api, images).await;
        let containers = containers.into_iter().map(|(mut container, image)| {
            container.image_digest = digests.get(&image).cloned();
            container
        });
        Ok(containers.collect())
    }

    fn terms(&self, id: &str) -> Terms {
        self.terms.borrow().get(id).cloned().unwrap_or_default()
    }

    /// Makes the container; gives its id.
    pub(super) async fn create(&self, spec: &ContainerSpec) -> Result<String, PodmanError> {
        let files = spec.service.terms().files;
        let _storing = Storing::of(self, &spec.key);
        let created = match self.store_files(spec).await {
            Ok(()) => self.create_with_files(spec).await,
            Err(error) => Err(error),
        };
        // The container has its own.
        self.discard_files(&spec.key, files).await;
        created
    }

    /// The volumes that the container goes on with. The named ones are those of its score; where there are none, and
    /// were none, it is all.
    pub(super) async fn inherited(&self, spec: &ContainerSpec) -> Result<Inherited, PodmanError> {
        let anonymous = match &spec.volumes_from {
            Some(id) if !spec.service.terms().has_volumes() && !self.terms(id).has_volumes() => {
                return Ok(Inherited::All(id.clone()));
            }
            Some(id) => self.anonymous_volumes(id, &spec.key).await?,
            None => self.left.volumes(&spec.key),
        };
        let definition = &spec.service.definition;
        let is_free = |mount: &wire::InspectedMount| {
            let path = mount.destination.as_str();
            let in_memory = definition.read_only && WRITABLE.contains(&path);
            !in_memory
                && !definition
                    .mounts()
                    .any(|other| other.path().as_str() == path)
        };
        let volume = |mount: wire::InspectedMount| CreateVolume {
            name: mount.name,
            dest: mount.destination,
            options: ["rprivate", "rw", "nodev", "exec"]
                .map(str::to_owned)
                .into(),
        };
        let inherited: Vec<_> = anonymous.into_iter().filter(is_free).map(volume).collect();
        Ok(match inherited.is_empty() {
            true => Inherited::Nothing,
            false => Inherited::Some(inherited),
        })
    }

    /// The anonymous volumes of a container.
    async fn anonymous_volumes(
        &self,
        id: &str,
        key: &ContainerKey,
    ) -> Result<Vec<wire::InspectedMount>, PodmanError> {
        let inspect = Call::get(format!("inspect a container of {key}"))
            .path(&["containers", id, "json"])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(inspect).await?;
        let inspected: wire::InspectedContainer = reply.expect(&[StatusCode::OK])?.json()?;
        let mut mounts = inspected.mounts.unwrap_or_default();
        // An anonymous volume's name is a number.
        mounts.retain(|mount| {
            mount.kind == "volume" && mount.name.bytes().all(|b| b.is_ascii_hexdigit())
        });
        Ok(mounts)
    }

    async fn create_with_files(&self, spec: &ContainerSpec) -> Result<String, PodmanError> {
        let body = CreateContainer::new(spec, self.inherited(spec).await?);
        let name = spec.key.container_name(Role::Current);
        let create = || {
            let call = Call::post(format!("create container {name}"))
                .path(&["containers", "create"])
                .json(&body)?
                .limit(REQUEST_LIMIT);
            Ok::<_, PodmanError>(call)
        };
        let mut reply = self.api.send(create()?).await?;
        if reply.status != StatusCode::CREATED && self.frees(&name, &reply).await? {
            reply = self.api.send(create()?).await?;
        }
        let reply = reply
            .expect(&[StatusCode::CREATED])
            .map_err(PodmanError::or_damage)?;
        let created: wire::CreatedContainer = reply.json()?;
        for warning in created.warnings.unwrap_or_default() {
            tracing::warn!(container = name, warning, "Podman warns");
        }
        write_out().await;
        self.left.forget(&spec.key).await;
        Ok(created.id)
    }

    pub(super) async fn start(&self, id: &str, key: &ContainerKey) -> Result<(), PodmanError> {
        let start = Call::post(format!("start container of {key}"))
            .path(&["containers", id, "start"])
            .limit(REQUEST_LIMIT);
        let done = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        let reply = self.api.send(start).await?;
        reply.expect(&done).map_err(PodmanError::or_damage)?;
        Ok(())
    }

    /// Frees a `name` that only the storage has, as a power cut while a container is made leaves it: Podman shows it in no
    /// list and refuses to use it again. Whether it was that.
    async fn frees(&self, name: &str, refusal: &Reply) -> Result<bool, PodmanError> {
        if !wire::refusal(&refusal.body).contains("already in use") {
            return Ok(false);
        }
        let exists = Call::get(format!("look for container {name}"))
            .path(&["containers", name, "exists"])
            .limit(REQUEST_LIMIT);
        if self.api.send(exists).await?.status != StatusCode::NOT_FOUND {
            return Ok(false);
        }
        tracing::warn!(
            name,
            "only the storage has a container of this name; it is removed"
        );
        let remove = Call::delete(format!("remove {name} from the storage"))
            .path(&["containers", name])
            .query("force", "true")
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(remove).await?;
        reply.expect(&[StatusCode::OK, StatusCode::NO_CONTENT])?;
        Ok(true)
    }

    /// Looks into the last words of a container that ended. The runtime tells there why it could not run the program.
    pub(super) async fn examine(&self, id: &str, key: &ContainerKey) -> Result<(), PodmanError> {
        let what = format!("read the log of {key}");
        let logs = Call::get(what.clone())
            .path(&["containers", id, "logs"])
            .query("stdout", "false")
            .query("stderr", "true")
            .query("tail", "5")
            .limit(REQUEST_LIMIT);
        let reply = match self.api.send(logs).await {
            Ok(reply) if reply.status == StatusCode::OK => reply,
            // It is only to know more.
            Ok(reply) => {
                tracing::debug!(container = %key, status = %reply.status, "its log is not to be had");
                return Ok(());
            }
            Err(error) => {
                tracing::debug!(container = %key, error = chain(&error), "its log is not to be had");
                return Ok(());
            }
        };
        let message = wire::words_of_the_runtime(&reply.body);
        match message.filter(|message| is_about_damage(message)) {
            Some(message) => Err(PodmanError::Damaged { what, message }),
            None => Ok(()),
        }
    }

    pub(super) async fn unpause(&self, id: &str, key: &ContainerKey) -> Result<(), PodmanError> {
        let unpause = Call::post(format!("unpause container of {key}"))
            .path(&["containers", id, "unpause"])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(unpause).await?;
        if wire::refusal(&reply.body).contains("is not paused") {
            return Ok(());
        }
        reply.expect(&[StatusCode::NO_CONTENT]).map(drop)
    }

    /// Stops the container, which is then the previous one.
    pub(super) async fn set_aside(&self, id: &str, key: &ContainerKey) -> Result<(), PodmanError> {
        self.stop(id, key).await?;
        self.rename(id, key, Role::Previous).await
    }

    pub(super) async fn stop(&self, id: &str, key: &ContainerKey) -> Result<(), PodmanError> {
        let seconds = self.terms(id).stop_seconds;
        let stop = Call::post(format!("stop container of {key}"))
            .path(&["containers", id, "stop"])
            .query("timeout", &seconds.to_string())
            .limit(Duration::from_secs(seconds.into()) + STOP_SLACK);
        let done = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        self.api.send(stop).await?.expect(&done).map(drop)
    }

    pub(super) async fn rename(
        &self,
        id: &str,
        key: &ContainerKey,
        role: Role,
    ) -> Result<(), PodmanError> {
        let name = key.container_name(role);
        let rename = || {
            Call::post(format!("rename a container to {name}"))
                .path(&["containers", id, "rename"])
                .query("name", &name)
                .limit(REQUEST_LIMIT)
        };
        let mut reply = self.api.send(rename()).await?;
        if reply.status != StatusCode::NO_CONTENT && self.frees(&name, &reply).await? {
            reply = self.api.send(rename()).await?;
        }
        reply.expect(&[StatusCode::NO_CONTENT]).map(drop)
    }

    /// Removes the container. Podman keeps an anonymous volume that another container has as well, and `volumes` is the
    /// parameter's name for it in this API: `v` is that of Docker's, and does nothing here.
    pub(super) async fn remove(
        &self,
        id: &str,
        key: &ContainerKey,
        volumes: Volumes,
    ) -> Result<(), PodmanError> {
        if volumes == Volumes::Kept {
            self.left
                .leave(key, self.anonymous_volumes(id, key).await?)
                .await;
        }
        let terms = self.terms(id);
        let seconds = terms.stop_seconds;
        let remove = Call::delete(format!("remove container of {key}"))
            .path(&["containers", id])
            .query("force", "true")
            .query("volumes", &(volumes != Volumes::Kept).to_string())
            .query("timeout", &seconds.to_string())
            .limit(Duration::from_secs(seconds.into()) + STOP_SLACK);
        let reply = self.api.send(remove).await?;
        // Somebody else's removal is as good.
        let done = [
            StatusCode::OK,
            StatusCode::NO_CONTENT,
            StatusCode::NOT_FOUND,
        ];
        reply.expect(&done)?;
        if volumes == Volumes::Passing {
            // A creation that was cut off may have left some.
            self.discard_files(key, terms.files).await;
            for volume in &terms.passing_volumes {
                self.remove_volume(&volume_name(&key.deployment, volume))
                    .await?;
            }
        }
        Ok(())
    }

    /// Removes the volumes that wait for the container of `key`.
    pub(super) async fn remove_left(&self, key: &ContainerKey) -> Result<(), PodmanError> {
        for volume in self.left.volumes(key) {
            self.remove_volume(&volume.name).await?;
        }
        self.left.forget(key).await;
        Ok(())
    }

    /// Removes a volume, unless another container has it.
    async fn remove_volume(&self, name: &str) -> Result<(), PodmanError> {
        let remove = Call::delete(format!("remove volume {name}"))
            .path(&["volumes", name])
            .limit(REQUEST_LIMIT);
        let reply = self.api.send(remove).await?;
        let done = [
            StatusCode::NO_CONTENT,
            StatusCode::NOT_FOUND,
            StatusCode::CONFLICT,
        ];
        let reply = reply.expect(&done)?;
        if reply.status == StatusCode::NO_CONTENT {
            tracing::info!(name, "removed the volume");
        }
        Ok(())
    }
}
