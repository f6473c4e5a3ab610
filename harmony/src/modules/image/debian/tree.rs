//! Changes to the unpacked root file system that need no program.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::composition::{Composition, TreeFile, TreeLink};
use crate::modules::image::error::ImageError;
use crate::modules::image::store::io_error;

/// Writes what the composition puts in its place at last, below `root`, and removes what it names.
///
/// Symbolic links in the tree point into the guest's file system and not into the host's, so none is ever
/// followed.
pub(super) fn finish(root: &Path, composition: &Composition) -> Result<(), ImageError> {
    for file in &composition.late_files {
        write_file(root, file)?;
    }
    for link in &composition.late_links {
        write_link(root, link)?;
    }
    for (directory, prefix) in &composition.removed {
        remove_files(root, directory, prefix)?;
    }
    Ok(())
}

fn write_file(root: &Path, file: &TreeFile) -> Result<(), ImageError> {
    let path = vacant(root, file.path)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut open| {
            open.write_all(file.content.as_bytes())?;
            open.set_permissions(Permissions::from_mode(file.mode))
        })
        .map_err(|source| io_error("write", &path, source))
}

fn write_link(root: &Path, link: &TreeLink) -> Result<(), ImageError> {
    let path = vacant(root, link.path)?;
    symlink(link.target, &path).map_err(|source| io_error("link", &path, source))
}

/// The place of `path` below `root`, with its directories made and nothing there.
fn vacant(root: &Path, path: &str) -> Result<PathBuf, ImageError> {
    let path = Path::new(path);
    let parent = path.parent().unwrap_or(Path::new(""));
    let place = real_directory(root, parent)?.join(path.file_name().unwrap_or_default());
    match fs::remove_file(&place) {
        Ok(()) => Ok(place),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(place),
        Err(source) => Err(io_error("replace", &place, source)),
    }
}

/// The directory `path` below `root`, made when it is missing.
fn real_directory(root: &Path, path: &Path) -> Result<PathBuf, ImageError> {
    let mut place = root.to_owned();
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Err(io_error("use", path, io::ErrorKind::InvalidInput.into()));
        };
        place.push(name);
        match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(io_error("use", &place, io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&place)
                .and_then(|()| fs::set_permissions(&place, Permissions::from_mode(0o755)))
                .map_err(|source| io_error("create", &place, source))?,
            Err(source) => return Err(io_error("use", &place, source)),
        }
    }
    Ok(place)
}

fn remove_files(root: &Path, directory: &str, prefix: &str) -> Result<(), ImageError> {
    let directory = real_directory(root, Path::new(directory))?;
    let failed = |source| io_error("clean", &directory, source);
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_bytes())
        {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::{finish, write_file};
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::debian::composition::{Composition, TreeFile};
    use crate::modules::image::debian::suite::Suite;
    use crate::modules::image::error::ImageError;

    #[test]
    fn the_tree_is_as_the_composition_says_whatever_was_there() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let host = tempfile::tempdir().expect("a temporary directory");
        let precious = host.path().join("precious");
        fs::write(&precious, "the host's").expect("writable");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/ssh")).expect("made");
        fs::write(at("etc/ssh/ssh_host_rsa_key"), "shared by all guests").expect("writable");
        fs::write(at("etc/ssh/sshd_config"), "kept").expect("writable");
        fs::write(at("etc/machine-id"), "0123").expect("writable");
        symlink(&precious, at("etc/hostname")).expect("linked");

        let composition = Composition::plain(Suite::DEBIAN_12, VmArchitecture::Aarch64);
        finish(root.path(), &composition).expect("finished");
        finish(root.path(), &composition).expect("and again");

        let read = |path: &str| fs::read_to_string(at(path)).expect(path);
        assert_eq!(read("etc/machine-id"), "");
        assert_eq!(read("etc/hostname"), "localhost\n");
        assert_eq!(fs::read_to_string(&precious).expect("there"), "the host's");
        let mode = fs::metadata(at("etc/hosts"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
        let left: Vec<_> = fs::read_dir(at("etc/ssh")).expect("there").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(
            fs::read_link(at("etc/resolv.conf")).expect("a link"),
            std::path::Path::new("../run/systemd/resolve/stub-resolv.conf")
        );
    }

    #[test]
    fn a_directory_that_is_a_link_is_refused() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let host = tempfile::tempdir().expect("a temporary directory");
        symlink(host.path(), root.path().join("etc")).expect("linked");
        let file = TreeFile {
            path: "etc/passwd",
            mode: 0o644,
            content: String::new(),
        };
        assert!(matches!(
            write_file(root.path(), &file),
            Err(ImageError::Io { action: "use", .. })
        ));
        assert_eq!(fs::read_dir(host.path()).expect("there").count(), 0);
    }
}
