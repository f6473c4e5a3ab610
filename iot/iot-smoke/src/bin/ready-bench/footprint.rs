//! What a device takes of its host.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use iot_smoke::Failure;
use serde::Serialize;

/// What one device takes after its first heartbeat.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Footprint {
    /// Of its UEFI variable store, on disk.
    pub(crate) nvram_bytes: u64,
    /// Of its disk's overlay, on disk.
    pub(crate) overlay_bytes: u64,
}

impl Footprint {
    pub(crate) fn of(nvram: &Path, overlay: &Path) -> Result<Self, Failure> {
        let on_disk = |path: &Path| Ok::<_, Failure>(std::fs::metadata(path)?.blocks() * 512);
        Ok(Self {
            nvram_bytes: on_disk(nvram)?,
            overlay_bytes: on_disk(overlay)?,
        })
    }

    /// The most that any device took.
    pub(crate) fn largest(all: &[Self]) -> Option<Self> {
        Some(Self {
            nvram_bytes: all.iter().map(|one| one.nvram_bytes).max()?,
            overlay_bytes: all.iter().map(|one| one.overlay_bytes).max()?,
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "a fork on disk at its first heartbeat, at most: NVRAM {:.2} MiB (bound 1), overlay {:.1} MiB (bound 32)\n",
            mib(self.nvram_bytes),
            mib(self.overlay_bytes)
        )
    }
}
