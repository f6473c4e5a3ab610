//! What the platform wants of this device, as far as it is known.

use std::collections::BTreeMap;

use iot_contracts::{DeploymentName, IotScore, PodmanService, PodmanV0};

use crate::error::{bounded, without_value};

/// The desired state. Until the first listing of the bucket it is not known, and then nothing is
/// removed: what runs is held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DesiredState {
    known: bool,
    deployments: BTreeMap<DeploymentName, Deployment>,
}

/// One deployment's key.
#[derive(Debug, Clone, Default, PartialEq)]
struct Deployment {
    /// The last value that could be read since the agent started.
    good: Option<PodmanV0>,
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
    Services(&'a [PodmanService]),
}

impl DesiredState {
    /// The bucket's content as a whole: what is not in it is not desired any more. An empty bucket,
    /// for whatever reason it is empty, desires nothing.
    pub fn replace_all<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (DeploymentName, &'a [u8])>,
    ) {
        let mut before = std::mem::take(&mut self.deployments);
        self.known = true;
        for (name, value) in entries {
            let previous = before.remove(&name).unwrap_or_default();
            self.deployments.insert(name, previous.updated(value));
        }
    }

    /// A key has a new value.
    pub fn put(&mut self, name: DeploymentName, value: &[u8]) {
        let previous = self.deployments.remove(&name).unwrap_or_default();
        self.deployments.insert(name, previous.updated(value));
    }

    /// A key was deleted or purged.
    pub fn delete(&mut self, name: &DeploymentName) {
        self.deployments.remove(name);
    }

    /// What shall become of the containers of `name`.
    pub fn target(&self, name: &DeploymentName) -> Target<'_> {
        match self.deployments.get(name) {
            Some(Deployment {
                good: Some(score), ..
            }) => Target::Services(score.services()),
            Some(Deployment { good: None, .. }) => Target::Hold,
            None if self.known => Target::Absent,
            None => Target::Hold,
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

impl Deployment {
    fn updated(self, value: &[u8]) -> Self {
        match serde_json::from_slice(value) {
            Ok(IotScore::PodmanV0(score)) => Self {
                good: Some(score),
                error: None,
            },
            Err(error) => Self {
                good: self.good,
                error: Some(bounded(&without_value(&error))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DesiredState, Target};
    use iot_contracts::DeploymentName;

    const GOOD: &[u8] =
        br#"{"type":"PodmanV0","data":{"services":[{"name":"a","image":"host/a:1"}]}}"#;

    fn name(name: &str) -> DeploymentName {
        name.parse().unwrap()
    }

    fn images(target: Target<'_>) -> Vec<String> {
        let Target::Services(services) = target else {
            panic!("{target:?}");
        };
        services
            .iter()
            .map(|service| service.image.to_string())
            .collect()
    }

    #[test]
    fn holds_until_it_is_known() {
        let mut desired = DesiredState::default();
        assert_eq!(desired.target(&name("web")), Target::Hold);
        desired.replace_all([]);
        assert_eq!(desired.target(&name("web")), Target::Absent);
    }

    #[test]
    fn a_malformed_value_keeps_the_last_good_one() {
        let mut desired = DesiredState::default();
        desired.replace_all([(name("web"), GOOD)]);
        desired.put(name("web"), b"{");
        assert_eq!(images(desired.target(&name("web"))), ["host/a:1"]);
        assert!(
            desired
                .error(&name("web"))
                .unwrap()
                .starts_with("EOF while parsing")
        );
        desired.replace_all([(name("web"), &b"["[..])]);
        assert_eq!(images(desired.target(&name("web"))), ["host/a:1"]);
        desired.put(name("web"), GOOD);
        assert_eq!(desired.error(&name("web")), None);
    }

    #[test]
    fn a_malformed_value_without_a_good_one_holds() {
        let mut desired = DesiredState::default();
        desired.replace_all([(name("web"), &b"{"[..])]);
        assert_eq!(desired.target(&name("web")), Target::Hold);
        assert!(desired.error(&name("web")).is_some());
    }

    #[test]
    fn a_deletion_and_a_listing_without_the_key_forget_it() {
        let mut desired = DesiredState::default();
        desired.replace_all([(name("web"), GOOD), (name("db"), GOOD)]);
        desired.delete(&name("web"));
        assert_eq!(desired.target(&name("web")), Target::Absent);
        assert_eq!(desired.names().collect::<Vec<_>>(), [&name("db")]);
        desired.replace_all([]);
        assert_eq!(desired.names().count(), 0);
    }
}
