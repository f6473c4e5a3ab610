//! The files of the image directory: their names, and what makes them durable.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harmony_base::write::{self, Durability};

use crate::modules::image::error::ImageError;

/// Stays free beside a file that is written.
pub(in crate::modules::image) const SPACE_MARGIN: u64 = 64 * MIB;
const MIB: u64 = 1024 * 1024;

/// Makes `dir` and its parents.
pub(in crate::modules::image) fn ensure_dir(dir: &Path) -> Result<(), ImageError> {
    fs::create_dir_all(dir).map_err(|source| io_error("create", dir, source))
}

/// Whether the finished file is there. Files get their name and lose their write permission only after
/// they were verified, so both together are the mark of a verified file.
pub(in crate::modules::image) fn is_finished(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        meta.is_file() && meta.len() > 0 && meta.permissions().mode() & 0o222 == 0
    })
}

/// Makes a verified file durable and read-only, and gives it its name.
pub(in crate::modules::image) fn publish(part: &Path, path: &Path) -> Result<(), ImageError> {
    let sealed = File::open(part).and_then(|file| write::seal(&file, 0o444));
    sealed.map_err(|source| io_error("write out", part, source))?;
    fs::rename(part, path).map_err(|source| io_error("rename", part, source))?;
    write::sync_name(path).map_err(|source| io_error("write out the name of", path, source))
}

/// Refuses when the file system of `dir` has less than `needed` bytes free.
pub(in crate::modules::image) fn ensure_space(dir: &Path, needed: u64) -> Result<(), ImageError> {
    let available = available(dir).map_err(|source| io_error("measure", dir, source))?;
    if available < needed {
        return Err(ImageError::NoSpace {
            dir: dir.to_owned(),
            needed_mib: needed.div_ceil(MIB),
            available_mib: available / MIB,
        });
    }
    Ok(())
}

/// An [`ImageError::Io`].
pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> ImageError {
    ImageError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A failed write: [`ImageError::NoSpace`] where the disk or the quota is full, else [`ImageError::Io`].
pub(in crate::modules::image) fn write_error(path: &Path, source: io::Error) -> ImageError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let dir = path.parent().unwrap_or(Path::new("."));
            ImageError::NoSpace {
                dir: dir.to_owned(),
                needed_mib: SPACE_MARGIN / MIB,
                available_mib: available(dir).unwrap_or(0) / MIB,
            }
        }
        _ => io_error("write", path, source),
    }
}

fn available(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Where the file `name` is while it is unfinished.
pub(in crate::modules::image) fn part_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.part"))
}

/// Where it is noted what the unfinished file is.
pub(in crate::modules::image) fn part_note_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.part.json"))
}

/// Writes a small file: the new content is there, or the old one.
pub(in crate::modules::image) fn replace_file(
    path: &Path,
    content: &[u8],
    mode: u32,
) -> Result<(), ImageError> {
    write::replace(path, content, mode, Durability::State)
        .map_err(|source| write_error(path, source))
}

/// Sets a file aside as `<name>.rejected`, and returns where it is then.
pub(in crate::modules::image) fn set_aside(
    file: &Path,
    name: &Path,
) -> Result<PathBuf, ImageError> {
    let mut rejected = name.as_os_str().to_owned();
    rejected.push(".rejected");
    let rejected = PathBuf::from(rejected);
    fs::rename(file, &rejected).map_err(|source| io_error("set aside", file, source))?;
    Ok(rejected)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use std::io;

    use super::{ensure_space, is_finished, part_path, publish, write_error};
    use crate::modules::image::error::ImageError;

    #[test]
    fn a_file_is_finished_only_after_it_was_published() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("sha256-x.img");
        fs::write(&path, "written by hand").expect("writable");
        assert!(!is_finished(&path), "a writable file proves nothing");
        let part = part_path(dir.path(), "sha256-x.img");
        fs::write(&part, "verified").expect("writable");
        publish(&part, &path).expect("published");
        assert!(is_finished(&path));
        assert_eq!(fs::read(&path).expect("readable"), b"verified");
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

    #[test]
    fn a_full_disk_is_said_to_be_full() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("x");
        let enospc = write_error(&path, io::Error::from_raw_os_error(28));
        assert!(
            matches!(&enospc, ImageError::NoSpace { dir: full, .. } if full == dir.path()),
            "{enospc:?}"
        );
        let other = write_error(&path, io::Error::from_raw_os_error(5));
        assert!(matches!(
            other,
            ImageError::Io {
                action: "write",
                ..
            }
        ));
    }
}
