//! Where checkpoints are kept: beside the VMs' disks, where QEMU may read them, a directory for each. One that is
//! broken keeps its place, since disks of devices may be backed by it, until it is pruned.
//!
//! A directory gets its name when everything in it is whole and on the disk. Each use compares size and
//! time stamps with what was saved, and hashes a file in which they differ.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use harmony_base::lock::FileLock;
use harmony_base::write::{self, Durability};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::modules::image::Sha256Digest;
use crate::modules::image::store::Overlays;
use crate::modules::kvm::placement::Placement;

use super::{CheckpointError, CheckpointKey};

/// The directory in the pool.
const DIRECTORY: &str = "harmony-checkpoints";
/// The guest's disk as it was, a backing file for forks.
pub(super) const DISK: &str = "disk.qcow2";
/// The UEFI variable store as it was.
pub(super) const NVRAM: &str = "VARS.fd";
/// The guest's memory and devices as they were.
pub(super) const MEMORY: &str = "memory.save";
/// The description, written last.
const DESCRIPTION: &str = "checkpoint.json";

/// What a directory's name begins with in which a checkpoint is put together.
const UNFINISHED: &str = ".unfinished-";
/// And one with a copy of the memory.
const SCRATCH: &str = ".memory-";

/// For so long a checkpoint that was used may still be on its way to a fork's disk.
const BEING_FORKED: Duration = Duration::from_secs(3600);

/// The mode of a lock file, which stays.
const LOCK_MODE: u32 = 0o600;

/// The checkpoints of one pool.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    root: PathBuf,
}

/// What is known of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredCheckpoint {
    /// What it is known by.
    pub key: CheckpointKey,
    /// The digest of what its machine depends on.
    pub(super) machine: Sha256Digest,
    /// The VM that was saved.
    pub name: String,
    /// What was particular to that VM.
    pub(super) placement: Placement,
    /// Its files, by name.
    pub(super) files: Vec<StoredFile>,
    #[serde(skip)]
    directory: PathBuf,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredFile {
    name: String,
    bytes: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
    /// When anything of it changed, which no program can set. None for the disk: libvirt gives that to the user whom
    /// QEMU runs as, which is a change.
    changed: Option<(i64, i64)>,
    sha256: Sha256Digest,
}

impl StoredFile {
    /// The file of that name in `directory`, hashed.
    fn of(directory: &Path, name: &str) -> Result<Self, CheckpointError> {
        let path = directory.join(name);
        let metadata = fs::metadata(&path).map_err(CheckpointError::io("read", &path))?;
        Ok(Self {
            name: name.to_owned(),
            bytes: metadata.len(),
            modified_seconds: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
            changed: (name != DISK).then(|| (metadata.ctime(), metadata.ctime_nsec())),
            sha256: Sha256Digest::of_file(&path).map_err(CheckpointError::io("read", &path))?,
        })
    }

    fn verify(&self, key: CheckpointKey, directory: &Path) -> Result<(), CheckpointError> {
        let path = directory.join(&self.name);
        let metadata = fs::metadata(&path).map_err(CheckpointError::io("read", &path))?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let altered = |found: String, expected: String| CheckpointError::Altered {
            key,
            path: path.clone(),
            found,
            expected,
        };
        if metadata.len() != self.bytes {
            let bytes = |n: u64| format!("{n} bytes");
            return Err(altered(bytes(metadata.len()), bytes(self.bytes)));
        }
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        if modified == (self.modified_seconds, self.modified_nanoseconds)
            && self.changed.is_none_or(|then| then == changed)
        {
            return Ok(());
        }
        let digest = Sha256Digest::of_file(&path).map_err(CheckpointError::io("read", &path))?;
        if digest == self.sha256 {
            return Ok(());
        }
        let text = |digest: Sha256Digest| format!("SHA-256 {digest}");
        Err(altered(text(digest), text(self.sha256)))
    }
}

impl StoredCheckpoint {
    /// One of its files.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Notes that it is used, so that it is not pruned, and checks its files. One that is broken was not used.
    ///
    /// # Errors
    /// [`CheckpointError::Altered`].
    pub(super) fn claim(&self) -> Result<(), CheckpointError> {
        let description = self.file(DESCRIPTION);
        let failed = |error| CheckpointError::io("touch", &description)(error);
        let file = File::open(&description).map_err(failed)?;
        let used = file.metadata().and_then(|data| data.modified());
        let used = used.map_err(failed)?;
        file.set_modified(SystemTime::now()).map_err(failed)?;
        let mut files = self.files.iter();
        let whole = files.try_for_each(|file| file.verify(self.key, &self.directory));
        if whole.is_err() {
            file.set_modified(used).map_err(failed)?;
        }
        whole
    }

    /// A directory for a copy of the memory, beside the checkpoint; removed when it is dropped.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, CheckpointError> {
        let root = self.directory.parent().unwrap_or(&self.directory);
        tempfile::Builder::new()
            .prefix(SCRATCH)
            .tempdir_in(root)
            .map_err(CheckpointError::io("make a directory in", root))
    }

    /// The bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl CheckpointStore {
    /// The store of the pool; nothing is made.
    pub fn of_pool(pool: &Path) -> Self {
        Self {
            root: pool.join(DIRECTORY),
        }
    }

    /// The checkpoint of that key, verified.
    ///
    /// # Errors
    /// [`CheckpointError::Altered`] and [`CheckpointError::Description`] when it is there but not as it was saved.
    pub fn open(&self, key: CheckpointKey) -> Result<Option<StoredCheckpoint>, CheckpointError> {
        let mut broken = None;
        for directory in self.directories(&format!("{}.", key.short()))? {
            match open_in(&directory, key) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => broken = Some(error),
            }
        }
        broken.map_or(Ok(None), Err)
    }

    /// The directories whose names begin so; hidden ones only where that does.
    fn directories(&self, prefix: &str) -> Result<Vec<PathBuf>, CheckpointError> {
        let failed = |error| CheckpointError::io("list", &self.root)(error);
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let hidden = prefix.starts_with('.');
            let wanted = |name: &str| name.starts_with(prefix) && name.starts_with('.') == hidden;
            if name.to_str().is_some_and(wanted) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Every checkpoint that can be read, unverified, the least recently used first.
    pub fn list(&self) -> Result<Vec<StoredCheckpoint>, CheckpointError> {
        let mut found = Vec::new();
        for path in self.directories("")? {
            let read = read(&path).unwrap_or_else(|error| {
                warn!(path = %path.display(), %error, "passed over");
                None
            });
            if let Some(checkpoint) = read {
                let used = fs::metadata(path.join(DESCRIPTION)).and_then(|m| m.modified());
                found.push((used.unwrap_or(SystemTime::UNIX_EPOCH), checkpoint));
            }
        }
        found.sort_by_key(|(used, checkpoint)| (*used, checkpoint.key.to_string()));
        Ok(found
            .into_iter()
            .map(|(_, checkpoint)| checkpoint)
            .collect())
    }

    /// Removes checkpoints that were not used for `age`, and then the least recently used ones until all take at
    /// most `bytes`. One that was used within the hour stays, and so does one whose disk backs a disk in the pool;
    /// where what backs some disk cannot be told, all stay. What interrupted runs left an hour ago goes, too.
    pub fn prune(&self, age: Duration, bytes: u64) -> Result<Vec<CheckpointKey>, CheckpointError> {
        let pool = self.root.parent().unwrap_or(&self.root).to_owned();
        let overlays = Overlays::in_dirs(&[pool]);
        if let Some((path, reason)) = overlays.unknown.first() {
            warn!(path = %path.display(), reason, "no checkpoint is removed: it may be backed by one");
            return Ok(Vec::new());
        }
        self.remove_leftovers(&overlays, age)?;
        let in_use = |checkpoint: &StoredCheckpoint| {
            let users = overlays.users_of(&checkpoint.file(DISK));
            !users.is_empty()
        };
        let all = self.list()?;
        let mut total: u64 = all.iter().map(StoredCheckpoint::bytes).sum();
        let mut removed = Vec::new();
        for checkpoint in all {
            let used = fs::metadata(checkpoint.file(DESCRIPTION)).and_then(|m| m.modified());
            let idle = used
                .ok()
                .and_then(|used| used.elapsed().ok())
                .unwrap_or_default();
            let wanted = idle < age && total <= bytes;
            if wanted || idle < BEING_FORKED || in_use(&checkpoint) {
                continue;
            }
            self.remove(&checkpoint)?;
            total = total.saturating_sub(checkpoint.bytes());
            removed.push(checkpoint.key);
        }
        Ok(removed)
    }

    /// Removes directories that are no checkpoints, when they are older than an hour and back no disk; one whose
    /// description is not understood, another version's perhaps, when it was not used for `age`.
    fn remove_leftovers(&self, overlays: &Overlays, age: Duration) -> Result<(), CheckpointError> {
        let older = |path: &Path, age: Duration| {
            let changed = fs::metadata(path).and_then(|data| data.modified());
            changed.is_ok_and(|then| then.elapsed().is_ok_and(|idle| idle >= age))
        };
        let mut left = self.directories(UNFINISHED)?;
        left.extend(self.directories(SCRATCH)?);
        left.retain(|path| older(path, BEING_FORKED));
        for path in self
            .directories("")?
            .into_iter()
            .filter(|path| is_named(path))
        {
            let goes = match read(&path) {
                Ok(None) => older(&path, BEING_FORKED),
                Err(CheckpointError::Description { path, .. }) => {
                    older(&path, age.max(BEING_FORKED))
                }
                Ok(Some(_)) | Err(_) => false,
            };
            if goes {
                left.push(path);
            }
        }
        for directory in left {
            if !overlays.users_of(&directory.join(DISK)).is_empty() {
                continue;
            }
            match fs::remove_dir_all(&directory) {
                Ok(()) => info!(path = %directory.display(), "an interrupted run's, removed"),
                Err(error) => warn!(path = %directory.display(), %error, "cannot be removed"),
            }
        }
        Ok(())
    }

    fn remove(&self, checkpoint: &StoredCheckpoint) -> Result<(), CheckpointError> {
        let directory = &checkpoint.directory;
        // Without its description it is no checkpoint, whatever else is still there.
        let description = directory.join(DESCRIPTION);
        fs::remove_file(&description).map_err(CheckpointError::io("remove", description))?;
        fs::remove_dir_all(directory).map_err(CheckpointError::io("remove", directory))?;
        info!(key = %checkpoint.key, "checkpoint removed");
        Ok(())
    }

    /// Waits until no other process makes the checkpoint of that key. Released when dropped, also by a crash.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub async fn lock(&self, key: CheckpointKey) -> Result<FileLock, CheckpointError> {
        let path = self.lock_path(&key.short())?;
        let lock = FileLock::waited(&path, LOCK_MODE, || {}).await;
        lock.map_err(CheckpointError::io("lock", path))
    }

    /// The lock of the checkpoint whose key begins so, unless a process makes that one.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn try_lock(&self, short_key: &str) -> Result<Option<FileLock>, CheckpointError> {
        let path = self.lock_path(short_key)?;
        FileLock::try_exclusive(&path, LOCK_MODE).map_err(CheckpointError::io("lock", path))
    }

    fn lock_path(&self, short_key: &str) -> Result<PathBuf, CheckpointError> {
        self.make_root()?;
        Ok(self.root.join(format!(".{short_key}.lock")))
    }

    fn make_root(&self) -> Result<(), CheckpointError> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.root);
        made.map_err(CheckpointError::io("make", &self.root))
    }

    /// A directory of its own, even where there is a broken one: disks of devices may be backed by that.
    fn free_name(&self, key: CheckpointKey) -> PathBuf {
        let names = (0_u64..).map(|n| self.root.join(format!("{}.{n}", key.short())));
        let mut free = names.filter(|path| !path.exists());
        free.next().unwrap_or_default()
    }

    /// A directory in which a checkpoint is put together; removed when it is dropped.
    pub(super) fn begin(&self) -> Result<tempfile::TempDir, CheckpointError> {
        self.make_root()?;
        tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir_in(&self.root)
            .map_err(CheckpointError::io("make a directory in", &self.root))
    }

    /// Gives what was put together its name.
    pub(super) fn publish(
        &self,
        key: CheckpointKey,
        machine: Sha256Digest,
        name: &str,
        placement: Placement,
        begun: tempfile::TempDir,
    ) -> Result<StoredCheckpoint, CheckpointError> {
        let mut files = Vec::new();
        for name in [DISK, NVRAM, MEMORY] {
            let path = begun.path().join(name);
            if name == NVRAM && !path.exists() {
                continue;
            }
            write::sync(&path).map_err(CheckpointError::io("write out", &path))?;
            files.push(StoredFile::of(begun.path(), name)?);
        }
        let directory = self.free_name(key);
        let checkpoint = StoredCheckpoint {
            key,
            machine,
            name: name.to_owned(),
            placement,
            files,
            directory: directory.clone(),
        };
        let description = begun.path().join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(&checkpoint).map_err(|source| {
            CheckpointError::Description {
                path: description.clone(),
                source,
            }
        })?;
        write::replace(&description, &text, 0o644, Durability::State)
            .map_err(CheckpointError::io("write", &description))?;
        let begun = begun.keep();
        fs::rename(&begun, &directory).map_err(CheckpointError::io("rename", begun))?;
        write::sync(&self.root).map_err(CheckpointError::io("write out", &self.root))?;
        Ok(checkpoint)
    }
}

/// Whether a directory is called as a checkpoint is: the first digits of a key, a dot, a number.
fn is_named(directory: &Path) -> bool {
    let name = directory.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.split_once('.'))
        .is_some_and(|(key, number)| CheckpointKey::is_short(key) && number.parse::<u64>().is_ok())
}

fn open_in(
    directory: &Path,
    key: CheckpointKey,
) -> Result<Option<StoredCheckpoint>, CheckpointError> {
    // Another key may have the same first digits.
    let Some(checkpoint) = read(directory)?.filter(|checkpoint| checkpoint.key == key) else {
        return Ok(None);
    };
    checkpoint.claim()?;
    Ok(Some(checkpoint))
}

fn read(directory: &Path) -> Result<Option<StoredCheckpoint>, CheckpointError> {
    let path = directory.join(DESCRIPTION);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(CheckpointError::io("read", path)(error)),
    };
    match serde_json::from_slice::<StoredCheckpoint>(&text) {
        Ok(checkpoint) => Ok(Some(StoredCheckpoint {
            directory: directory.to_owned(),
            ..checkpoint
        })),
        Err(source) => Err(CheckpointError::Description { path, source }),
    }
}

#[cfg(test)]
mod tests;
