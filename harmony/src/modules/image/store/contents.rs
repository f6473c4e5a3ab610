//! What the store has: listed, and verified.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::{io_error, set_aside};
use super::record::{ImageRecord, Source, Standing, standing};
use super::users::Overlays;
use crate::modules::image::digest::ImageDigest;
use crate::modules::image::error::ImageError;

/// A file of the store.
#[derive(Debug, Clone, Serialize)]
pub struct StoredImage {
    /// Where it is.
    pub path: PathBuf,
    /// What its name says that it hashes to.
    pub digest: ImageDigest,
    /// Its size in bytes.
    pub size: u64,
    /// What it takes on the disk, in bytes.
    pub on_disk: u64,
    /// What is known of it.
    pub record: Option<ImageRecord>,
    /// Whether it looks as it did when it was verified. One that does not is hashed before it is used.
    pub verified: bool,
    /// The overlays that depend on it.
    pub users: Vec<PathBuf>,
}

/// The images in `dir`, in the order of their names, with those of `overlays` that depend on them. A directory
/// that does not exist has none.
///
/// # Errors
/// [`ImageError::Io`].
pub fn list(dir: &Path, overlays: &Overlays) -> Result<Vec<StoredImage>, ImageError> {
    let mut images = Vec::new();
    for path in files_in(dir)? {
        let Some(digest) = digest_of_name(&path) else {
            continue;
        };
        let metadata = fs::metadata(&path).map_err(|source| io_error("read", &path, source))?;
        let (record, verified) = match standing(&path)? {
            Standing::Missing => continue,
            Standing::Verified(record) => (Some(*record), true),
            Standing::Doubtful(record) => (record.map(|record| *record), false),
        };
        let users = overlays.users_of(&path);
        images.push(StoredImage {
            digest,
            size: metadata.len(),
            on_disk: metadata.blocks() * 512,
            record,
            verified,
            users: users.into_iter().map(Path::to_owned).collect(),
            path,
        });
    }
    Ok(images)
}

/// What verifying a file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It hashes to what its name says.
    Right,
    /// It does not, and was set aside.
    Wrong {
        /// What it hashes to.
        actual: ImageDigest,
        /// Where it is now.
        rejected: PathBuf,
    },
}

/// Hashes a file of the store. A right one gets a fresh record, a wrong one is set aside as
/// `<name>.rejected`. Blocking: takes as long as reading and hashing do.
///
/// # Errors
/// [`ImageError::NotStored`] for a file whose name says no digest; [`ImageError::Io`].
pub fn verify(path: &Path) -> Result<Verdict, ImageError> {
    let Some(expected) = digest_of_name(path) else {
        return Err(ImageError::NotStored {
            path: path.to_owned(),
        });
    };
    let actual = expected
        .of_same_kind(path)
        .map_err(|source| io_error("read", path, source))?;
    if actual != expected {
        let rejected = set_aside(path, path)?;
        return Ok(Verdict::Wrong { actual, rejected });
    }
    let size = fs::metadata(path).map_err(|source| io_error("read", path, source))?;
    let source = ImageRecord::load(path).map_or(
        Source {
            url: None,
            digest: expected,
            size: size.len(),
            packing: None,
        },
        |record| record.source,
    );
    super::keep(path, path, expected, source)?;
    Ok(Verdict::Right)
}

/// The digest in the name of a stored file; none for records, files set aside and any others.
pub(super) fn digest_of_name(path: &Path) -> Option<ImageDigest> {
    let name = path.file_name()?.to_str()?;
    let other = [".json", ".rejected", ".new"];
    if other.iter().any(|extension| name.ends_with(extension)) {
        return None;
    }
    ImageDigest::of_file_name(name)
}

/// The regular files in a directory, in the order of their names.
pub(super) fn files_in(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let failed = |source| io_error("list", dir, source);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
