//! Where the files of a VM are.

use std::path::{Path, PathBuf};

use super::connection::ConnectionUri;
use super::error::KvmError;
use super::types::VmName;

/// The files of one VM. All names follow from the VM's name, so an interrupted removal can be resumed.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The guest's disk.
    pub(super) overlay: PathBuf,
    /// The cloud-init seed.
    pub(super) seed: PathBuf,
    /// The UEFI variable store.
    pub(super) nvram: PathBuf,
    /// The serial console's log.
    pub(super) console_log: PathBuf,
    /// What only harmony reads: the pinned host key and keys.
    pub(super) state_dir: PathBuf,
    /// Held while the VM is being changed.
    pub(super) lock: PathBuf,
}

impl Layout {
    pub(super) fn new(uri: ConnectionUri, data_dir: &Path, name: &VmName) -> Self {
        let pool = uri.pool(data_dir);
        Self {
            overlay: pool.join(format!("{name}.qcow2")),
            seed: pool.join(format!("{name}-seed.img")),
            nvram: pool.join(format!("{name}-VARS.fd")),
            console_log: pool.join(format!("{name}-console.log")),
            state_dir: data_dir.join("vms").join(uri.scope()).join(name.as_str()),
            // Beside the disk, so that users with different data directories exclude each other.
            lock: pool.join(format!(".{name}.lock")),
        }
    }

    /// The known_hosts file with the guest's pinned key.
    pub(super) fn known_hosts(&self) -> PathBuf {
        self.state_dir.join("known_hosts")
    }

    /// The guest's public host key, one line.
    pub(super) fn host_key(&self) -> PathBuf {
        self.state_dir.join("host_key.pub")
    }

    /// The files in the pool.
    fn pool_files(&self) -> [&PathBuf; 4] {
        [&self.overlay, &self.seed, &self.nvram, &self.console_log]
    }

    /// Whether harmony made files for a VM of this name: the state directory is made first and
    /// removed last.
    pub(super) fn is_ours(&self) -> bool {
        self.state_dir.exists()
    }

    /// A file that stands in the way of a new VM and is not ours.
    pub(super) fn foreign_file(&self) -> Option<PathBuf> {
        if self.is_ours() {
            return None;
        }
        self.pool_files().into_iter().find(|p| p.exists()).cloned()
    }

    /// Removes every file. Returns whether there was any.
    ///
    /// # Errors
    /// The first file that cannot be removed; calling it again goes on.
    pub(super) fn remove(&self) -> Result<bool, KvmError> {
        let mut removed = false;
        // virtlogd keeps three older logs beside the newest.
        let logs = (0..3).map(|n| {
            let mut log = self.console_log.clone().into_os_string();
            log.push(format!(".{n}"));
            PathBuf::from(log)
        });
        for path in self.pool_files().into_iter().cloned().chain(logs) {
            let path = &path;
            match std::fs::remove_file(path) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(KvmError::io("remove", path)(error)),
            }
        }
        match std::fs::remove_dir_all(&self.state_dir) {
            Ok(()) => removed = true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(KvmError::io("remove", &self.state_dir)(error)),
        }
        Ok(removed)
    }
}
