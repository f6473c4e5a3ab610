//! Where what belongs to a VM is, and removing it.

use std::path::{Path, PathBuf};

use harmony_base::lock::PassingLock;
use harmony_base::write::{self, Durability};

use super::connection::ConnectionUri;
use super::error::KvmError;
use super::files::VmFiles;
use super::types::VmName;

/// Everybody may see that a VM is being changed.
const LOCK_MODE: u32 = 0o644;

/// The files and directories of one VM.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// What is in the pool.
    pub(super) files: VmFiles,
    /// What only harmony reads: the pinned host key and keys.
    pub(super) state_dir: PathBuf,
    lock: PathBuf,
    /// There while a fork has no identity of its own yet: beside its disk, as that is everybody's who sees the domain.
    unfinished: PathBuf,
}

impl Layout {
    pub(super) fn new(uri: ConnectionUri, data_dir: &Path, name: &VmName) -> Self {
        let pool = uri.pool(data_dir);
        Self {
            files: VmFiles::below(&pool, name.as_str()),
            state_dir: data_dir.join("vms").join(uri.scope()).join(name.as_str()),
            // Beside the disk, so that users with different data directories exclude each other.
            lock: pool.join(format!(".{name}.lock")),
            unfinished: pool.join(format!(".{name}.unfinished")),
        }
    }

    /// Takes the lock that is held while the VM is being changed. Its file goes when it is given back.
    ///
    /// # Errors
    /// [`KvmError::Busy`] when somebody else has it, whoever that is.
    pub(super) fn take_lock(&self, name: &VmName) -> Result<PassingLock, KvmError> {
        let taken = PassingLock::try_take(self.lock.clone(), LOCK_MODE);
        let busy = || KvmError::Busy {
            name: name.to_string(),
        };
        taken
            .map_err(KvmError::io("lock", &self.lock))?
            .ok_or_else(busy)
    }

    /// The known_hosts file with the guest's pinned key.
    pub(super) fn known_hosts(&self) -> PathBuf {
        self.state_dir.join("known_hosts")
    }

    /// The guest's public host key, one line.
    pub(super) fn host_key(&self) -> PathBuf {
        self.state_dir.join("host_key.pub")
    }

    /// Notes, for good, that the VM, which is not defined yet, goes on under another one's identity until
    /// [`finish_fork`](Self::finish_fork).
    pub(super) fn begin_fork(&self) -> Result<(), KvmError> {
        let path = &self.unfinished;
        write::replace(path, b"", 0o644, Durability::State).map_err(KvmError::io("write", path))
    }

    /// Whether a fork was begun and not finished.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished.exists()
    }

    /// Notes, for good, that the VM is nobody but itself.
    pub(super) fn finish_fork(&self) -> Result<(), KvmError> {
        let path = &self.unfinished;
        std::fs::remove_file(path).map_err(KvmError::io("remove", path))?;
        write::sync_name(path).map_err(KvmError::io("write out the name of", path))
    }

    /// The files in the pool, whether they are there or not, and the data disks that are.
    fn pool_files(&self) -> Result<Vec<PathBuf>, KvmError> {
        let VmFiles {
            overlay,
            seed,
            nvram,
            console_log,
            ..
        } = &self.files;
        let disks = self.files.data_disks();
        let mut all = disks.map_err(KvmError::io("list the files beside", overlay))?;
        all.extend([overlay, seed, nvram, console_log].map(Clone::clone));
        Ok(all)
    }

    /// Whether harmony made files for a VM of this name: the state directory is made first and
    /// removed last.
    pub(super) fn is_ours(&self) -> bool {
        self.state_dir.exists()
    }

    /// A file that stands in the way of a new VM and is not ours.
    pub(super) fn foreign_file(&self) -> Result<Option<PathBuf>, KvmError> {
        if self.is_ours() {
            return Ok(None);
        }
        Ok(self.pool_files()?.into_iter().find(|p| p.exists()))
    }

    /// Removes every file. Returns whether there was any.
    ///
    /// # Errors
    /// The first file that cannot be removed; calling it again goes on.
    pub(super) fn remove(&self) -> Result<bool, KvmError> {
        let mut removed = false;
        // virtlogd keeps three older logs beside the newest.
        let logs = (0..3).map(|n| {
            let mut log = self.files.console_log.clone().into_os_string();
            log.push(format!(".{n}"));
            PathBuf::from(log)
        });
        let note = std::iter::once(self.unfinished.clone());
        for path in self.pool_files()?.into_iter().chain(logs).chain(note) {
            match std::fs::remove_file(&path) {
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

/// Makes a directory that is its owner's alone, and its parents.
pub(super) fn make_private_dir(path: &Path) -> Result<(), KvmError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(KvmError::io("make", path))
}

#[cfg(test)]
mod tests {
    use super::{ConnectionUri, KvmError, Layout};

    #[test]
    fn one_change_of_a_vm_at_a_time_and_no_file_left() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let name = "vm".parse().expect("valid");
        let layout = Layout::new(ConnectionUri::Session, dir.path(), &name);
        std::fs::create_dir_all(ConnectionUri::Session.pool(dir.path())).expect("made");
        let held = layout.take_lock(&name).expect("free");
        let second = layout.take_lock(&name);
        assert!(
            matches!(&second, Err(KvmError::Busy { name }) if name == "vm"),
            "{second:?}"
        );
        assert!(layout.lock.exists(), "who was refused removes nothing");
        drop(held);
        assert!(!layout.lock.exists());
        layout.take_lock(&name).expect("free again");
    }
}
