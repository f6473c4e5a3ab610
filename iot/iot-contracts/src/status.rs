//! What a device reports about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{DeploymentName, DeviceId, ServiceName};
use crate::signed::Refusal;
use crate::update::UpdateStatus;

/// The file that a guest which was restored from a checkpoint gets, with the id of what is a boot of its own: the kernel
/// there has the boot id that all forks of that checkpoint have. It is gone after the next boot.
pub const OWN_BOOT_ID: &str = "/run/harmony-boot-id";

/// One report of a device. It is published at the agent's start, at each change of a phase and at each
/// heartbeat. Readers ignore fields which they do not know, so that a newer agent does not vanish
/// from an older platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AgentStatus {
    /// Whose report it is.
    pub device_id: DeviceId,
    /// When it was made by the device's own clock, in milliseconds since the Unix epoch. A device
    /// without a battery-backed clock may be wrong after a power cut until it has synchronised:
    /// compare `boot_id` and `sequence` rather than times of different boots.
    pub timestamp_unix_ms: u64,
    /// The boot's id, new with every boot: what [`OWN_BOOT_ID`] says, else the kernel's. No two devices share one.
    pub boot_id: String,
    /// The agent's version.
    pub agent_version: String,
    /// The instruction set that the agent was built for, as `uname -m` names it.
    pub architecture: String,
    /// Counts the reports since the agent started, from 1 on. A gap is a report which could not be
    /// published.
    pub sequence: u64,
    /// How many operator keys the device obeys; 0 where it obeys whatever is in the bucket, and takes no signature. An
    /// older agent, which takes none, does not tell.
    #[serde(default)]
    pub operator_keys: usize,
    /// How each deployment fares that is desired, or is still being removed.
    #[serde(default)]
    pub deployments: BTreeMap<DeploymentName, DeploymentStatus>,
    /// What keeps the device from following the desired state as a whole or a key of it, for people. No value of the
    /// desired state is quoted in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Whether details or services were left out because the report would have been larger than its bucket takes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shortened: bool,
    /// How many deployments were left out because even so it would have been: what `deployments` lacks may be there. None
    /// of 2400 is ever left out, and what runs is left out first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deployments_left_out: usize,
    /// Which program of the agent's runs, and how its last update went. An older agent does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to what decides about skipping"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to what decides about skipping"
)]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// How a deployment fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeploymentStatus {
    /// Where it stands.
    pub phase: Phase,
    /// Why, for people; absent when there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The value that this is said of; absent where none is known, and where the report was too large for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<DesiredVersion>,
    /// The last value all of whose containers ran, as far as the device remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<DesiredVersion>,
    /// The newest entry of the key, where the device does not obey it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedEntry>,
    /// How each of its services fares. An older agent does not tell, and a report that is too large leaves it out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, ServiceStatus>,
}

/// One value of a key of the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DesiredVersion {
    /// Its revision in the bucket that it was read from.
    pub revision: u64,
    /// The SHA-256 of its bytes, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The operators' counter, where the device checks signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
}

/// An entry of the desired state that a device does not obey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RefusedEntry {
    /// Its revision.
    pub revision: u64,
    /// Why.
    #[serde(flatten)]
    pub why: Refusal,
}

/// How one container fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// What it does.
    pub state: ServiceState,
    /// The reference of the image that it was made from; while there is no container, of the one that it shall be made from.
    pub image: String,
    /// The digest of that image's manifest, `sha256:…`, when the image is on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// With what it ended, when it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How often it was started again, as far as the agent has seen since its own start.
    #[serde(default)]
    pub restarts: u32,
    /// Since when it runs or is down, in seconds since the Unix epoch by the device's own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_unix_s: Option<u64>,
    /// What its health check says; absent for a service that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ServiceHealth>,
}

/// What a container's health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ServiceHealth {
    /// Not enough checks were made yet.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many checks failed in a row.
    Unhealthy,
    /// A newer agent's word.
    #[serde(other)]
    Unknown,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ServiceState {
    /// There is none.
    Absent,
    /// It was made and never started.
    Created,
    /// It runs.
    Running,
    /// It ran.
    Exited,
    /// Someone paused it.
    Paused,
    /// It is between two states.
    Changing,
    /// A newer agent's word.
    #[serde(other)]
    Unknown,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    use super::{
        AgentStatus, DeploymentStatus, DesiredVersion, Phase, RefusedEntry, ServiceHealth,
        ServiceState, ServiceStatus,
    };
    use crate::signed::Refusal;

    fn version(revision: u64) -> DesiredVersion {
        DesiredVersion {
            revision,
            digest: "sha256:44e0".to_owned(),
            counter: None,
        }
    }

    fn example() -> AgentStatus {
        let failed = DeploymentStatus {
            phase: Phase::Failed,
            detail: Some("image not found".to_owned()),
            desired: Some(version(9)),
            ran: Some(DesiredVersion {
                counter: Some(1_767_225_600_000),
                ..version(5)
            }),
            refused: Some(RefusedEntry {
                revision: 11,
                why: Refusal::Unsigned,
            }),
            services: [].into(),
        };
        let service = ServiceStatus {
            state: ServiceState::Running,
            image: "host/web:1".to_owned(),
            image_digest: Some("sha256:8ee2".to_owned()),
            exit_code: None,
            restarts: 2,
            since_unix_s: Some(1_767_225_000),
            health: Some(ServiceHealth::Healthy),
        };
        let running = DeploymentStatus {
            phase: Phase::Running,
            detail: None,
            desired: None,
            ran: None,
            refused: None,
            services: [("front".parse().unwrap(), service)].into(),
        };
        AgentStatus {
            device_id: "pi-1".parse().unwrap(),
            timestamp_unix_ms: 1_767_225_600_123,
            boot_id: "6f0c2ab5-13bd-4c36-8f0e-0a3f6f2b1a77".to_owned(),
            agent_version: "0.1.0".to_owned(),
            architecture: "aarch64".to_owned(),
            sequence: 7,
            operator_keys: 1,
            deployments: [
                ("db".parse().unwrap(), failed),
                ("web".parse().unwrap(), running),
            ]
            .into(),
            problems: Vec::new(),
            shortened: false,
            deployments_left_out: 0,
            update: None,
        }
    }

    #[test]
    fn golden() {
        let golden = concat!(
            r#"{"device_id":"pi-1","timestamp_unix_ms":1767225600123,"#,
            r#""boot_id":"6f0c2ab5-13bd-4c36-8f0e-0a3f6f2b1a77","agent_version":"0.1.0","#,
            r#""architecture":"aarch64","sequence":7,"operator_keys":1,"deployments":{"#,
            r#""db":{"phase":"Failed","detail":"image not found","#,
            r#""desired":{"revision":9,"digest":"sha256:44e0"},"#,
            r#""ran":{"revision":5,"digest":"sha256:44e0","counter":1767225600000},"#,
            r#""refused":{"revision":11,"reason":"unsigned"}},"web":{"phase":"Running","#,
            r#""services":{"front":{"state":"Running","image":"host/web:1","image_digest":"sha256:8ee2","#,
            r#""restarts":2,"since_unix_s":1767225000,"health":"Healthy"}}}}}"#
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
        let state = serde_json::from_str::<ServiceState>("\"Happy\"");
        assert_eq!(state.unwrap(), ServiceState::Unknown);
        let health = serde_json::from_str::<ServiceHealth>("\"Happy\"");
        assert_eq!(health.unwrap(), ServiceHealth::Unknown);
    }

    #[test]
    fn an_older_agents_report_is_read() {
        let older = r#"{"device_id":"pi-1","timestamp_unix_ms":1,"boot_id":"b","agent_version":"0","architecture":"x",
            "sequence":1,"deployments":{"web":{"phase":"Running"},"db":{"phase":"Running",
            "services":{"a":{"state":"Exited","image":"x"}}}}}"#;
        let status: AgentStatus = serde_json::from_str(older).unwrap();
        assert!(!status.shortened);
        assert_eq!(status.deployments_left_out, 0);
        assert_eq!(status.operator_keys, 0);
        assert!(
            status.deployments[&"web".parse().unwrap()]
                .services
                .is_empty()
        );
        let services = &status.deployments[&"db".parse().unwrap()].services;
        assert_eq!(services[&"a".parse().unwrap()].restarts, 0);
    }
}
