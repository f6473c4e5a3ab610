//! What the platform wants of this device, as far as it is known.

use std::collections::{BTreeMap, BTreeSet};

use iot_contracts::{DeploymentName, DesiredVersion, RefusedEntry};

use crate::service::{Service, Services};

/// The desired state. Nothing is removed but what was deleted: whatever else is not known here is held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DesiredState {
    deployments: BTreeMap<DeploymentName, Wanted>,
    gone: BTreeSet<DeploymentName>,
}

/// What is known of one deployment's key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The last value that could be read.
    pub good: Option<Services>,
    /// Why the newest value could not.
    pub error: Option<String>,
    /// Which value is the newest one, of those that are obeyed.
    pub version: Option<DesiredVersion>,
    /// The newest entry, where it is not obeyed.
    pub refused: Option<RefusedEntry>,
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
    /// A key is there.
    pub fn set(&mut self, name: DeploymentName, wanted: Wanted) {
        self.gone.remove(&name);
        self.deployments.insert(name, wanted);
    }

    /// A key was deleted.
    pub fn set_gone(&mut self, name: DeploymentName) {
        self.deployments.remove(&name);
        self.gone.insert(name);
    }

    /// What shall become of the containers of `name`.
    pub fn target(&self, name: &DeploymentName) -> Target<'_> {
        match self.deployments.get(name) {
            Some(Wanted {
                good: Some(services),
                ..
            }) => Target::Services(services),
            None if self.gone.contains(name) => Target::Absent,
            Some(Wanted { good: None, .. }) | None => Target::Hold,
        }
    }

    /// The deployments that have a key.
    pub fn names(&self) -> impl Iterator<Item = &DeploymentName> {
        self.deployments.keys()
    }

    /// Whether nothing is known of `name` that could be run or removed.
    pub fn holds(&self, name: &DeploymentName) -> bool {
        matches!(self.target(name), Target::Hold)
    }

    /// What is known of the key of `name`, where it has one.
    pub fn wanted(&self, name: &DeploymentName) -> Option<&Wanted> {
        self.deployments.get(name)
    }
}

/// How tests of what comes after make one.
#[cfg(test)]
impl DesiredState {
    /// A key has a new value.
    pub fn put(&mut self, name: DeploymentName, value: &[u8]) {
        let before = self.deployments.remove(&name).unwrap_or_default();
        let (good, error) = match crate::value::read(value) {
            Ok(score) => (Some(score.services()), None),
            Err(error) => (before.good, Some(error)),
        };
        let wanted = Wanted {
            good,
            error,
            ..Wanted::default()
        };
        self.set(name, wanted);
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
        assert!(desired.wanted(&web).unwrap().error.is_some());
        desired.put(
            web.clone(),
            br#"{"type":"PodmanV0","data":{"services":[]}}"#,
        );
        assert_eq!(desired.target(&web), Target::Services(&[]));
        assert_eq!(desired.wanted(&web).unwrap().error, None);
        desired.put(web.clone(), b"{");
        assert_eq!(desired.target(&web), Target::Services(&[]));
        desired.delete(&web);
        assert_eq!(desired.target(&web), Target::Absent);
        assert_eq!(desired.names().count(), 0);
        desired.put(web.clone(), b"{");
        assert_eq!(desired.target(&web), Target::Hold);
    }
}
