//! What a container's program is and may do, and when it runs again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;

/// The longest name of a user or group, in characters.
const MAX_USER_CHARS: usize = 32;

/// The longest path of a device, in characters.
const MAX_DEVICE_CHARS: usize = 256;

/// When a container that has ended is started again, by the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whenever it has ended.
    #[default]
    Always,
    /// When it has ended with another code than 0, or is unhealthy.
    OnFailure,
    /// Never. One that went with the power did not end, and runs anew.
    Never,
}

impl Restart {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what has ended with `code` is started again.
    pub fn follows(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// Who a program runs as: `USER[:GROUP]`, each a name in the image or a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^[^:]+(:[^:]+)?$")))]
#[serde(try_from = "String", into = "String")]
pub struct ProcessUser(String);

impl ProcessUser {
    /// User and group, as Podman takes them.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user's number, where it is one.
    pub fn uid(&self) -> Option<u32> {
        self.0.split(':').next()?.parse().ok()
    }

    /// The group's number, where it is one.
    pub fn gid(&self) -> Option<u32> {
        self.0.split(':').nth(1)?.parse().ok()
    }
}

impl TryFrom<String> for ProcessUser {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, ContractError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_name = |name: &str| {
            let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            starts && name.len() <= MAX_USER_CHARS && name.chars().all(allowed)
        };
        if value.split(':').count() <= 2 && value.split(':').all(is_name) {
            return Ok(Self(value));
        }
        Err(ContractError::ProcessUser {
            value,
            max_chars: MAX_USER_CHARS,
        })
    }
}

impl From<ProcessUser> for String {
    fn from(user: ProcessUser) -> Self {
        user.0
    }
}

/// A device that a container may use: `HOST[:CONTAINER][:PERMISSIONS]`, paths below `/dev` and some of `rwm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^/dev/[^:]+(:/dev/[^:]+)?(:[rwm]+)?$")))]
#[serde(try_from = "String", into = "String")]
pub struct Device(String);

impl Device {
    /// The device, as Podman takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_device(value: &str) -> bool {
    let is_path = |path: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+@".contains(c);
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(allowed);
        let below = path.strip_prefix("/dev/");
        path.len() <= MAX_DEVICE_CHARS && below.is_some_and(|path| path.split('/').all(is_part))
    };
    let are_permissions = |text: &str| {
        let once = |c: char| text.matches(c).count() <= 1;
        !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && once(c))
    };
    match value.split(':').collect::<Vec<_>>()[..] {
        [host] => is_path(host),
        [host, second] => is_path(host) && (is_path(second) || are_permissions(second)),
        [host, path, permissions] => is_path(host) && is_path(path) && are_permissions(permissions),
        _ => false,
    }
}

impl TryFrom<String> for Device {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, ContractError> {
        match is_device(&value) {
            true => Ok(Self(value)),
            false => Err(ContractError::Device { value }),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.0
    }
}

/// What a program may do beyond or short of Podman's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// What it may do besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Capability>,
    /// What it may not do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<Capability>,
}

impl Capabilities {
    /// Whether it is the default.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A capability of Linux without its `CAP_`, or `ALL` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Capability(u8);

/// All that Linux has, as capabilities(7) names them.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

impl Capability {
    /// Its name, without `CAP_`.
    pub fn as_str(self) -> &'static str {
        CAPABILITIES[usize::from(self.0)]
    }
}

impl TryFrom<String> for Capability {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, ContractError> {
        let name = value.strip_prefix("CAP_").unwrap_or(&value);
        let mut known = (0_u8..).zip(CAPABILITIES);
        match known.find(|(_, known)| *known == name) {
            Some((index, _)) => Ok(Self(index)),
            None => Err(ContractError::Capability { value }),
        }
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.as_str().to_owned()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
