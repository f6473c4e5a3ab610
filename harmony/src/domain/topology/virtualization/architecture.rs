//! The instruction sets of guests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The instruction set of a guest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum VmArchitecture {
    /// 64-bit x86, also called amd64.
    #[default]
    #[serde(alias = "amd64", alias = "X86_64")]
    X86_64,
    /// 64-bit Arm, also called arm64.
    #[serde(alias = "arm64", alias = "Aarch64")]
    Aarch64,
}

impl VmArchitecture {
    /// Every architecture, in a fixed order.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The name that Linux (`uname -m`), QEMU and libvirt use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name that Debian and Ubuntu use.
    pub fn debian_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The architecture of this process' host, when it is one of ours.
    pub fn of_host() -> Option<Self> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl fmt::Display for VmArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no architecture of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown architecture '{value}' (expected x86_64 or aarch64)")]
pub struct UnknownArchitecture {
    /// What was given.
    pub value: String,
}

impl FromStr for VmArchitecture {
    type Err = UnknownArchitecture;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "x86_64" | "amd64" => Ok(Self::X86_64),
            "aarch64" | "arm64" => Ok(Self::Aarch64),
            _ => Err(UnknownArchitecture {
                value: value.to_owned(),
            }),
        }
    }
}
