//! Whether what was found on a device is what it should be.

use std::collections::{BTreeMap, BTreeSet};

use iot_contracts::{AgentStatus, DeploymentName, Hex, Phase, UpdatePhase};
use sha2::{Digest, Sha256};

use crate::look::{Found, FoundContainer};

/// The service of each deployment here.
pub(crate) const SERVICE: &str = "workload";

/// What may lie in the agent's state directory: its type as find(1) has it, and its path. What a new user's home has, its
/// own key, what it follows, what it keeps for containers, the two slots with their record, and the launcher's socket of the last trial.
const STATE: [&str; 12] = [
    "f .bash_logout",
    "f .bashrc",
    "f .profile",
    "f nats.nk",
    "f desired-state",
    "f kept-volumes",
    "f unused-images",
    "d slots",
    "f slots/record",
    "f slots/a",
    "f slots/b",
    "s slots/trial.sock",
];

/// What the kernel says of a file system or a disk that is damaged, in any line that has all parts.
const DAMAGE: [[&str; 2]; 6] = [
    ["EXT4-fs error", ""],
    ["EXT4-fs warning", ""],
    ["EXT4-fs", "error count"],
    ["EXT4-fs", "mounting fs with errors"],
    ["JBD2", "rror"],
    ["I/O error", ""],
];

/// What the agent's file with the desired state begins with.
const STATE_FORMAT: &str = "harmony-desired-state 1 ";

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Desired {
    /// The reference of its image.
    pub(crate) image: String,
    /// What tells its value from others of that image.
    pub(crate) change: usize,
    /// The digest of its value, as reports have it.
    pub(crate) digest: String,
}

/// What the device should be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) deployments: BTreeMap<DeploymentName, Desired>,
    /// The agent's program in the end.
    pub(crate) program: Hex<32>,
    /// The one that it is to take the place of, until it has.
    pub(crate) before: Option<Hex<32>>,
    /// The one that was installed, which starts the others.
    pub(crate) installed: Hex<32>,
    /// Whether that program came by an update.
    pub(crate) is_updated: bool,
    /// What had failed before the first cut.
    pub(crate) failed_units: BTreeSet<String>,
}

impl Wanted {
    /// A program is released that is to take the place of the one that runs.
    pub(crate) fn update_to(&mut self, program: Hex<32>) {
        self.before = Some(std::mem::replace(&mut self.program, program));
        self.is_updated = true;
    }

    /// The device is as it should be: from here on the program before is as wrong as any other.
    pub(crate) fn has_converged(&mut self) {
        self.before = None;
    }

    /// Whether a program may be the process of the agent's unit at some moment now.
    fn may_run(&self, program: Hex<32>) -> bool {
        [Some(self.program), self.before, Some(self.installed)].contains(&Some(program))
    }

    /// Whether a report says so.
    pub(crate) fn is_reported(&self, status: &AgentStatus) -> bool {
        let wanted = self.deployments.iter().all(|(name, desired)| {
            let told = status.deployments.get(name);
            told.is_some_and(|told| {
                let version = told.desired.as_ref();
                told.phase == Phase::Running && version.is_some_and(|v| v.digest == desired.digest)
            })
        });
        let last = status
            .update
            .as_ref()
            .and_then(|update| update.last.as_ref());
        let proven = last.is_some_and(|last| {
            last.phase == UpdatePhase::Proven && last.sha256 == Some(self.program)
        });
        wanted && status.deployments.len() == self.deployments.len() && (proven || !self.is_updated)
    }

    /// The names of its containers, with their images.
    fn containers(&self) -> BTreeMap<String, &str> {
        let each = self.deployments.iter();
        let each = each.map(|(name, Desired { image, .. })| {
            (format!("harmony.{name}.{SERVICE}"), image.as_str())
        });
        each.collect()
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    /// Whether it must never be, however short.
    pub(crate) is_final: bool,
}

/// Everything about what was found that is not as it should be.
pub(crate) fn judge(found: &Found, wanted: &Wanted) -> Vec<Fault> {
    let for_now = containers(&found.containers, wanted)
        .into_iter()
        .chain(state_directory(&found.state_directory))
        .chain(system(found, wanted))
        .chain(end_program(found, wanted));
    let never = kernel(&found.kernel)
        .into_iter()
        .chain(file_system(&found.file_system))
        .chain(other_program(found, wanted))
        .chain(desired_state(&found.desired_state))
        .chain(record(found.record.as_deref()));
    let fault = |is_final| move |what| Fault { what, is_final };
    let for_now = for_now.map(fault(false));
    for_now.chain(never.map(fault(true))).collect()
}

fn containers(found: &[FoundContainer], wanted: &Wanted) -> Vec<String> {
    let mut missing = wanted.containers();
    let mut faults = Vec::new();
    for FoundContainer { name, state, image } in found {
        match missing.remove(name) {
            None => faults.push(format!("there is a container '{name}' ({state})")),
            Some(_) if state != "running" => faults.push(format!("container '{name}' is {state}")),
            Some(expected) if expected != image => faults.push(format!(
                "container '{name}' is of image '{image}' (expected '{expected}')"
            )),
            Some(_) => {}
        }
    }
    let missing = missing.keys();
    faults.extend(missing.map(|name| format!("there is no container '{name}'")));
    faults
}

fn state_directory(found: &[String]) -> Vec<String> {
    let left = found
        .iter()
        .filter(|entry| !STATE.contains(&entry.as_str()));
    left.map(|entry| format!("the agent's state directory has '{entry}'"))
        .collect()
}

fn system(found: &Found, wanted: &Wanted) -> Vec<String> {
    let failed = found.failed_units.difference(&wanted.failed_units);
    let mut faults: Vec<_> = failed.map(|unit| format!("unit {unit} failed")).collect();
    match found.system.as_str() {
        "running" | "degraded" => {}
        other => faults.push(format!("the system is '{other}'")),
    }
    faults
}

fn end_program(found: &Found, wanted: &Wanted) -> Option<String> {
    let (program, expected) = (&found.program, wanted.program.to_string());
    let is_other = *program != expected;
    is_other.then(|| format!("the agent's program is {program} (expected {expected})"))
}

fn other_program(found: &Found, wanted: &Wanted) -> Option<String> {
    // It is between two of them, or has just been replaced.
    let Ok(program) = found.program.parse::<Hex<32>>() else {
        return None;
    };
    let is_other = !wanted.may_run(program);
    is_other.then(|| format!("an agent runs that must not any more: {program}"))
}

fn kernel(journal: &str) -> Vec<String> {
    let is_damage = |line: &&str| {
        let has = |parts: &[&str; 2]| parts.iter().all(|part| line.contains(part));
        DAMAGE.iter().any(has)
    };
    let lines = journal.lines().filter(is_damage);
    lines
        .map(|line| format!("the kernel says: {line}"))
        .collect()
}

/// The superblock's own words.
fn file_system(tune2fs: &str) -> Vec<String> {
    let value = |name: &str| {
        let mut lines = tune2fs.lines();
        let rest = lines.find_map(|line| line.strip_prefix(name));
        rest.and_then(|rest| rest.strip_prefix(':')).map(str::trim)
    };
    let mut faults = Vec::new();
    let state = value("Filesystem state").unwrap_or("not told");
    if state != "clean" {
        faults.push(format!("the file system is '{state}' (expected 'clean')"));
    }
    if let Some(count) = value("FS Error count") {
        faults.push(format!("the file system has had {count} errors"));
    }
    faults
}

fn desired_state(file: &str) -> Option<String> {
    let fault = |what: &str| Some(format!("the agent's file with the desired state {what}"));
    let Some((head, json)) = file.split_once('\n') else {
        return fault("has no first line");
    };
    let digest: Hex<32> = <[u8; 32]>::from(Sha256::digest(json)).into();
    if head.strip_prefix(STATE_FORMAT) != Some(digest.to_string().as_str()) {
        return fault("is not what was written");
    }
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(_) => None,
        Err(error) => fault(&format!("is no JSON: {error}")),
    }
}

fn record(record: Option<&str>) -> Option<String> {
    let error = serde_json::from_str::<serde_json::Value>(record?).err()?;
    Some(format!("the agent's record of updates is no JSON: {error}"))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
