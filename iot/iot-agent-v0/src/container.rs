//! What the agent knows of a container.

use std::fmt;

use iot_contracts::{DeploymentName, PodmanService, ServiceName};
use sha2::{Digest, Sha256};

/// Which service of which deployment a container is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerKey {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The service.
    pub service: ServiceName,
}

impl ContainerKey {
    /// The name of its container. Dots separate what has no dots in it, so that no two keys share one.
    pub fn container_name(&self, role: Role) -> String {
        let (
            suffix,
            Self {
                deployment,
                service,
            },
        ) = (role.suffix(), self);
        format!("harmony.{deployment}.{service}{suffix}")
    }
}

impl fmt::Display for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.deployment, self.service)
    }
}

/// What a container is for. Its name tells, so that a power cut forgets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is the one that shall run.
    Current,
    /// It ran before the current one, and comes back when that does not stay up.
    Previous,
    /// It did not stay up. It is kept so that its log can be read, and so that it is not tried at once again.
    Failed,
    /// Another hand named it.
    Stray,
}

impl Role {
    fn suffix(self) -> &'static str {
        match self {
            Self::Current | Self::Stray => "",
            Self::Previous => ".previous",
            Self::Failed => ".failed",
        }
    }

    /// The role of the container of `key` that bears `name`.
    pub fn of(key: &ContainerKey, name: &str) -> Self {
        [Self::Current, Self::Previous, Self::Failed]
            .into_iter()
            .find(|role| key.container_name(*role) == name)
            .unwrap_or(Self::Stray)
    }
}

/// A container with the agent's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// Podman's id.
    pub id: String,
    /// What it is.
    pub key: ContainerKey,
    /// What it is for.
    pub role: Role,
    /// The [`service_digest`] of what it was made from.
    pub digest: String,
    /// What it does.
    pub state: ContainerState,
    /// What its health check says; `None` without one.
    pub health: Option<Health>,
    /// The image that it was made from.
    pub image: String,
    /// The digest of that image's manifest, where it is known.
    pub image_digest: Option<String>,
    /// When it was last started, in seconds since the Unix epoch by the device's clock; 0 for never.
    pub started_at: i64,
    /// When it last ended; 0 for never.
    pub exited_at: i64,
}

/// What a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    Starting,
    /// It works.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// It runs.
    Running,
    /// It was made and never started.
    Created,
    /// It ran.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// Someone paused it.
    Paused,
    /// It is between two states. Podman can rest there when it was killed.
    Between,
}

impl ContainerState {
    /// Whether it can be started.
    pub fn is_down(self) -> bool {
        matches!(self, Self::Created | Self::Exited { .. })
    }
}

/// A container to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// What it is.
    pub key: ContainerKey,
    /// The [`service_digest`] of `service`.
    pub digest: String,
    /// What it runs.
    pub service: PodmanService,
    /// The id of the container whose volumes it goes on with.
    pub volumes_from: Option<String>,
}

/// The digest by which a change of `service` is noticed: SHA-256 of its JSON, in hexadecimal.
pub fn service_digest(service: &PodmanService) -> String {
    // Strings, lists and maps with string keys always serialise.
    let json = serde_json::to_vec(service).unwrap_or_default();
    let digest = Sha256::digest(json);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{ContainerKey, Role, service_digest};

    fn key(text: &str) -> ContainerKey {
        let (deployment, service) = text.split_once('.').unwrap();
        ContainerKey {
            deployment: deployment.parse().unwrap(),
            service: service.parse().unwrap(),
        }
    }

    #[test]
    fn the_digest_is_of_the_whole_service_and_stable() {
        let digest = |json: &str| service_digest(&serde_json::from_str(json).unwrap());
        let base = digest(r#"{"name":"a","image":"x"}"#);
        // sha256 of {"name":"a","image":"x"}: a changed form would recreate every container.
        assert_eq!(
            base,
            "e91210eac3f48b7f08471363df8c62940430bc67197425b51af035e699a56d0f"
        );
        for json in [
            r#"{"name":"b","image":"x"}"#,
            r#"{"name":"a","image":"y"}"#,
            r#"{"name":"a","image":"x","command":["c"]}"#,
            r#"{"name":"a","image":"x","env":{"A":"b"}}"#,
            r#"{"name":"a","image":"x","ports":["1:1"]}"#,
        ] {
            assert_ne!(digest(json), base, "{json}");
        }
        assert_eq!(
            digest(r#"{"image":"x","name":"a","command":[],"env":{}}"#),
            base
        );
    }

    #[test]
    fn container_names_do_not_collide_and_tell_the_role() {
        let names = [Role::Current, Role::Previous, Role::Failed]
            .map(|role| key("a-b.c").container_name(role));
        let expected = [
            "harmony.a-b.c",
            "harmony.a-b.c.previous",
            "harmony.a-b.c.failed",
        ];
        assert_eq!(names, expected);
        assert_ne!(key("a.b-c").container_name(Role::Current), expected[0]);
        for (name, role) in [
            ("harmony.a-b.c", Role::Current),
            ("harmony.a-b.c.previous", Role::Previous),
            ("harmony.a-b.c.failed", Role::Failed),
            ("harmony.a-b.d", Role::Stray),
            ("", Role::Stray),
        ] {
            assert_eq!(Role::of(&key("a-b.c"), name), role, "{name}");
        }
    }
}
