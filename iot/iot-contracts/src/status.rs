//! What a device reports about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{DeploymentName, DeviceId};

/// One report of a device. It is published at the agent's start, at each change of a phase and at each
/// heartbeat. Readers ignore fields which they do not know, so that a newer agent does not vanish
/// from an older platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Whose report it is.
    pub device_id: DeviceId,
    /// When it was made by the device's own clock, in milliseconds since the Unix epoch. A device
    /// without a battery-backed clock may be wrong after a power cut until it has synchronised:
    /// compare `boot_id` and `sequence` rather than times of different boots.
    pub timestamp_unix_ms: u64,
    /// The kernel's boot id, new with every boot.
    pub boot_id: String,
    /// The agent's version.
    pub agent_version: String,
    /// The instruction set that the agent was built for, as `uname -m` names it.
    pub architecture: String,
    /// Counts the reports since the agent started, from 1 on. A gap is a report which could not be
    /// published.
    pub sequence: u64,
    /// How each deployment fares that is desired, or is still being removed.
    #[serde(default)]
    pub deployments: BTreeMap<DeploymentName, DeploymentStatus>,
    /// What keeps the device from following the desired state as a whole or a key of it, for people. No value of the
    /// desired state is quoted in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// How a deployment fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Where it stands.
    pub phase: Phase,
    /// Why, for people; absent when there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// It is known and being worked on.
    Pending,
    /// All its containers run, and they are those that are desired.
    Running,
    /// It could not be brought about; the agent keeps trying.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::{AgentStatus, DeploymentStatus, Phase};

    fn example() -> AgentStatus {
        let failed = DeploymentStatus {
            phase: Phase::Failed,
            detail: Some("image not found".to_owned()),
        };
        let running = DeploymentStatus {
            phase: Phase::Running,
            detail: None,
        };
        AgentStatus {
            device_id: "pi-1".parse().unwrap(),
            timestamp_unix_ms: 1_767_225_600_123,
            boot_id: "6f0c2ab5-13bd-4c36-8f0e-0a3f6f2b1a77".to_owned(),
            agent_version: "0.1.0".to_owned(),
            architecture: "aarch64".to_owned(),
            sequence: 7,
            deployments: [
                ("db".parse().unwrap(), failed),
                ("web".parse().unwrap(), running),
            ]
            .into(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn golden() {
        let golden = concat!(
            r#"{"device_id":"pi-1","timestamp_unix_ms":1767225600123,"#,
            r#""boot_id":"6f0c2ab5-13bd-4c36-8f0e-0a3f6f2b1a77","agent_version":"0.1.0","#,
            r#""architecture":"aarch64","sequence":7,"deployments":{"#,
            r#""db":{"phase":"Failed","detail":"image not found"},"web":{"phase":"Running"}}}"#
        );
        assert_eq!(serde_json::to_string(&example()).unwrap(), golden);
        assert_eq!(
            serde_json::from_str::<AgentStatus>(golden).unwrap(),
            example()
        );
    }

    #[test]
    fn problems_are_there_only_when_there_are_any() {
        let mut report = example();
        report.problems = vec!["x".to_owned()];
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.ends_with(r#","problems":["x"]}"#), "{json}");
        assert_eq!(serde_json::from_str::<AgentStatus>(&json).unwrap(), report);
    }

    #[test]
    fn a_newer_agents_field_is_ignored_and_an_unknown_phase_is_not() {
        let newer = serde_json::to_string(&example())
            .unwrap()
            .replacen('{', r#"{"new":1,"#, 1);
        assert_eq!(
            serde_json::from_str::<AgentStatus>(&newer).unwrap(),
            example()
        );
        assert!(serde_json::from_str::<Phase>("\"Happy\"").is_err());
    }
}
