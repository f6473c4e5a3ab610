//! One process at a time makes a file.

use std::path::{Path, PathBuf};

use harmony_base::lock::FileLock;

use super::files::io_error;
use crate::modules::image::error::ImageError;

/// A lock file is its owner's alone.
const MODE: u32 = 0o600;

/// Held by the one process that makes a file. Released when dropped, also by a crash. Its file stays.
#[derive(Debug)]
pub(in crate::modules::image) struct StoreLock {
    _lock: FileLock,
}

impl StoreLock {
    /// Waits for the lock of the file `name` in `dir`.
    pub(in crate::modules::image) async fn acquire(
        dir: &Path,
        name: &str,
    ) -> Result<Self, ImageError> {
        let path = lock_path(dir, name);
        let held = || tracing::info!(image = name, "waiting for another process to finish it");
        match FileLock::waited(&path, MODE, held).await {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(source) => Err(io_error("lock", &path, source)),
        }
    }

    /// Whether there has ever been a lock of the file `name` in `dir`.
    pub(super) fn is_known(dir: &Path, name: &str) -> bool {
        lock_path(dir, name).exists()
    }

    /// The lock of the file `name` in `dir`, when nobody holds it.
    pub(in crate::modules::image) fn try_acquire(
        dir: &Path,
        name: &str,
    ) -> Result<Option<Self>, ImageError> {
        let path = lock_path(dir, name);
        match FileLock::try_exclusive(&path, MODE) {
            Ok(lock) => Ok(lock.map(|lock| Self { _lock: lock })),
            Err(source) => Err(io_error("lock", &path, source)),
        }
    }
}

fn lock_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.lock"))
}
