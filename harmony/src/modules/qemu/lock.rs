//! One writer, or many readers, of a store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::{StoreError, io_error};

/// The lock file's name. The file stays: removing it would race.
const FILE: &str = ".lock";

/// Held while a store is read or changed. Released when dropped, also by a crash.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Waits until nobody writes. A store that the user may only read can be locked so.
    pub fn shared(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(FILE);
        let file = open(&path).map_err(io_error("open", &path))?;
        file.lock_shared().map_err(io_error("lock", &path))?;
        Ok(Self { _file: file })
    }

    /// Waits until nobody else reads or writes.
    pub fn exclusive(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(FILE);
        let file = open(&path).map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(store = %root.display(), "waiting for another process");
                file.lock().map_err(io_error("lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path),
        other => other,
    }
}
