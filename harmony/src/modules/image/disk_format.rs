//! The layouts of disk images that guests have. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The layout of a disk image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// QEMU's copy-on-write format.
    Qcow2,
    /// The disk's bytes as they are, with a partition table.
    Raw,
}

impl DiskFormat {
    /// The name that QEMU and libvirt use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
