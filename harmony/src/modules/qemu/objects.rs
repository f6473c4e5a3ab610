//! Files named by their content: `objects/<first 2 digits>/<sha256>`.
//!
//! A file gets its name after it has been written out under another one, and is read-only from then on. Its
//! mode follows from its content (an ELF file or a script is executable), so that a hard link to it has the
//! right mode in every build.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use harmony_base::sparse::SparseWriter;
use harmony_base::write::{self, Draft, Durability};
use rustix::fs::OFlags;

use super::digest::{Content, ObjectDigest};
use super::error::{StoreError, io_error};

/// What the names of unfinished files and trees begin with.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// The objects of a store.
#[derive(Debug)]
pub(super) struct Objects {
    dir: PathBuf,
}

impl Objects {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the object is, when it is there.
    pub fn path(&self, digest: ObjectDigest) -> PathBuf {
        let hex = digest.to_string();
        self.dir.join(&hex[..2]).join(hex)
    }

    /// What is in the object's file, or none without such a file.
    pub fn content(&self, digest: ObjectDigest) -> Result<Option<Content>, StoreError> {
        let path = self.path(digest);
        match open_regular(&path).and_then(|file| Content::read(file, |_| Ok(()))) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("read", &path)(source)),
        }
    }

    /// Copies a file into the store. An object that is there and whole is kept; one that is corrupt is
    /// replaced.
    pub fn put(&self, source: &Path) -> Result<Content, StoreError> {
        let file = open_regular(source).map_err(io_error("open", source))?;
        let failed = || io_error("write an object in", &self.dir);
        let mut part = Draft::in_directory(&self.dir, UNFINISHED).map_err(failed())?;
        let content = copy_content(file, part.file()).map_err(io_error("copy", source))?;
        if self.content(content.digest)?.map(|found| found.digest) == Some(content.digest) {
            return Ok(content);
        }
        let path = self.path(content.digest);
        let parent = path.parent().unwrap_or(&self.dir);
        ensure_dir(parent)?;
        part.replace(&path, content.mode, Durability::State)
            .map_err(failed())?;
        Ok(content)
    }
}

/// Opens a regular file for reading: not through a symbolic link, and without waiting at a pipe.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}

/// Copies to an empty file; blocks of zeros become holes.
pub(super) fn copy_content(source: File, target: &File) -> io::Result<Content> {
    let mut writer = SparseWriter::new(target);
    let content = Content::read(source, |block| writer.write(block))?;
    writer.finish()?;
    Ok(content)
}

/// Makes a directory and its parents, as open as the process' umask has it.
pub(super) fn ensure_dir(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(io_error("make", dir))
}

/// Writes out the names in a directory.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    write::sync(dir).map_err(io_error("write out", dir))
}

/// Removes what a process that was killed has left in a directory. Only under the exclusive lock.
pub(super) fn sweep_unfinished(dir: &Path) -> Result<(), StoreError> {
    let failed = || io_error("read", dir);
    for entry in fs::read_dir(dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(UNFINISHED) {
            tracing::info!(path = %path.display(), "removing what an interrupted run left");
            remove_all(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, or a directory with everything in it. Nothing there is no error.
pub(super) fn remove_all(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(io_error("remove", path)),
    }
}
