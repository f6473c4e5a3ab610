//! A scripted executor for tests: it holds containers in memory and fails where it is told to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::pending;

use crate::plan::{Action, ContainerKey, ContainerState, ObservedContainer, Step};
use crate::reconcile::Executor;

/// A failure that a script asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("scripted failure")]
pub struct Scripted;

/// Containers in memory.
#[derive(Debug, Default)]
pub struct FakePodman(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<String, ObservedContainer>,
    next_id: u32,
    looks: u32,
    log: Vec<String>,
    absent: bool,
    failing: Vec<String>,
    hanging: Vec<String>,
    exits_at_once: bool,
}

impl FakePodman {
    /// Whether nobody answers.
    pub fn set_absent(&self, absent: bool) {
        self.0.borrow_mut().absent = absent;
    }

    /// Steps whose name in the log this is fail.
    pub fn fail(&self, step: &str) {
        self.0.borrow_mut().failing.push(step.to_owned());
    }

    /// Steps whose name in the log this is never end.
    pub fn hang(&self, step: &str) {
        self.0.borrow_mut().hanging.push(step.to_owned());
    }

    /// Everything succeeds again.
    pub fn heal(&self) {
        let mut state = self.0.borrow_mut();
        state.failing.clear();
        state.hanging.clear();
        state.exits_at_once = false;
    }

    /// What is started ends with code 7 before anyone looks.
    pub fn exit_at_once(&self) {
        self.0.borrow_mut().exits_at_once = true;
    }

    /// Every container stops, as after a power cut.
    pub fn cut_power(&self) {
        for container in self.0.borrow_mut().containers.values_mut() {
            container.state = ContainerState::Exited { code: 137 };
        }
    }

    /// The steps done since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().log)
    }

    /// How often it was looked at since the last call.
    pub fn take_looks(&self) -> u32 {
        std::mem::take(&mut self.0.borrow_mut().looks)
    }

    /// Which containers run.
    pub fn running(&self) -> Vec<String> {
        let state = self.0.borrow();
        let running = state
            .containers
            .values()
            .filter(|c| c.state == ContainerState::Running);
        running.map(|container| container.key.to_string()).collect()
    }

    fn create(&self, key: &ContainerKey, digest: &str) {
        let mut state = self.0.borrow_mut();
        state.next_id += 1;
        let id = format!("c{}", state.next_id);
        let container = ObservedContainer {
            id: id.clone(),
            key: key.clone(),
            digest: digest.to_owned(),
            state: state.after_start(),
        };
        state.containers.insert(id, container);
    }
}

impl State {
    fn after_start(&self) -> ContainerState {
        match self.exits_at_once {
            true => ContainerState::Exited { code: 7 },
            false => ContainerState::Running,
        }
    }
}

fn name(step: &Step) -> String {
    match &step.action {
        Action::Remove { .. } => format!("remove {}", step.key),
        Action::EnsureImage { image } => format!("image {image}"),
        Action::Create(spec) => format!("create {}", spec.key),
        Action::Start { .. } => format!("start {}", step.key),
    }
}

impl Executor for FakePodman {
    type Error = Scripted;

    async fn observe(&self) -> Result<Vec<ObservedContainer>, Scripted> {
        self.0.borrow_mut().looks += 1;
        let state = self.0.borrow();
        if state.absent {
            return Err(Scripted);
        }
        Ok(state.containers.values().cloned().collect())
    }

    async fn execute(&self, step: &Step) -> Result<(), Scripted> {
        let name = name(step);
        if self.0.borrow().hanging.contains(&name) {
            pending::<()>().await;
        }
        let failing = self.0.borrow().failing.contains(&name);
        self.0.borrow_mut().log.push(name);
        if failing {
            return Err(Scripted);
        }
        match &step.action {
            Action::EnsureImage { .. } => {}
            Action::Remove { id } => {
                self.0.borrow_mut().containers.remove(id);
            }
            Action::Create(spec) => self.create(&spec.key, &spec.digest),
            Action::Start { id } => {
                let mut state = self.0.borrow_mut();
                let after = state.after_start();
                if let Some(container) = state.containers.get_mut(id) {
                    container.state = after;
                }
            }
        }
        Ok(())
    }
}
