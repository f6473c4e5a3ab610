//! Files of the image directory: locked while they are made, read-only once they are whole.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::ImageError;

/// Held by the one process that makes a file. Released when dropped, also by a crash.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Waits for the lock of the file `name` in `dir`. The lock file stays: removing it would race.
    pub(super) async fn acquire(dir: &Path, name: &str) -> Result<Self, ImageError> {
        let path = dir.join(format!(".{name}.lock"));
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || lock(&path, &name))
            .await
            .map_err(|source| ImageError::Worker {
                task: "wait for the image's lock",
                source: Box::new(source),
            })?
    }
}

fn lock(path: &Path, name: &str) -> Result<StoreLock, ImageError> {
    let failed = |source| io_error("lock", path, source);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
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

/// Makes `dir` and its parents.
pub(super) fn ensure_dir(dir: &Path) -> Result<(), ImageError> {
    fs::create_dir_all(dir).map_err(|source| io_error("create", dir, source))
}

/// Whether the finished file is there. Files get their name and lose their write permission only after
/// they were verified, so both together are the mark of a verified file.
pub(super) fn is_finished(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        meta.is_file() && meta.len() > 0 && meta.permissions().mode() & 0o222 == 0
    })
}

/// Makes a verified file durable and read-only, and gives it its name.
pub(super) fn publish(part: &Path, path: &Path) -> Result<(), ImageError> {
    let sync = |what: &Path| {
        File::open(what)
            .and_then(|file| file.sync_all())
            .map_err(|source| io_error("write out", what, source))
    };
    fs::set_permissions(part, Permissions::from_mode(0o444))
        .map_err(|source| io_error("make read-only", part, source))?;
    sync(part)?;
    fs::rename(part, path).map_err(|source| io_error("rename", part, source))?;
    path.parent().map_or(Ok(()), sync)
}

/// Refuses when the file system of `dir` has less than `needed` bytes free.
pub(super) fn ensure_space(dir: &Path, needed: u64) -> Result<(), ImageError> {
    const MIB: u64 = 1024 * 1024;
    let stat = rustix::fs::statvfs(dir).map_err(|errno| io_error("measure", dir, errno.into()))?;
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available < needed {
        return Err(ImageError::NoSpace {
            dir: dir.to_owned(),
            needed_mib: needed.div_ceil(MIB),
            available_mib: available / MIB,
        });
    }
    Ok(())
}

/// An unfinished file, removed when dropped unless it was given its name.
#[derive(Debug)]
pub(super) struct PartFile {
    path: PathBuf,
}

impl PartFile {
    /// The unfinished form of the file `name` in `dir`. Only the holder of its lock may use it; what a
    /// killed process left is overwritten.
    pub(super) fn new(dir: &Path, name: &str) -> Self {
        Self {
            path: dir.join(format!(".{name}.part")),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it empty.
    pub(super) fn create(&self) -> Result<File, ImageError> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(|source| io_error("create", &self.path, source))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove the unfinished file");
            }
        }
    }
}

/// An [`ImageError::Io`].
pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> ImageError {
    ImageError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{PartFile, ensure_space, is_finished, publish};
    use crate::modules::image::error::ImageError;

    #[test]
    fn a_file_is_finished_only_after_it_was_published() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("sha256-x.img");
        fs::write(&path, "written by hand").expect("writable");
        assert!(!is_finished(&path), "a writable file proves nothing");
        let part = PartFile::new(dir.path(), "sha256-x.img");
        fs::write(part.path(), "verified").expect("writable");
        publish(part.path(), &path).expect("published");
        assert!(is_finished(&path));
        assert_eq!(fs::read(&path).expect("readable"), b"verified");
    }

    #[test]
    fn an_unfinished_file_goes_with_its_owner() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let part = PartFile::new(dir.path(), "x");
        drop(part.create().expect("created"));
        assert!(part.path().exists());
        drop(part);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn too_little_space_is_refused_before_writing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(ensure_space(dir.path(), 1).is_ok());
        assert!(matches!(
            ensure_space(dir.path(), u64::MAX),
            Err(ImageError::NoSpace {
                needed_mib: 0x1000_0000_0000,
                ..
            })
        ));
    }
}
