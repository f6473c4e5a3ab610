//! What the scripted executor answers.

use std::collections::BTreeSet;
use std::future::pending;

use iot_contracts::{ImageReference, RegistryLogin};

use super::{FakePodman, RESERVE, Scripted};
use crate::container::{ContainerKey, ObservedContainer};
use crate::plan::{Action, Step};
use crate::reconcile::Executor;
use crate::room::{Image, Space};

impl Executor for FakePodman {
    type Error = Scripted;

    async fn observe(&self) -> Result<Vec<ObservedContainer>, Scripted> {
        self.0.borrow_mut().looks += 1;
        let seen = self.seen();
        let time = self.0.borrow().looking;
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        seen
    }

    fn orphans(&self) -> BTreeSet<ContainerKey> {
        self.0.borrow().left.keys().cloned().collect()
    }

    async fn ended(&self) {
        self.1.notified().await;
    }

    async fn has_image(&self, image: &ImageReference) -> Result<bool, Scripted> {
        let question = format!("exists {image}");
        if self.0.borrow().hanging.contains(&question) {
            pending::<()>().await;
        }
        let state = self.0.borrow();
        if state.failing.contains(&question) {
            return Err(Scripted::Failure);
        }
        Ok(state.images.contains(image) && !state.unknown_by_name)
    }

    async fn pull(
        &self,
        image: &ImageReference,
        login: Option<&RegistryLogin>,
    ) -> Result<(), Scripted> {
        if let Some(login) = login {
            let login = format!("{image} {}", login.username);
            self.0.borrow_mut().logins.push(login);
        }
        self.act(format!("image {image}")).await?;
        let mut state = self.0.borrow_mut();
        if login.is_some_and(|login| state.strangers.contains(&login.username)) {
            return Err(Scripted::Failure);
        }
        let there = state.images.len() as u64;
        if state.room.is_some_and(|room| there >= room + RESERVE) {
            return Err(Scripted::NoSpace);
        }
        state.images.insert(image.clone());
        if state.always_damaged.contains(image.as_str()) {
            state.damaged.insert(image.to_string());
        }
        Ok(())
    }

    async fn execute(&self, step: &Step) -> Result<(), Scripted> {
        let name = self.0.borrow().name(step);
        let hollow = self.0.borrow().hollow.contains(&name);
        self.act(name).await?;
        if hollow {
            return Ok(());
        }
        if step.action == Action::RemoveVolumes {
            self.0.borrow_mut().left.remove(&step.key);
        }
        self.0.borrow_mut().do_it(&step.action)
    }

    async fn images(&self) -> Result<Vec<Image>, Scripted> {
        let state = self.0.borrow();
        let image = |image: &ImageReference| Image {
            id: image.to_string(),
            tags: vec![image.to_string()],
            digests: Vec::new(),
            is_used: state.containers.values().any(|fake| fake.image == *image),
        };
        Ok(state.images.iter().map(image).collect())
    }

    async fn discard(&self, image: &Image) -> Result<(), Scripted> {
        self.act(format!("discard {}", image.id)).await?;
        let mut state = self.0.borrow_mut();
        let used = state
            .containers
            .values()
            .any(|fake| fake.image.as_str() == image.id);
        if used {
            return Err(Scripted::Failure);
        }
        state.images.retain(|there| there.as_str() != image.id);
        Ok(())
    }

    async fn space(&self) -> Option<Space> {
        let state = self.0.borrow();
        let room = state.room?;
        let free = match state.filled {
            true => 0,
            false => (room + RESERVE).saturating_sub(state.images.len() as u64),
        };
        Some(Space {
            free,
            total: 10 * RESERVE,
        })
    }

    fn is_no_space(error: &Scripted) -> bool {
        *error == Scripted::NoSpace
    }

    fn is_damage(error: &Scripted) -> bool {
        *error == Scripted::Damage
    }
}
