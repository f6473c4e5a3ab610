//! A scripted executor for tests: it holds containers in memory and fails where it is told to.

#[path = "fake_executor.rs"]
mod executor;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use iot_contracts::ImageReference;
use tokio::sync::Notify;

use crate::container::{
    ContainerKey, ContainerSpec, ContainerState, Health, ObservedContainer, Role,
};
use crate::plan::{Action, Step, Volumes};

/// A failure that a script asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Scripted {
    /// A plain one.
    #[error("scripted failure")]
    Failure,
    /// The image is damaged.
    #[error("scripted damage")]
    Damage,
    /// The disk is full.
    #[error("scripted want of space")]
    NoSpace,
}

/// How many images the reserve takes.
const RESERVE: u64 = 4;

/// Containers in memory.
#[derive(Debug, Default)]
pub struct FakePodman(RefCell<State>, Notify);

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<String, Fake>,
    images: BTreeSet<ImageReference>,
    next_id: u32,
    starts: i64,
    looks: u32,
    log: Vec<String>,
    absent: bool,
    failing: BTreeSet<String>,
    hanging: BTreeSet<String>,
    exiting: BTreeSet<String>,
    hollow: BTreeSet<String>,
    taking: BTreeMap<String, Duration>,
    begun: Vec<String>,
    exits_at_once: bool,
    /// What the checks of an image's containers say as soon as they run.
    healths: BTreeMap<String, Health>,
    /// With what the containers of an image end before anyone looks.
    codes: BTreeMap<String, i32>,
    logins: Vec<String>,
    /// Whom no registry lets in.
    strangers: BTreeSet<String>,
    /// Images whose programs are empty, and those that are so whenever they are pulled.
    damaged: BTreeSet<String>,
    always_damaged: BTreeSet<String>,
    /// How many images the disk takes above the reserve.
    room: Option<u64>,
    filled: bool,
    looking: Duration,
    unknown_by_name: bool,
    /// The volumes that wait for a container.
    left: BTreeMap<ContainerKey, String>,
}

#[derive(Debug)]
struct Fake {
    observed: ObservedContainer,
    image: ImageReference,
    /// The volume's name: it is handed on.
    volume: String,
}

impl FakePodman {
    /// Whether nobody answers.
    pub fn set_absent(&self, absent: bool) {
        self.0.borrow_mut().absent = absent;
    }

    /// Steps whose name in the log this is fail; `start IMAGE` are the starts of that image's containers.
    pub fn fail(&self, step: &str) {
        self.0.borrow_mut().failing.insert(step.to_owned());
    }

    /// No registry lets `user` in.
    pub fn refuse(&self, user: &str) {
        self.0.borrow_mut().strangers.insert(user.to_owned());
    }

    /// Steps whose name in the log this is never end, nor the question for an image, `exists IMAGE`.
    pub fn hang(&self, step: &str) {
        self.0.borrow_mut().hanging.insert(step.to_owned());
    }

    /// Steps whose name in the log this is succeed and do nothing.
    pub fn hollow(&self, step: &str) {
        self.0.borrow_mut().hollow.insert(step.to_owned());
    }

    /// Steps whose name in the log this is take that long.
    pub fn take(&self, step: &str, time: Duration) {
        self.0.borrow_mut().taking.insert(step.to_owned(), time);
    }

    /// How often the step whose name in the log this is was begun.
    pub fn begun(&self, step: &str) -> usize {
        self.0
            .borrow()
            .begun
            .iter()
            .filter(|begun| *begun == step)
            .count()
    }

    /// The disk takes that many images, above the reserve.
    pub fn set_room(&self, images: u64) {
        let mut state = self.0.borrow_mut();
        state.room = Some(images);
        state.filled = false;
    }

    /// Nothing is free any more.
    pub fn fill(&self) {
        let mut state = self.0.borrow_mut();
        state.room = Some(0);
        state.filled = true;
    }

    /// The images on the device.
    pub fn images_there(&self) -> Vec<String> {
        let state = self.0.borrow();
        state.images.iter().map(ToString::to_string).collect()
    }

    /// The image on the device is damaged; with `always`, what is pulled is so again.
    pub fn damage(&self, image: &str, always: bool) {
        let mut state = self.0.borrow_mut();
        state.images.insert(image.parse().unwrap());
        state.damaged.insert(image.to_owned());
        if always {
            state.always_damaged.insert(image.to_owned());
        }
    }

    /// Everything succeeds again.
    pub fn heal(&self) {
        let mut state = self.0.borrow_mut();
        state.failing.clear();
        state.hanging.clear();
        state.exiting.clear();
        state.exits_at_once = false;
    }

    /// What is started ends with code 7 before anyone looks.
    pub fn exit_at_once(&self) {
        self.0.borrow_mut().exits_at_once = true;
    }

    /// What is started of this image ends with code 7 before anyone looks.
    pub fn exits(&self, image: &str) {
        self.0.borrow_mut().exiting.insert(image.to_owned());
    }

    /// What is started of this image ends with that code before anyone looks.
    pub fn exits_with(&self, image: &str, code: i32) {
        self.0.borrow_mut().codes.insert(image.to_owned(), code);
    }

    /// The checks of this image's containers say that, those of the ones that run as well.
    pub fn set_health(&self, image: &str, health: Health) {
        let mut state = self.0.borrow_mut();
        for fake in state.containers.values_mut() {
            if fake.image.as_str() == image && fake.observed.health.is_some() {
                fake.observed.health = Some(health);
            }
        }
        state.healths.insert(image.to_owned(), health);
    }

    /// Who logged in to pull which image.
    pub fn logins(&self) -> Vec<String> {
        self.0.borrow().logins.clone()
    }

    /// Every container stops, as after a power cut. Podman has forgotten then that those ran.
    pub fn cut_power_from(&self, image: &str) {
        for fake in self.0.borrow_mut().containers.values_mut() {
            if fake.image.as_str() == image && fake.observed.state == ContainerState::Running {
                fake.observed.state = ContainerState::Created;
            }
        }
    }

    /// Every container stops, as after a power cut.
    pub fn cut_power(&self) {
        for fake in self.0.borrow_mut().containers.values_mut() {
            if fake.observed.state != ContainerState::Created {
                fake.observed.state = ContainerState::Exited { code: 137 };
            }
        }
    }

    /// A container has ended, and Podman does not know it yet.
    pub fn notice(&self) {
        self.1.notify_one();
    }

    /// The container of `key` ends, and that is noticed.
    pub fn end(&self, key: &str, code: i32) {
        self.set_state(key, ContainerState::Exited { code });
        self.1.notify_one();
    }

    /// Puts the container of `key` into a state.
    pub fn set_state(&self, key: &str, state: ContainerState) {
        for fake in self.0.borrow_mut().containers.values_mut() {
            if fake.observed.key.to_string() == key && fake.observed.role == Role::Current {
                fake.observed.state = state;
            }
        }
    }

    /// The steps done since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().log)
    }

    /// No image is found by the name that it was fetched by.
    pub fn hide_images(&self) {
        self.0.borrow_mut().unknown_by_name = true;
    }

    /// A look takes that long, and shows what was there when it began.
    pub fn set_looking(&self, time: Duration) {
        self.0.borrow_mut().looking = time;
    }

    fn seen(&self) -> Result<Vec<ObservedContainer>, Scripted> {
        let state = self.0.borrow();
        if state.absent {
            return Err(Scripted::Failure);
        }
        let containers = state.containers.values();
        Ok(containers.map(|fake| fake.observed.clone()).collect())
    }

    /// How often it was looked at since the last call.
    pub fn take_looks(&self) -> u32 {
        std::mem::take(&mut self.0.borrow_mut().looks)
    }

    /// Which containers run.
    pub fn running(&self) -> Vec<String> {
        self.described(|fake| {
            let runs = fake.observed.state == ContainerState::Running;
            runs.then(|| fake.observed.key.to_string())
        })
    }

    /// Each container's name with its image and what it does.
    pub fn containers(&self) -> Vec<String> {
        self.described(|fake| {
            let ObservedContainer {
                key, role, state, ..
            } = &fake.observed;
            let name = key.container_name(*role);
            let name = name.trim_start_matches("harmony.");
            let does = match state {
                ContainerState::Running => "runs",
                ContainerState::Created => "made",
                ContainerState::Exited { .. } => "down",
                ContainerState::Paused => "paused",
                ContainerState::Between => "between",
            };
            Some(format!("{name} {} {does}", fake.image))
        })
    }

    /// Each container's name and volume.
    pub fn volumes(&self) -> Vec<String> {
        self.described(|fake| {
            let ObservedContainer { key, role, .. } = &fake.observed;
            Some(format!("{} {}", key.container_name(*role), fake.volume))
        })
    }

    fn described(&self, tell: impl Fn(&Fake) -> Option<String>) -> Vec<String> {
        let state = self.0.borrow();
        let mut described: Vec<_> = state.containers.values().filter_map(tell).collect();
        described.sort();
        described
    }

    /// Logs `name`; hangs or fails where that was asked for.
    async fn act(&self, name: String) -> Result<(), Scripted> {
        self.0.borrow_mut().begun.push(name.clone());
        if self.0.borrow().hanging.contains(&name) {
            pending::<()>().await;
        }
        let time = self.0.borrow().taking.get(&name).copied();
        if let Some(time) = time {
            tokio::time::sleep(time).await;
        }
        let failing = self.0.borrow().failing.contains(&name);
        self.0.borrow_mut().log.push(name);
        if failing {
            Err(Scripted::Failure)
        } else {
            Ok(())
        }
    }
}

impl State {
    fn name(&self, step: &Step) -> String {
        let of = |id: &String| {
            let role = self
                .containers
                .get(id)
                .map_or(Role::Current, |fake| fake.observed.role);
            step.key
                .container_name(role)
                .trim_start_matches("harmony.")
                .to_owned()
        };
        match &step.action {
            Action::Examine { id } => format!("examine {}", of(id)),
            Action::RemoveImage { image } => format!("remove image {image}"),
            Action::Remove { id, .. } => format!("remove {}", of(id)),
            Action::RemoveVolumes => format!("remove volumes {}", step.key),
            Action::Create(spec) => format!("only create {}", spec.key),
            Action::Run(spec) => format!("create {}", spec.key),
            Action::Start { id } => format!("start {}", of(id)),
            Action::Stop { id } => format!("stop {}", of(id)),
            Action::Unpause { id } => format!("unpause {}", of(id)),
            Action::SetAside { .. } => format!("set aside {}", step.key),
            Action::Rename { id, role } => {
                let to = step.key.container_name(*role);
                format!("rename {} {}", of(id), to.trim_start_matches("harmony."))
            }
        }
    }

    fn create(&mut self, spec: &ContainerSpec) -> String {
        self.next_id += 1;
        let id = format!("c{}", self.next_id);
        let from = spec
            .volumes_from
            .as_ref()
            .and_then(|id| self.containers.get(id));
        let from = from.map(|from| from.volume.clone());
        let left = self.left.remove(&spec.key);
        let volume = from.or(left).unwrap_or(format!("v{}", self.next_id));
        let observed = ObservedContainer {
            id: id.clone(),
            key: spec.key.clone(),
            role: Role::Current,
            digest: spec.service.digest.clone(),
            terms: spec.service.terms(),
            health: None,
            state: ContainerState::Created,
            image: spec.service.image().to_string(),
            image_digest: None,
            started_at: 0,
            exited_at: 0,
        };
        let image = spec.service.image().clone();
        let fake = Fake {
            observed,
            image,
            volume,
        };
        self.containers.insert(id.clone(), fake);
        id
    }

    fn start(&mut self, id: &str) -> Result<(), Scripted> {
        let image = self
            .containers
            .get(id)
            .map(|fake| format!("start {}", fake.image));
        if image.is_some_and(|step| self.failing.contains(&step)) {
            return Err(Scripted::Failure);
        }
        let key = self.containers.get(id).map(|fake| &fake.observed.key);
        let holds_the_port = |other: &Fake| {
            let ObservedContainer { id: its, state, .. } = &other.observed;
            key == Some(&other.observed.key) && its != id && *state == ContainerState::Paused
        };
        let port_is_held = self.containers.values().any(holds_the_port);
        if port_is_held {
            return Err(Scripted::Failure);
        }
        self.starts += 1;
        let (starts, all_exit) = (self.starts, self.exits_at_once);
        if let Some(fake) = self.containers.get_mut(id) {
            let image = fake.image.as_str();
            let exits = all_exit || self.exiting.contains(image) || self.damaged.contains(image);
            fake.observed.started_at = starts;
            let code = exits.then_some(7).or(self.codes.get(image).copied());
            fake.observed.state = match code {
                Some(code) => ContainerState::Exited { code },
                None => ContainerState::Running,
            };
            let health = self.healths.get(image).copied();
            let is_checked = fake.observed.terms.healthy_within().is_some();
            fake.observed.health = is_checked.then_some(health.unwrap_or(Health::Starting));
        }
        Ok(())
    }

    fn rename(&mut self, id: &str, role: Role) {
        let key = &self.containers[id].observed.key;
        let taken = self
            .containers
            .values()
            .any(|f| f.observed.id != id && f.observed.key == *key && f.observed.role == role);
        assert!(!taken, "the name is taken: {id} {role:?}");
        self.containers.get_mut(id).unwrap().observed.role = role;
    }

    fn do_it(&mut self, action: &Action) -> Result<(), Scripted> {
        match action {
            Action::Examine { id } => {
                let image = self.containers[id].image.as_str();
                if self.damaged.contains(image) {
                    return Err(Scripted::Damage);
                }
            }
            Action::RemoveImage { image } => {
                if self.containers.values().any(|fake| fake.image == *image) {
                    return Err(Scripted::Failure);
                }
                self.images.remove(image);
                self.damaged.remove(image.as_str());
            }
            Action::Remove { id, volumes } => {
                let gone = self.containers.remove(id);
                if let Some(gone) = gone.filter(|_| *volumes == Volumes::Kept) {
                    self.left.insert(gone.observed.key, gone.volume);
                }
            }
            Action::RemoveVolumes => {}
            Action::Create(spec) => drop(self.create(spec)),
            Action::Run(spec) => {
                let id = self.create(spec);
                self.start(&id)?;
            }
            Action::Start { id } => self.start(id)?,
            Action::Stop { id } => {
                let fake = self.containers.get_mut(id).unwrap();
                if fake.observed.state != ContainerState::Paused {
                    fake.observed.state = ContainerState::Exited { code: 143 };
                }
            }
            Action::Unpause { id } => {
                let fake = self.containers.get_mut(id).unwrap();
                fake.observed.state = ContainerState::Running;
            }
            Action::SetAside { id } => {
                let fake = self.containers.get_mut(id).unwrap();
                if fake.observed.state == ContainerState::Running {
                    fake.observed.state = ContainerState::Exited { code: 143 };
                }
                self.rename(id, Role::Previous);
            }
            Action::Rename { id, role } => self.rename(id, *role),
        }
        Ok(())
    }
}
