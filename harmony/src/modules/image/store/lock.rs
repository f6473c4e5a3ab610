//! One process at a time makes a file.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::files::io_error;
use crate::modules::image::error::ImageError;

/// Held by the one process that makes a file. Released when dropped, also by a crash.
#[derive(Debug)]
pub(in crate::modules::image) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Waits for the lock of the file `name` in `dir`. The lock file stays: removing it would race.
    pub(in crate::modules::image) async fn acquire(
        dir: &Path,
        name: &str,
    ) -> Result<Self, ImageError> {
        let path = lock_path(dir, name);
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || lock(&path, &name))
            .await
            .map_err(|source| ImageError::Worker {
                task: "wait for the image's lock",
                source: Box::new(source),
            })?
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
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path, source)),
        }
    }
}

fn lock_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.lock"))
}

fn open(path: &Path) -> Result<File, ImageError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| io_error("lock", path, source))
}

fn lock(path: &Path, name: &str) -> Result<StoreLock, ImageError> {
    let failed = |source| io_error("lock", path, source);
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tracing::info!(image = name, "waiting for another process to finish it");
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    Ok(StoreLock { _file: file })
}
