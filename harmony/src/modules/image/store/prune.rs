//! Removing what nobody needs: never a file that an overlay backs onto, and never one that is being made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use harmony_base::qcow2;
use harmony_base::write::DRAFT;
use serde::Serialize;

use super::contents::{digest_of_name, files_in};
use super::files::io_error;
use super::lock::StoreLock;
use super::place::{UNFINISHED_COPY_PREFIX, is_copy_name};
use super::record::record_path;
use super::users::Overlays;
use crate::modules::image::error::ImageError;

/// Where images are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Fetched ones.
    pub images: PathBuf,
    /// Built ones.
    pub built: Vec<PathBuf>,
    /// Where overlays are, and copies of images for libvirt's QEMU (`harmony-base-*.img`).
    pub pools: Vec<PathBuf>,
}

/// What is to be removed.
#[derive(Debug, Clone, Copy)]
pub struct Pruning {
    /// Only what has not been used for so long.
    pub older_than: Duration,
    /// What time it is.
    pub now: SystemTime,
    /// Removes nothing, and says what would be removed.
    pub dry_run: bool,
}

/// What a file is, as far as pruning is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A fetched image.
    Image,
    /// An image that was built here.
    Built,
    /// A copy of an image in a pool.
    PoolCopy,
    /// What a transfer or copy left that was killed.
    Unfinished,
    /// What was not the pinned file.
    Rejected,
    /// A record without its image.
    Record,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// What it takes on the disk, in bytes.
    pub on_disk: u64,
    /// Why it stays; none when it was removed, or would be.
    pub kept: Option<String>,
}

impl Places {
    /// Removes what nobody needs, and says of each file that might be concerned what became of it.
    ///
    /// An image, built or fetched, and a copy in a pool stay as long as an overlay in [`Places::pools`] backs
    /// onto them, through any chain; all stay while an overlay there cannot be read. A copy of a kernel stays,
    /// because no overlay tells who boots it. No VM may be made at the same time from an image that is old
    /// enough.
    ///
    /// # Errors
    /// [`ImageError::Io`] for the first file that cannot be looked at or removed; calling it again goes on.
    pub fn prune(&self, pruning: Pruning) -> Result<Vec<Fate>, ImageError> {
        let overlays = Overlays::in_dirs(&self.pools);
        let mut fates = Vec::new();
        for (path, kind) in self.candidates()? {
            let Ok(metadata) = fs::metadata(&path) else {
                // Whoever made it has given it its name, or removed it.
                continue;
            };
            let kept = match pruning.reason_to_keep(&path, kind, &metadata, &overlays) {
                Some(reason) => Some(reason),
                None => remove(&path, kind, pruning.dry_run)?,
            };
            fates.push(Fate {
                path,
                kind,
                on_disk: metadata.blocks() * 512,
                kept,
            });
        }
        Ok(fates)
    }

    fn candidates(&self) -> Result<Vec<(PathBuf, Kind)>, ImageError> {
        let mut found = Vec::new();
        for path in files_in(&self.images)? {
            found.extend(kind_in_store(&path).map(|kind| (path, kind)));
        }
        for path in files_in_all(&self.built)? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|n| n.ends_with(".qcow2") && !n.starts_with('.')) {
                found.push((path, Kind::Built));
            }
        }
        for path in files_in_all(&self.pools)? {
            found.extend(kind_in_pool(&path).map(|kind| (path, kind)));
        }
        Ok(found)
    }
}

fn files_in_all(dirs: &[PathBuf]) -> Result<Vec<PathBuf>, ImageError> {
    let mut files = Vec::new();
    for dir in dirs {
        files.extend(files_in(dir)?);
    }
    Ok(files)
}

fn kind_in_store(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let unfinished = [".part", ".part.json", ".part.unpacked", ".new"];
    if name.starts_with(DRAFT) || unfinished.iter().any(|extension| name.ends_with(extension)) {
        return Some(Kind::Unfinished);
    }
    if name.ends_with(".rejected") {
        return Some(Kind::Rejected);
    }
    if let Some(image) = name.strip_suffix(".json") {
        let image = path.with_file_name(image);
        return (digest_of_name(&image).is_some() && !image.exists()).then_some(Kind::Record);
    }
    digest_of_name(path).map(|_| Kind::Image)
}

fn kind_in_pool(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with(UNFINISHED_COPY_PREFIX) {
        return Some(Kind::Unfinished);
    }
    (is_copy_name(name) && is_disk(path)).then_some(Kind::PoolCopy)
}

/// Whether a copy is a disk image beyond doubt: a qcow2, or a GUID partition table. A kernel is neither.
fn is_disk(path: &Path) -> bool {
    let starts_with = |offset, magic: &[u8]| {
        let mut start = vec![0; magic.len()];
        File::open(path)
            .is_ok_and(|file| file.read_exact_at(&mut start, offset).is_ok() && start == magic)
    };
    starts_with(0, qcow2::MAGIC) || starts_with(512, b"EFI PART")
}

impl Pruning {
    fn reason_to_keep(
        &self,
        path: &Path,
        kind: Kind,
        metadata: &fs::Metadata,
        overlays: &Overlays,
    ) -> Option<String> {
        if matches!(kind, Kind::Image | Kind::Built | Kind::PoolCopy) {
            if let Some(user) = overlays.users_of(path).first() {
                return Some(format!("{} backs onto it", user.display()));
            }
            if let Some((unknown, reason)) = overlays.unknown.first() {
                let unknown = unknown.display();
                return Some(format!(
                    "{unknown} cannot be read and may back onto it: {reason}"
                ));
            }
        }
        // A record is touched whenever its image is used.
        let record = fs::metadata(record_path(path)).and_then(|m| m.modified());
        let used = metadata.modified().ok().max(record.ok());
        let age = used.and_then(|used| self.now.duration_since(used).ok());
        let age = age.unwrap_or_default();
        (age < self.older_than).then(|| format!("used {} days ago", age.as_secs() / 86_400))
    }
}

/// Removes a file and its record, unless somebody is making it; then says so.
fn remove(path: &Path, kind: Kind, dry_run: bool) -> Result<Option<String>, ImageError> {
    let lock = match lock_of(path, kind)? {
        Lock::Held => return Ok(Some("a process is making it".to_owned())),
        free => free,
    };
    if dry_run {
        return Ok(None);
    }
    let also = (kind == Kind::Image).then(|| record_path(path));
    for path in std::iter::once(path).chain(also.as_deref()) {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("remove", path, source)),
        }
    }
    drop(lock);
    Ok(None)
}

enum Lock {
    /// There is none to be held.
    None,
    /// Ours, until it is dropped.
    Ours(#[expect(dead_code, reason = "it is held, and not looked at")] StoreLock),
    /// Another process has it.
    Held,
}

/// The lock under which the file is made.
fn lock_of(path: &Path, kind: Kind) -> Result<Lock, ImageError> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(Lock::None);
    };
    let name = match kind {
        Kind::Unfinished => {
            let end = name.find(".part").unwrap_or(name.len());
            name[..end].trim_start_matches('.')
        }
        Kind::Image | Kind::Built => name,
        Kind::PoolCopy | Kind::Rejected | Kind::Record => return Ok(Lock::None),
    };
    if !StoreLock::is_known(dir, name) {
        return Ok(Lock::None);
    }
    Ok(StoreLock::try_acquire(dir, name)?.map_or(Lock::Held, Lock::Ours))
}

#[cfg(test)]
mod tests;
