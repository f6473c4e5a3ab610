//! The names of the JetStream KV buckets, their settings and their keys.

use crate::error::ContractError;
use crate::name::{DeploymentName, DeviceId};

/// The bucket with what each device shall run: keys `<device_id>.<deployment>`, values
/// [`IotScore`](crate::IotScore) as JSON.
pub const DESIRED_STATE_BUCKET: &str = "desired-state";

/// The bucket with what each device last reported: keys `status.<device_id>`, values
/// [`AgentStatus`](crate::AgentStatus) as JSON.
pub const AGENT_STATUS_BUCKET: &str = "agent-status";

/// The settings of a KV bucket. The platform makes the buckets; a device never does. The stream besides has message
/// deletion denied, direct reads allowed, new messages discarded when full, and file storage; how many replicas it has
/// is the platform's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvBucket {
    /// The bucket's name.
    pub name: &'static str,
    /// How many values of a key are kept, 1 to 64.
    pub history: u8,
    /// The largest value, in bytes.
    pub max_value_bytes: u32,
    /// Whether a message may take the place of earlier ones, which purging a key needs. A header of such a message may
    /// name the whole bucket: where devices write, it is off.
    pub roll_up: bool,
}

impl KvBucket {
    /// The bucket [`DESIRED_STATE_BUCKET`]. Its history lets an operator see what was rolled out.
    pub const DESIRED_STATE: Self = Self {
        name: DESIRED_STATE_BUCKET,
        history: 8,
        max_value_bytes: 256 * 1024,
        roll_up: true,
    };

    /// The bucket [`AGENT_STATUS_BUCKET`].
    pub const AGENT_STATUS: Self = Self {
        name: AGENT_STATUS_BUCKET,
        history: 1,
        max_value_bytes: 256 * 1024,
        roll_up: false,
    };

    /// The JetStream stream that holds the bucket.
    pub fn stream_name(&self) -> String {
        format!("KV_{}", self.name)
    }

    /// The subjects of that stream; its only entry.
    pub fn subjects(&self) -> String {
        format!("{}>", self.subject_prefix())
    }

    /// What a key is preceded by to make its subject.
    pub fn subject_prefix(&self) -> String {
        format!("$KV.{}.", self.name)
    }
}

/// The key of a deployment's desired state: `<device_id>.<deployment>`.
pub fn desired_state_key(device_id: &DeviceId, deployment: &DeploymentName) -> String {
    format!("{device_id}.{deployment}")
}

/// The pattern of all keys of a device's desired state: `<device_id>.>`.
pub fn desired_state_watch(device_id: &DeviceId) -> String {
    format!("{device_id}.>")
}

/// The key under which a device reports: `status.<device_id>`.
pub fn status_key(device_id: &DeviceId) -> String {
    format!("status.{device_id}")
}

/// The deployment that a key of the desired-state bucket names.
///
/// # Errors
///
/// [`ContractError::DesiredStateKey`] for another device's key; [`ContractError::Name`] for a key of
/// this device whose rest is not a deployment name.
pub fn desired_state_key_deployment(
    device_id: &DeviceId,
    key: &str,
) -> Result<DeploymentName, ContractError> {
    key.strip_prefix(device_id.as_str())
        .and_then(|rest| rest.strip_prefix('.'))
        .ok_or_else(|| ContractError::DesiredStateKey {
            key: key.to_owned(),
            device_id: device_id.clone(),
        })?
        .parse()
}

#[cfg(test)]
mod tests {
    use super::{
        KvBucket, desired_state_key, desired_state_key_deployment, desired_state_watch, status_key,
    };
    use crate::error::ContractError;

    #[test]
    fn keys_and_subjects() {
        let (device, web) = ("pi-1".parse().unwrap(), "web".parse().unwrap());
        assert_eq!(desired_state_key(&device, &web), "pi-1.web");
        assert_eq!(desired_state_watch(&device), "pi-1.>");
        assert_eq!(status_key(&device), "status.pi-1");
        assert_eq!(KvBucket::DESIRED_STATE.stream_name(), "KV_desired-state");
        assert_eq!(KvBucket::AGENT_STATUS.subjects(), "$KV.agent-status.>");
    }

    #[test]
    fn no_device_can_write_in_the_place_of_others() {
        let roll_up = [KvBucket::DESIRED_STATE, KvBucket::AGENT_STATUS].map(|b| b.roll_up);
        assert_eq!(roll_up, [true, false]);
    }

    #[test]
    fn a_key_gives_its_deployment_back() {
        let device = "pi-1".parse().unwrap();
        assert_eq!(
            desired_state_key_deployment(&device, "pi-1.web")
                .unwrap()
                .as_str(),
            "web"
        );
        for key in ["pi-10.web", "pi-1", "web", ""] {
            assert_eq!(
                desired_state_key_deployment(&device, key),
                Err(ContractError::DesiredStateKey {
                    key: key.to_owned(),
                    device_id: device.clone()
                })
            );
        }
        for (key, rest) in [("pi-1.", ""), ("pi-1.a.b", "a.b"), ("pi-1.A", "A")] {
            assert_eq!(
                desired_state_key_deployment(&device, key),
                Err(ContractError::Name {
                    what: "deployment name",
                    value: rest.to_owned(),
                    max_chars: 63
                })
            );
        }
    }
}
