//! Which file a name stands for, and whether it has changed since it was looked at.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Which file it is, by whatever name, for as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of the file that `path` leads to.
    ///
    /// # Errors
    /// When there is none, or it cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|found| Self::from(&found))
    }

    /// Of an open file, which may have no name any more.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of_open(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::from(&found))
    }
}

impl From<&Metadata> for FileId {
    fn from(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// What changes when a file is changed or replaced. No program can set a change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// The file system.
    pub device: u64,
    /// The file's number there.
    pub inode: u64,
    /// The file's length.
    pub bytes: u64,
    /// When anything of it changed, in seconds since 1970.
    pub changed_seconds: i64,
    /// And nanoseconds.
    pub changed_nanoseconds: i64,
}

impl FileIdentity {
    /// Of the file that `path` leads to.
    ///
    /// # Errors
    /// When there is none, or it cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed_seconds: found.ctime(),
            changed_nanoseconds: found.ctime_nsec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{FileId, FileIdentity};

    #[test]
    fn two_names_of_one_file_are_one_file_and_its_copy_is_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let [file, link, copy] = ["file", "link", "copy"].map(|name| dir.path().join(name));
        fs::write(&file, "x").expect("written");
        fs::hard_link(&file, &link).expect("linked");
        fs::copy(&file, &copy).expect("copied");
        let id = |path| FileId::of(path).expect("there");
        assert_eq!(id(&file), id(&link));
        assert_ne!(id(&file), id(&copy));

        let opened = File::open(&file).expect("there");
        fs::rename(&copy, &file).expect("replaced");
        let open = FileId::of_open(&opened).expect("open");
        assert_eq!(open, id(&link));
        assert_ne!(open, id(&file));
        assert!(FileId::of(&copy).is_err());
    }

    #[test]
    fn a_change_shows_even_where_length_and_modification_time_are_put_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "one").expect("written");
        let before = FileIdentity::of(&file).expect("there");
        assert_eq!(before, FileIdentity::of(&file).expect("there"));
        let modified = fs::metadata(&file).and_then(|found| found.modified());
        // The kernel's clock for files is as coarse as 10 ms.
        std::thread::sleep(std::time::Duration::from_millis(30));
        fs::write(&file, "two").expect("written");
        let options = File::options().write(true).open(&file).expect("there");
        options
            .set_modified(modified.expect("known"))
            .expect("put back");
        let after = FileIdentity::of(&file).expect("there");
        assert_eq!(
            (before.bytes, before.inode, before.device),
            (after.bytes, after.inode, after.device)
        );
        assert_ne!(before, after);
    }
}
