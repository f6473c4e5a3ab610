//! What the agent knows of a container.

use std::fmt;

use iot_contracts::{DeploymentName, ServiceName};

use crate::service::{Service, Terms};

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
    /// The digest of the [`Service`] that it was made from.
    pub digest: String,
    /// What it is looked after by.
    pub terms: Terms,
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

impl ObservedContainer {
    /// Whether it has ended and is not started again.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, ContainerState::Exited { code } if !self.terms.restart.follows(code))
    }

    /// Whether it has ended as it should.
    pub fn is_done(&self) -> bool {
        self.has_ended() && self.state == ContainerState::Exited { code: 0 }
    }
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
    /// What it is made from.
    pub service: Service,
    /// The id of the container whose volumes it goes on with.
    pub volumes_from: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{ContainerKey, Role};

    fn key(text: &str) -> ContainerKey {
        let (deployment, service) = text.split_once('.').unwrap();
        ContainerKey {
            deployment: deployment.parse().unwrap(),
            service: service.parse().unwrap(),
        }
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
