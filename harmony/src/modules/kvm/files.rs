//! What the files of a VM are called.

use std::path::{Path, PathBuf};

/// Where libvirt's system daemon keeps disk images, and where its QEMU user may read them.
pub(crate) const SYSTEM_POOL: &str = "/var/lib/libvirt/images";

/// The files of a VM in the pool. All names follow from the VM's name, so an interrupted removal can be
/// resumed. `@` is in no VM's name, so a data disk's file is no other VM's.
#[derive(Debug, Clone)]
pub(super) struct VmFiles {
    pool: PathBuf,
    name: String,
    /// The guest's disk.
    pub(super) overlay: PathBuf,
    /// The cloud-init seed.
    pub(super) seed: PathBuf,
    /// The UEFI variable store.
    pub(super) nvram: PathBuf,
    /// The serial console's log.
    pub(super) console_log: PathBuf,
}

impl VmFiles {
    pub(super) fn below(pool: &Path, name: &str) -> Self {
        Self {
            overlay: pool.join(format!("{name}.qcow2")),
            seed: pool.join(format!("{name}-seed.img")),
            nvram: pool.join(format!("{name}-VARS.fd")),
            console_log: pool.join(format!("{name}-console.log")),
            pool: pool.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whether a path is one of these files, which go when the VM goes.
    #[cfg(feature = "kvm")]
    pub(super) fn owns(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = real(path);
        let fixed = [&self.overlay, &self.seed, &self.nvram, &self.console_log];
        let name = path.file_name().and_then(|name| name.to_str());
        let blank = name.is_some_and(|name| name.starts_with(&format!("{}@", self.name)));
        let known = fixed.iter().any(|own| own.file_name() == path.file_name());
        path.parent() == Some(&real(&self.pool)) && (known || blank)
    }

    /// A blank data disk.
    pub(super) fn data_disk(&self, tag: &str) -> PathBuf {
        self.pool.join(format!("{}@{tag}.qcow2", self.name))
    }

    #[cfg(feature = "kvm")]
    /// The blank data disks that there are, also those that were plugged in later.
    pub(super) fn data_disks(&self) -> std::io::Result<Vec<PathBuf>> {
        let prefix = format!("{}@", self.name);
        let entries = match std::fs::read_dir(&self.pool) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let ours = |name: &str| name.starts_with(&prefix) && name.ends_with(".qcow2");
            if entry.file_name().to_str().is_some_and(ours) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}
