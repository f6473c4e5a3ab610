//! The agent's configuration file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::name::DeviceId;
use crate::secret::SecretString;

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

/// How NATS is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// The servers of one cluster; the agent connects to any of them.
    pub urls: NatsUrls,
    /// How the agent authenticates; absent for a server that asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<NatsCredentials>,
}

/// One or more server URLs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<NatsUrl>", into = "Vec<NatsUrl>")]
pub struct NatsUrls(Vec<NatsUrl>);

impl NatsUrls {
    /// The URLs; never empty.
    pub fn as_slice(&self) -> &[NatsUrl] {
        &self.0
    }
}

impl TryFrom<Vec<NatsUrl>> for NatsUrls {
    type Error = ContractError;

    fn try_from(urls: Vec<NatsUrl>) -> Result<Self, Self::Error> {
        if urls.is_empty() {
            return Err(ContractError::NoNatsUrl);
        }
        Ok(Self(urls))
    }
}

impl From<NatsUrl> for NatsUrls {
    fn from(url: NatsUrl) -> Self {
        Self(vec![url])
    }
}

impl From<NatsUrls> for Vec<NatsUrl> {
    fn from(urls: NatsUrls) -> Self {
        urls.0
    }
}

/// A NATS server: `nats://HOST[:PORT]`, or `tls://HOST[:PORT]` where TLS is required. Without a
/// port it is 4222. An IPv6 address stands in brackets. Credentials in the URL are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NatsUrl(String);

impl NatsUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NatsUrl {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        if value.contains('@') {
            return Err(ContractError::NatsUrlUserinfo);
        }
        let authority = value
            .strip_prefix("nats://")
            .or_else(|| value.strip_prefix("tls://"));
        match authority {
            Some(authority) if is_host_and_port(authority) => Ok(Self(value)),
            _ => Err(ContractError::NatsUrl { value }),
        }
    }
}

fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (
                "v6",
                port.strip_prefix(':').or(port.is_empty().then_some("4222")),
            ),
            _ => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("4222")),
        },
    };
    let host_char = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let port_is_valid = port.is_some_and(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<std::num::NonZeroU16>().is_ok()
    });
    !host.is_empty() && host.chars().all(host_char) && port_is_valid
}

impl FromStr for NatsUrl {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::try_from(value.to_owned())
    }
}

impl From<NatsUrl> for String {
    fn from(url: NatsUrl) -> Self {
        url.0
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the agent authenticates to NATS, by its field `type`. An unknown type is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NatsCredentials {
    /// A user and a password.
    UserPassword {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A token.
    Token {
        /// The token.
        token: SecretString,
    },
    /// A credentials file (user JWT and NKey seed) on the device.
    CredsFile {
        /// Where it is.
        path: PathBuf,
    },
}

/// How Podman is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodmanConfig {
    /// The socket of Podman's REST API; absent for [`podman_socket`] of the agent's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl PodmanConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where Podman's `podman.socket` unit listens for the user `uid`: below the user's runtime directory,
/// for root below `/run`.
pub fn podman_socket(uid: u32) -> PathBuf {
    match uid {
        0 => PathBuf::from("/run/podman/podman.sock"),
        uid => PathBuf::from(format!("/run/user/{uid}/podman/podman.sock")),
    }
}
