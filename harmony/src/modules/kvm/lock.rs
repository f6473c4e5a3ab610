//! One change of a VM at a time, also across processes.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tracing::warn;

use super::error::KvmError;
use super::types::VmName;

/// The lock of one VM; dropping it gives it back and removes its file.
pub(super) struct VmLock {
    path: PathBuf,
    /// Closed, and so unlocked, after the file was removed.
    _file: File,
}

impl VmLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`KvmError::Busy`] when somebody else has it.
    pub(super) fn take(name: &VmName, path: PathBuf) -> Result<Self, KvmError> {
        loop {
            let file = File::create(&path).map_err(KvmError::io("make", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(KvmError::Busy {
                        name: name.to_string(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(KvmError::io("lock", &path)(error)),
            }
            // Between the two calls the last holder may have removed the file: then this is a lock of a file
            // that nobody else will see.
            let locked = file.metadata().map_err(KvmError::io("read", &path))?;
            match std::fs::metadata(&path) {
                Ok(there) if there.ino() == locked.ino() => return Ok(Self { path, _file: file }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(KvmError::io("read", &path)(error)),
            }
        }
    }
}

impl Drop for VmLock {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "a lock file could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::VmLock;
    use crate::modules::kvm::error::KvmError;

    #[test]
    fn one_holder_at_a_time_and_no_file_left() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join(".vm.lock");
        let name = "vm".parse().expect("valid");
        let held = VmLock::take(&name, path.clone()).expect("free");
        let second = VmLock::take(&name, path.clone());
        assert!(matches!(second, Err(KvmError::Busy { .. })));
        assert!(path.exists(), "who was refused removes nothing");
        drop(held);
        assert!(!path.exists());
        VmLock::take(&name, path).expect("free again");
    }
}
