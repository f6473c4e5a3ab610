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
    /// Of its QEMU, resident; of pages that processes share, its share (PSS). None where that may not be read.
    pub(crate) memory_bytes: Option<u64>,
}

impl Footprint {
    /// Of the device of that name.
    pub(crate) fn of(name: &str, nvram: &Path, overlay: &Path) -> Result<Self, Failure> {
        let on_disk = |path: &Path| Ok::<_, Failure>(std::fs::metadata(path)?.blocks() * 512);
        Ok(Self {
            nvram_bytes: on_disk(nvram)?,
            overlay_bytes: on_disk(overlay)?,
            memory_bytes: memory_of(name)?,
        })
    }

    /// The most that any device took.
    pub(crate) fn largest(all: &[Self]) -> Option<Self> {
        Some(Self {
            nvram_bytes: all.iter().map(|one| one.nvram_bytes).max()?,
            overlay_bytes: all.iter().map(|one| one.overlay_bytes).max()?,
            memory_bytes: all.iter().filter_map(|one| one.memory_bytes).max(),
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let memory = match self.memory_bytes {
            Some(bytes) => format!("{:.0} MiB", mib(bytes)),
            None => "unknown".to_owned(),
        };
        format!(
            "a fork at its first heartbeat, at most: NVRAM {:.2} MiB on disk (bound 1), overlay {:.1} MiB (bound 32), \
             memory {memory}\n",
            mib(self.nvram_bytes),
            mib(self.overlay_bytes)
        )
    }
}

/// The memory of the QEMU that runs the VM of that name, which libvirt tells it.
fn memory_of(name: &str) -> Result<Option<u64>, Failure> {
    let guest = format!("guest={name},");
    for entry in std::fs::read_dir("/proc")? {
        let process = entry?.path();
        // Most are no processes, and some end meanwhile.
        let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let is_it = |argument: &[u8]| argument.starts_with(guest.as_bytes());
        if arguments.split(|byte| *byte == 0).any(is_it) {
            let rollup = std::fs::read_to_string(process.join("smaps_rollup"));
            return Ok(rollup.ok().as_deref().and_then(proportional));
        }
    }
    Err(format!("no QEMU runs {name}").into())
}

/// The bytes that `smaps_rollup` calls `Pss`.
fn proportional(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::proportional;

    #[test]
    fn the_share_of_shared_pages_is_read() {
        let rollup =
            "55d-7ff ---p 00:00 0 [rollup]\nRss:   884 kB\nPss:        385 kB\nPss_Anon: 1 kB\n";
        assert_eq!(proportional(rollup), Some(385 * 1024));
        assert_eq!(proportional("Rss: 884 kB\n"), None);
    }
}
