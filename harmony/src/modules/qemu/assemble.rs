//! Putting a build together: a tree of hard links to objects.
//!
//! The tree is made under another name, and renamed when it is whole. A tree that is there is compared with
//! its manifest, file by file and to the last byte; a damaged one is made anew. The caller holds the store's
//! lock: a shared one for [`check_tree`], the exclusive one for [`Assembly::build`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use harmony_base::write::seal;
use rustix::io::Errno;

use super::digest::{Content, ObjectDigest};
use super::error::{StoreError, io_error};
use super::manifest::Manifest;
use super::objects::{Objects, UNFINISHED, copy_content, open_regular, remove_all, sync_dir};
use super::path::{BuildPath, Section};

#[cfg(test)]
mod tests;

/// The mode of directories: QEMU may run as another user than the store's.
const DIRECTORY: u32 = 0o755;

/// A file that no object has: generated for this tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generated {
    /// Relative to the tree.
    pub path: String,
    pub content: Vec<u8>,
}

/// Why an assembled tree cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TreeDamage {
    #[error("it is not there")]
    Absent,
    #[error("{path} is missing")]
    Missing { path: String },
    #[error("{path} does not belong to it")]
    Extra { path: String },
    #[error("{path} has changed")]
    Changed { path: String },
    #[error("{path} has mode {mode:o}")]
    Mode { path: String, mode: u32 },
    #[error("{path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
}

/// How a file is given a second name; tests give another one.
pub(super) type Link = fn(&Path, &Path) -> io::Result<()>;

/// What is needed to build a tree.
pub(super) struct Assembly<'a> {
    pub objects: &'a Objects,
    pub manifest: &'a Manifest,
    pub generated: &'a Generated,
    pub link: Link,
}

/// Compares a tree with what it must be.
pub(super) fn check_tree(
    tree: &Path,
    manifest: &Manifest,
    generated: &Generated,
) -> Result<(), TreeDamage> {
    if !fs::symlink_metadata(tree).is_ok_and(|found| found.is_dir()) {
        return Err(TreeDamage::Absent);
    }
    let mut expected: BTreeMap<&str, ObjectDigest> = manifest
        .objects
        .iter()
        .map(|(path, digest)| (path.as_str(), *digest))
        .collect();
    let own = ObjectDigest::of(&generated.content);
    expected.insert(&generated.path, own);
    let found = files_of(tree)?;
    if let Some(path) = found.iter().find(|p| !expected.contains_key(p.as_str())) {
        return Err(TreeDamage::Extra { path: path.clone() });
    }
    for (path, digest) in expected {
        let path = path.to_owned();
        if !found.contains(&path) {
            return Err(TreeDamage::Missing { path });
        }
        check_file(&tree.join(&path), path, digest)?;
    }
    Ok(())
}

fn check_file(file: &Path, path: String, digest: ObjectDigest) -> Result<(), TreeDamage> {
    let read = || -> io::Result<(u32, Content)> {
        let file = open_regular(file)?;
        let mode = file.metadata()?.permissions().mode() & 0o7777;
        Ok((mode, Content::read(file, |_| Ok(()))?))
    };
    match read() {
        Ok((_, content)) if content.digest != digest => Err(TreeDamage::Changed { path }),
        Ok((mode, content)) if content.mode != mode => Err(TreeDamage::Mode { path, mode }),
        Ok(_) => Ok(()),
        Err(error) => Err(TreeDamage::Unreadable {
            path,
            reason: error.to_string(),
        }),
    }
}

/// Everything in a tree that is not a directory, by its path in it.
fn files_of(tree: &Path) -> Result<BTreeSet<String>, TreeDamage> {
    let mut files = BTreeSet::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        let unreadable = |error: io::Error| TreeDamage::Unreadable {
            path: dir.display().to_string(),
            reason: error.to_string(),
        };
        for entry in fs::read_dir(tree.join(&dir)).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = dir.join(entry.file_name());
            match entry.file_type().map_err(unreadable)?.is_dir() {
                true => pending.push(path),
                // A name that is no UTF-8 becomes one that no manifest has.
                false => drop(files.insert(path.to_string_lossy().into_owned())),
            }
        }
    }
    Ok(files)
}

impl Assembly<'_> {
    /// Verifies every object, then makes the tree and puts it in place of whatever is there.
    pub fn build(&self, tree: &Path) -> Result<(), StoreError> {
        for (digest, content) in self.verify()? {
            ensure_mode(&self.objects.path(digest), content.mode)?;
        }
        let dir = tree.parent().unwrap_or(tree);
        let new = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(dir)
            .map_err(io_error("make a directory in", dir))?;
        for directory in self.directories() {
            make_dir(&new.path().join(directory))?;
        }
        for (path, digest) in &self.manifest.objects {
            let object = self.objects.path(*digest);
            self.place(&object, &new.path().join(path.as_str()))?;
        }
        self.generate(new.path())?;
        for directory in self.directories() {
            sync_dir(&new.path().join(directory))?;
        }
        make_dir(new.path())?;
        replace(&new.keep(), tree)?;
        sync_dir(dir)
    }

    /// Reads every object, compares it with its name, and their sizes with the manifest.
    pub fn verify(&self) -> Result<BTreeMap<ObjectDigest, Content>, StoreError> {
        let mut known = BTreeMap::new();
        let mut total = 0_u64;
        for (path, digest) in &self.manifest.objects {
            let content = match known.get(digest) {
                Some(content) => *content,
                None => self.verified(path, *digest)?,
            };
            known.insert(*digest, content);
            total = total.saturating_add(content.size);
        }
        match total == self.manifest.total_bytes {
            true => Ok(known),
            false => Err(StoreError::WrongTotal {
                name: self.manifest.name.clone(),
                stated: self.manifest.total_bytes,
                found: total,
            }),
        }
    }

    fn verified(&self, path: &BuildPath, object: ObjectDigest) -> Result<Content, StoreError> {
        let (path, build) = (path.clone(), self.manifest.name.clone());
        match self.objects.content(object)? {
            Some(content) if content.digest == object => Ok(content),
            Some(Content { digest: found, .. }) => Err(StoreError::CorruptObject {
                object,
                path,
                build,
                found,
            }),
            None => Err(StoreError::MissingObject {
                object,
                path,
                build,
            }),
        }
    }

    /// The directories of the tree, each after the one around it. Every build has all three sections.
    fn directories(&self) -> BTreeSet<&str> {
        let of_files = self.manifest.objects.keys().flat_map(|p| p.parents());
        let sections = Section::ALL.iter().map(|section| section.as_str());
        sections.chain(of_files).collect()
    }

    /// Links an object into the tree, or copies it where no link can be: to another file system, where an
    /// object has as many names as it can have, or where the file system has no links.
    fn place(&self, object: &Path, target: &Path) -> Result<(), StoreError> {
        match (self.link)(object, target) {
            Ok(()) => Ok(()),
            Err(error) if needs_copy(&error) => {
                tracing::debug!(object = %object.display(), %error, "copied, not linked");
                copy_object(object, target).map_err(io_error("copy to", target))
            }
            Err(source) => Err(io_error("link to", target)(source)),
        }
    }

    fn generate(&self, tree: &Path) -> Result<(), StoreError> {
        let path = tree.join(&self.generated.path);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&self.generated.content)?;
            seal(&file, 0o555)
        };
        write().map_err(io_error("write", &path))
    }
}

fn needs_copy(error: &io::Error) -> bool {
    let known = [Errno::XDEV, Errno::MLINK, Errno::PERM, Errno::OPNOTSUPP];
    known
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn copy_object(object: &Path, target: &Path) -> io::Result<()> {
    let source = open_regular(object)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)?;
    let content = copy_content(source, &file)?;
    seal(&file, content.mode)
}

fn ensure_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    let found = fs::metadata(path).map_err(io_error("look at", path))?;
    if found.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(io_error("set the mode of", path))
}

/// Makes a directory, or only sets its mode.
fn make_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
    .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(DIRECTORY)))
    .map_err(io_error("make", dir))
}

/// Puts `new` in the place of `tree`. What was there gets out of the way first: a name that the next holder
/// of the lock sweeps, should this process end here.
fn replace(new: &Path, tree: &Path) -> Result<(), StoreError> {
    let mut old = new.as_os_str().to_owned();
    old.push("-old");
    let old = PathBuf::from(old);
    match fs::rename(tree, &old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.map_err(io_error("rename", tree))?,
    }
    fs::rename(new, tree).map_err(io_error("rename to", tree))?;
    remove_all(&old)
}
