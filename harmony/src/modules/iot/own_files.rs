//! Small files that only their owner reads, or only their owner writes, each there as a whole or not at all.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harmony_base::write::{self, Durability};

/// `content` takes the file's place, for good.
///
/// # Errors
/// It cannot be written; the file is as it was.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    write::replace(path, content, 0o600, Durability::State)
}

/// The same for a file that everybody may read.
///
/// # Errors
/// It cannot be written; the file is as it was.
pub(super) fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    write::replace(path, content, 0o644, Durability::State)
}

/// A file with the content that `make` gives, and whether it was made: one that is there stays as it is.
///
/// # Errors
/// Whatever `make` fails with, or it cannot be written; there is no file then.
pub(super) fn make_once(
    path: &Path,
    make: impl FnOnce() -> io::Result<String>,
) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    write::create(path, make()?.as_bytes(), 0o600)
}

/// The text of a file that nobody but its owner may read.
///
/// # Errors
/// It cannot be read, or others may.
pub(super) fn read_secret(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if let Some(mode) = mode_for_others(&file)? {
        let path = path.display();
        let why = format!("it has mode {mode:#o} (expected 0o600): chmod 600 '{path}'");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// A file's mode, where it lets others than its owner do anything.
///
/// # Errors
/// It cannot be told.
pub(super) fn mode_for_others(file: &File) -> io::Result<Option<u32>> {
    let mode = file.metadata()?.permissions().mode() & 0o777;
    Ok(Some(mode).filter(|mode| mode & 0o077 != 0))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::MetadataExt;

    use super::{make_once, publish, read_secret, replace};

    #[test]
    fn a_file_is_made_once_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        let failed = make_once(&path, || Err(io::Error::other("no key")));
        assert_eq!(failed.expect_err("nothing to write").to_string(), "no key");
        let names = || std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(names(), 0);
        assert!(make_once(&path, || Ok("1".to_owned())).expect("made"));
        assert!(!make_once(&path, || Ok("2".to_owned())).expect("there"));
        assert_eq!(std::fs::read(&path).expect("readable"), b"1");
        replace(&path, b"3").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("readable"), b"3");
        assert_eq!(read_secret(&path).expect("its owner's"), "3");
        let mode = || std::fs::metadata(&path).expect("there").mode() & 0o7777;
        assert_eq!((mode(), names()), (0o600, 1));
        publish(&path, b"4").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("readable"), b"4");
        assert_eq!((mode(), names()), (0o644, 1));
        let why = read_secret(&path).expect_err("everybody's").to_string();
        assert!(why.contains("0o644 (expected 0o600): chmod 600"), "{why}");
    }
}
