//! The agent's configuration file.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::name::DeviceId;
use crate::nats::NatsConfig;
use crate::update::UpdateConfig;

/// The agent's configuration: a TOML file that the platform writes and the agent reads. An unknown
/// field is an error everywhere, so that a misspelt one does not silently mean its default.
///
/// ```toml
/// device_id = "pi-1"
/// heartbeat_seconds = 10
///
/// [nats]
/// urls = ["tls://nats.example:4222"]
///
/// [nats.credentials]
/// type = "user-password"
/// username = "pi-1"
/// password = "…"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Which device this is.
    pub device_id: DeviceId,
    /// How often the device reports when nothing changes.
    #[serde(default)]
    pub heartbeat_seconds: HeartbeatSeconds,
    /// How the platform is reached.
    pub nats: NatsConfig,
    /// How Podman is reached.
    #[serde(default, skip_serializing_if = "PodmanConfig::is_default")]
    pub podman: PodmanConfig,
    /// Whose updates of the agent are taken; none where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateConfig>,
}

/// A heartbeat interval of 1 to 3600 seconds; 10 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u16")]
pub struct HeartbeatSeconds(u16);

impl HeartbeatSeconds {
    const MIN: u16 = 1;
    const MAX: u16 = 3600;

    /// The interval.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl Default for HeartbeatSeconds {
    fn default() -> Self {
        Self(10)
    }
}

impl TryFrom<i64> for HeartbeatSeconds {
    type Error = ContractError;

    fn try_from(value: i64) -> Result<Self, Self::Error> {
        u16::try_from(value)
            .ok()
            .filter(|seconds| (Self::MIN..=Self::MAX).contains(seconds))
            .map(Self)
            .ok_or(ContractError::Heartbeat {
                value,
                min: Self::MIN,
                max: Self::MAX,
            })
    }
}

impl From<HeartbeatSeconds> for u16 {
    fn from(heartbeat: HeartbeatSeconds) -> Self {
        heartbeat.0
    }
}

/// How Podman is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodmanConfig {
    /// The socket of Podman's REST API; absent for the one that [`PODMAN_SOCKET_VARIABLE`] names, and without that for
    /// [`podman_socket`] of the agent's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl PodmanConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The environment variable by which the agent's unit names the socket of Podman's REST API. Unit and socket are installed
/// together, so that an agent finds it before it has a configuration.
pub const PODMAN_SOCKET_VARIABLE: &str = "IOT_AGENT_PODMAN_SOCKET";

/// Where Podman's `podman.socket` unit listens for the user `uid`: below the user's runtime directory,
/// for root below `/run`.
pub fn podman_socket(uid: u32) -> PathBuf {
    match uid {
        0 => PathBuf::from("/run/podman/podman.sock"),
        uid => PathBuf::from(format!("/run/user/{uid}/podman/podman.sock")),
    }
}
