//! Files that are there as a whole or not at all: written under another name, and then given their own.
//!
//! The order is always the same: content, mode, the file onto the disk, its name, the name onto the disk. What may be
//! lost when the power goes is said by [`Durability`].

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// What a file withstands once it has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process. After a power cut the file may be empty, old or gone: it can be made again.
    Cache,
    /// A power cut as well: content and name are on the disk.
    State,
}

/// A file without its name. Only its owner can read it, and it is gone when it is dropped.
#[derive(Debug)]
pub struct Draft(NamedTempFile);

impl Draft {
    /// A draft in the directory of `target`. Its name begins with `prefix`, by which what a killed process left is known.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn beside(target: &Path, prefix: &str) -> io::Result<Self> {
        Self::in_directory(directory_of(target), prefix)
    }

    /// A draft in `directory`, which has to be on the file system of the name that it will get.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn in_directory(directory: &Path, prefix: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o600));
        builder.tempfile_in(directory).map(Self)
    }

    /// The open file.
    pub fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// Where it is, for programs that write it.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives it the name `target`, and `mode`; what has that name goes.
    ///
    /// # Errors
    /// When it cannot be; what had the name still has it.
    pub fn replace(self, target: &Path, mode: u32, durability: Durability) -> io::Result<()> {
        self.finish(mode, durability)?;
        self.0.persist(target)?;
        durability.name(target)
    }

    /// Gives it the name `target`, and `mode`, unless something has that name, which stays: then false.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn create(self, target: &Path, mode: u32, durability: Durability) -> io::Result<bool> {
        self.finish(mode, durability)?;
        match self.0.persist_noclobber(target) {
            Ok(_) => durability.name(target).map(|()| true),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.error),
        }
    }

    fn finish(&self, mode: u32, durability: Durability) -> io::Result<()> {
        let file = self.0.as_file();
        match durability {
            Durability::Cache => file.set_permissions(Permissions::from_mode(mode)),
            Durability::State => seal(file, mode),
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Durability {
    fn name(self, target: &Path) -> io::Result<()> {
        match self {
            Self::Cache => Ok(()),
            Self::State => sync_name(target),
        }
    }
}

/// What the names of drafts begin with for which nobody sweeps: [`replace`] makes small files.
pub const DRAFT: &str = ".harmony-draft-";

/// Makes `content` the file `path`, with `mode`.
///
/// # Errors
/// When it cannot be written; the file is as it was.
pub fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let mut draft = Draft::beside(path, DRAFT)?;
    draft.write_all(content)?;
    draft.replace(path, mode, durability)
}

/// Makes the file `path`, with `mode`, unless there is one, which stays: then false. It withstands a power cut.
///
/// # Errors
/// When it cannot be written; there is no file then.
pub fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let mut draft = Draft::beside(path, DRAFT)?;
    draft.write_all(content)?;
    draft.create(path, mode, Durability::State)
}

/// Gives a file that has its name already `mode`, and writes it out.
///
/// # Errors
/// When it cannot be.
pub fn seal(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Writes out the names in the directory of `path`: what was made, renamed or removed there stays so.
///
/// # Errors
/// When the directory cannot be written out.
pub fn sync_name(path: &Path) -> io::Result<()> {
    sync(directory_of(path))
}

/// Writes out a file, or the names in a directory.
///
/// # Errors
/// When it cannot be.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory that a file is in; of a name alone, the one that the process is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Write};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::{Draft, Durability, create, directory_of, replace};

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).expect("readable").count()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_gets_its_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        for (content, wanted, durability) in [
            ("1", 0o600, Durability::State),
            ("2", 0o644, Durability::Cache),
            // Exactly, whatever the umask.
            ("3", 0o666, Durability::State),
            ("4", 0o444, Durability::Cache),
        ] {
            replace(&path, content.as_bytes(), wanted, durability).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("readable"), content);
            assert_eq!((mode(&path), names(dir.path())), (wanted, 1));
        }
        let error = replace(dir.path(), b"5", 0o600, Durability::State);
        error.expect_err("a directory is not replaced by a file");
        assert_eq!(names(dir.path()), 1);
    }

    #[test]
    fn a_file_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        assert!(create(&path, b"1", 0o600).expect("made"));
        assert!(!create(&path, b"2", 0o644).expect("there"));
        assert_eq!(fs::read(&path).expect("readable"), b"1");
        assert_eq!((mode(&path), names(dir.path())), (0o600, 1));
        let error = create(&dir.path().join("none/a"), b"1", 0o600).expect_err("no directory");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_draft_is_private_and_known_by_its_name_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("a");
        let mut draft = Draft::beside(&target, ".seed-").expect("made");
        draft.write_all(b"half").expect("written");
        draft.file().set_len(2).expect("open");
        assert_eq!(fs::read(draft.path()).expect("its owner's"), b"ha");
        assert_eq!(mode(draft.path()), 0o600);
        let name = draft.path().file_name().expect("a name").to_owned();
        assert!(name.to_string_lossy().starts_with(".seed-"));
        assert!(!target.exists());
        drop(draft);
        assert_eq!(names(dir.path()), 0);
    }

    #[test]
    fn the_directory_of_a_name_alone_is_the_current_one() {
        let table = [("a", "."), ("a/b", "a"), ("/b", "/"), ("/a/b", "/a")];
        for (path, directory) in table {
            assert_eq!(directory_of(path.as_ref()), Path::new(directory));
        }
    }
}
