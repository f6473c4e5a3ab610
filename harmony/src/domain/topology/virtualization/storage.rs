//! What a guest stores on beside its system disk, and what it shares with its host.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a data disk's content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum DiskSource {
    /// A new, empty disk, which goes when the VM goes.
    Blank {
        /// Its size in GiB, 1 to 65536. It is allocated as it is written.
        size_gib: u64,
    },
    /// A file of the caller's, raw or qcow2 by inspection, used in place: the guest writes to it unless
    /// the disk is read-only, and it stays when the VM goes.
    File {
        /// The absolute path.
        path: PathBuf,
    },
}

/// A disk beside the system disk. The guest finds it as `/dev/disk/by-id/virtio-TAG`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDisk {
    /// Its name in the VM and its serial number in the guest: 1 to 20 lower-case letters, digits or
    /// `-`, beginning with a letter. 20 bytes is what virtio-blk's serial number holds.
    pub tag: String,
    /// Where its content is.
    pub source: DiskSource,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// A data disk of one VM, for unplugging it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskHandle(String);

impl DiskHandle {
    /// The handle of the disk with this tag.
    pub fn of(tag: impl Into<String>) -> Self {
        Self(tag.into())
    }

    /// The disk's tag.
    pub fn tag(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data disk '{}'", self.0)
    }
}

/// How a shared directory crosses from the host to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ShareDriver {
    /// virtiofs where the host has virtiofsd, else 9p.
    #[default]
    Auto,
    /// virtiofs: fast and faithful; needs virtiofsd on the host.
    Virtiofs,
    /// 9p: part of QEMU, slower.
    #[serde(rename = "9p")]
    NineP,
}

impl fmt::Display for ShareDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Virtiofs => "virtiofs",
            Self::NineP => "9p",
        })
    }
}

/// A directory of the host that the guest can mount by its tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedDirectory {
    /// What the guest mounts: `mount -t virtiofs TAG /mnt`, or `mount -t 9p -o trans=virtio TAG /mnt`.
    /// 1 to 20 lower-case letters, digits or `-`, beginning with a letter.
    pub tag: String,
    /// The host's directory, an absolute path.
    pub path: PathBuf,
    /// How it crosses.
    #[serde(default)]
    pub driver: ShareDriver,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub read_only: bool,
}
