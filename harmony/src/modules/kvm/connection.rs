//! Which libvirt to speak to, and where its files may be.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::KvmError;
use super::files::SYSTEM_POOL;

/// A connection to QEMU's driver on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionUri {
    /// The system daemon: guests run as libvirt's QEMU user.
    System,
    /// The user's own daemon, spawned on demand: guests run as this user.
    Session,
}

impl ConnectionUri {
    /// The URI as libvirt spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "qemu:///system",
            Self::Session => "qemu:///session",
        }
    }

    /// The directory for disks, seeds, variable stores and console logs.
    pub fn pool(self, data_dir: &Path) -> PathBuf {
        match self {
            Self::System => SYSTEM_POOL.into(),
            Self::Session => data_dir.join("pool"),
        }
    }

    /// The directory name for what belongs to this connection.
    pub(crate) fn scope(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Session => "session",
        }
    }

    /// For root both URIs reach the system daemon.
    pub(super) fn for_this_user(self) -> Self {
        if rustix::process::geteuid().is_root() {
            Self::System
        } else {
            self
        }
    }
}

impl fmt::Display for ConnectionUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ConnectionUri {
    type Err = KvmError;

    fn from_str(uri: &str) -> Result<Self, KvmError> {
        match uri {
            "qemu:///system" => Ok(Self::System),
            "qemu:///session" => Ok(Self::Session),
            _ => Err(KvmError::UnsupportedUri {
                uri: uri.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionUri;
    use crate::modules::kvm::error::KvmError;

    #[test]
    fn only_qemu_on_this_host() {
        for uri in [ConnectionUri::System, ConnectionUri::Session] {
            assert_eq!(uri.as_str().parse::<ConnectionUri>().ok(), Some(uri));
        }
        for bad in [
            "",
            "xen:///system",
            "qemu+ssh://host/system",
            "test:///default",
        ] {
            let error = bad.parse::<ConnectionUri>();
            assert!(
                matches!(&error, Err(KvmError::UnsupportedUri { uri }) if uri == bad),
                "{error:?}"
            );
        }
    }
}
