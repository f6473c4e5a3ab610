//! Files that a power cut leaves as they were, or whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A new file in place of a left-over, which may have another mode, or be a link.
///
/// # Errors
///
/// It cannot be made.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    options.write(true).create_new(true).mode(mode).open(path)
}

/// `content` takes the place of the file `name` in `dir`, as a whole and for good, for the agent alone. Until it is
/// complete it is in `unfinished` beside it.
///
/// # Errors
///
/// The directory cannot be written to; the file is as it was.
pub fn replace(dir: &Path, name: &str, unfinished: &str, content: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(unfinished);
    let mut file = create(&unfinished, 0o600)?;
    file.write_all(content)?;
    file.sync_all()?;
    place(&unfinished, &dir.join(name))
}

/// A complete file takes its place in the same directory, for good.
///
/// # Errors
///
/// The directory cannot be written to; what was in that place still is.
pub fn place(complete: &Path, path: &Path) -> io::Result<()> {
    fs::rename(complete, path)?;
    sync_directory_of(path)
}

/// What was done to the entry of `path` in its directory is done for good.
///
/// # Errors
///
/// The directory cannot be read.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
