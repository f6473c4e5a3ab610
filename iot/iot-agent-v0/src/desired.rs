//! What the platform wants of this device, as far as it is known.

use std::collections::{BTreeMap, BTreeSet};

use iot_contracts::DeploymentName;

use crate::service::{Service, Services};

/// The desired state. Nothing is removed but what was deleted: whatever else is not known here is held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DesiredState {
    deployments: BTreeMap<DeploymentName, Deployment>,
    gone: BTreeSet<DeploymentName>,
}

/// One deployment's key.
#[derive(Debug, Clone, Default, PartialEq)]
struct Deployment {
    /// The last value that could be read.
    good: Option<Services>,
    /// Why the newest value could not.
    error: Option<String>,
}

/// What a deployment's containers shall become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target<'a> {
    /// There shall be none.
    Absent,
    /// Those that are there shall run; what they ought to be is not known.
    Hold,
    /// Exactly these.
    Services(&'a [Service]),
}

impl DesiredState {
    /// A key is there: its last value that could be read, and why the newest one could not.
    pub fn set(&mut self, name: DeploymentName, good: Option<Services>, error: Option<String>) {
        self.gone.remove(&name);
        self.deployments.insert(name, Deployment { good, error });
    }

    /// A key was deleted.
    pub fn set_gone(&mut self, name: DeploymentName) {
        self.deployments.remove(&name);
        self.gone.insert(name);
    }

    /// What shall become of the containers of `name`.
    pub fn target(&self, name: &DeploymentName) -> Target<'_> {
        match self.deployments.get(name) {
            Some(Deployment {
                good: Some(services),
                ..
            }) => Target::Services(services),
            None if self.gone.contains(name) => Target::Absent,
            Some(Deployment { good: None, .. }) | None => Target::Hold,
        }
    }

    /// The deployments that have a key.
    pub fn names(&self) -> impl Iterator<Item = &DeploymentName> {
        self.deployments.keys()
    }

    /// Why the newest value of `name` could not be read, when that is so.
    pub fn error(&self, name: &DeploymentName) -> Option<&str> {
        self.deployments.get(name)?.error.as_deref()
    }
}

/// How tests of what comes after make one.
#[cfg(test)]
impl DesiredState {
    /// A key has a new value.
    pub fn put(&mut self, name: DeploymentName, value: &[u8]) {
        let before = self.deployments.remove(&name).unwrap_or_default();
        match crate::value::read(value) {
            Ok(score) => self.set(name, Some(score.services()), None),
            Err(error) => self.set(name, before.good, Some(error)),
        }
    }

    /// A key was deleted or purged.
    pub fn delete(&mut self, name: &DeploymentName) {
        self.set_gone(name.clone());
    }

    /// The keys that are there, and no other one that was.
    pub fn replace_all<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (DeploymentName, &'a [u8])>,
    ) {
        for name in self.names().cloned().collect::<Vec<_>>() {
            self.set_gone(name);
        }
        for (name, value) in entries {
            self.put(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DesiredState, Target};
    use iot_contracts::DeploymentName;

    #[test]
    fn what_is_not_known_is_held_and_what_was_deleted_is_not() {
        let web: DeploymentName = "web".parse().unwrap();
        let mut desired = DesiredState::default();
        assert_eq!(desired.target(&web), Target::Hold);
        desired.put(web.clone(), b"{");
        assert_eq!(desired.target(&web), Target::Hold);
        assert!(desired.error(&web).is_some());
        desired.put(
            web.clone(),
            br#"{"type":"PodmanV0","data":{"services":[]}}"#,
        );
        assert_eq!(desired.target(&web), Target::Services(&[]));
        assert_eq!(desired.error(&web), None);
        desired.put(web.clone(), b"{");
        assert_eq!(desired.target(&web), Target::Services(&[]));
        desired.delete(&web);
        assert_eq!(desired.target(&web), Target::Absent);
        assert_eq!(desired.names().count(), 0);
        desired.put(web.clone(), b"{");
        assert_eq!(desired.target(&web), Target::Hold);
    }
}
