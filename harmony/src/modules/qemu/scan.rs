//! Finding the files of a build in a directory, without leaving it.

use std::collections::BTreeMap;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::error::{StoreError, invalid, io_error};
use super::manifest::MAX_FILES;
use super::path::{BuildPath, Section};

/// Every file of the build in `dir`, by its path there, with the file that its content is in: another one
/// where a symbolic link leads to it. Directories may be linked as well.
pub(super) fn scan(dir: &Path) -> Result<BTreeMap<BuildPath, PathBuf>, StoreError> {
    let not_a_directory = || StoreError::NotADirectory {
        path: dir.to_owned(),
    };
    let root = match fs::canonicalize(dir) {
        Ok(root) if root.is_dir() => root,
        Ok(_) => return Err(not_a_directory()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_a_directory()),
        Err(source) => return Err(io_error("find", dir)(source)),
    };
    let mut scan = Scan {
        files: BTreeMap::new(),
        around: vec![root.clone()],
        root,
    };
    for path in entries(&scan.root)? {
        let section = Section::ALL
            .into_iter()
            .find(|s| path.file_name() == Some(s.as_str().as_ref()));
        let entry = scan.look(&path)?;
        match (section, entry) {
            (Some(section), Entry::Directory(real)) => scan.enter(real, &path, section.as_str())?,
            _ => return Err(StoreError::ForeignPath { path }),
        }
    }
    Ok(scan.files)
}

struct Scan {
    root: PathBuf,
    /// The directories that the walk is in, each by its real path.
    around: Vec<PathBuf>,
    files: BTreeMap<BuildPath, PathBuf>,
}

/// What is behind a path, with its real place.
enum Entry {
    File(PathBuf),
    Directory(PathBuf),
}

impl Scan {
    fn walk(&mut self, dir: &Path, prefix: &str) -> Result<(), StoreError> {
        for path in entries(dir)? {
            let name = path.file_name().unwrap_or_default();
            let Some(name) = name.to_str() else {
                let value = path.to_string_lossy();
                return Err(invalid("path in a build", &value, "UTF-8"));
            };
            let inside = format!("{prefix}/{name}");
            match self.look(&path)? {
                Entry::Directory(real) => self.enter(real, &path, &inside)?,
                Entry::File(real) => {
                    self.files.insert(inside.parse()?, real);
                }
            }
            if self.files.len() > MAX_FILES {
                return Err(StoreError::TooManyFiles {
                    path: self.root.clone(),
                    bound: MAX_FILES,
                });
            }
        }
        Ok(())
    }

    /// Walks the directory that `path` is, or leads to.
    fn enter(&mut self, real: PathBuf, path: &Path, inside: &str) -> Result<(), StoreError> {
        if self.around.contains(&real) {
            return Err(StoreError::LinkLoop {
                path: path.to_owned(),
            });
        }
        // A file in it would have a path as long, at least: this ends the walk in time.
        format!("{inside}/x").parse::<BuildPath>()?;
        self.around.push(real.clone());
        self.walk(&real, inside)?;
        self.around.pop();
        Ok(())
    }

    fn look(&self, path: &Path) -> Result<Entry, StoreError> {
        let found = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
        if !found.is_symlink() {
            return entry(path, path.to_owned(), found.file_type());
        }
        let target = fs::read_link(path).map_err(io_error("read", path))?;
        match fs::canonicalize(path) {
            Ok(real) if real.starts_with(&self.root) => {
                let found = fs::symlink_metadata(&real).map_err(io_error("look at", &real))?;
                entry(path, real, found.file_type())
            }
            Ok(_) => Err(StoreError::LinkLeavesBuild {
                path: path.to_owned(),
                target,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::LinkLeavesBuild {
                    path: path.to_owned(),
                    target,
                })
            }
            Err(source) => Err(io_error("follow", path)(source)),
        }
    }
}

fn entry(path: &Path, real: PathBuf, found: FileType) -> Result<Entry, StoreError> {
    let kind = match found {
        found if found.is_file() => return Ok(Entry::File(real)),
        found if found.is_dir() => return Ok(Entry::Directory(real)),
        found if found.is_fifo() => "pipe",
        found if found.is_socket() => "socket",
        _ => "device",
    };
    Err(StoreError::SpecialFile {
        path: path.to_owned(),
        kind,
    })
}

/// The paths in a directory, sorted.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(io_error("read", dir));
    listed.map(|mut paths: Vec<PathBuf>| {
        paths.sort();
        paths
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::scan;
    use crate::modules::qemu::error::StoreError;
    use crate::modules::qemu::manifest::MAX_FILES;

    fn build() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        for section in ["bin", "lib/sub"] {
            fs::create_dir_all(dir.path().join(section)).expect("made");
        }
        fs::write(dir.path().join("bin/a"), "a").expect("written");
        fs::write(dir.path().join("lib/real.so.1.2"), "b").expect("written");
        dir
    }

    fn paths(dir: &Path) -> Vec<String> {
        let found = scan(dir).expect("a build");
        found.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn links_inside_become_what_they_lead_to() {
        let build = build();
        let dir = build.path();
        symlink("real.so.1.2", dir.join("lib/real.so.1")).expect("linked");
        symlink("../real.so.1", dir.join("lib/sub/x.so")).expect("linked");
        symlink(dir.join("lib"), dir.join("firmware")).expect("linked");
        let expected = [
            "bin/a",
            "firmware/real.so.1",
            "firmware/real.so.1.2",
            "firmware/sub/x.so",
            "lib/real.so.1",
            "lib/real.so.1.2",
            "lib/sub/x.so",
        ];
        assert_eq!(paths(dir), expected);
        let real = fs::canonicalize(dir.join("lib/real.so.1.2")).expect("there");
        let found = scan(dir).expect("a build");
        for (path, content) in found.iter().skip(1) {
            assert_eq!(*content, real, "{path}");
        }
    }

    #[test]
    fn what_leaves_the_directory_is_refused() {
        let outside = tempfile::NamedTempFile::new().expect("a file");
        let targets = [
            outside.path(),
            Path::new("../../x"),
            Path::new("/etc"),
            Path::new("nothing"),
        ];
        for goal in targets {
            let build = build();
            let link = build.path().join("lib/link");
            symlink(goal, &link).expect("linked");
            match scan(build.path()) {
                Err(StoreError::LinkLeavesBuild { path, target }) => {
                    assert_eq!(
                        (path.file_name(), target.as_path()),
                        (Some(OsStr::new("link")), goal)
                    );
                }
                other => panic!("{goal:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn loops_of_links_end() {
        for goal in ["..", ".", "../../lib/sub", "../.."] {
            let build = build();
            symlink(goal, build.path().join("lib/sub/again")).expect("linked");
            let error = scan(build.path()).expect_err(goal);
            assert!(
                matches!(error, StoreError::LinkLoop { .. }),
                "{goal}: {error:?}"
            );
        }
        let build = build();
        symlink("self", build.path().join("lib/self")).expect("linked");
        let error = scan(build.path()).expect_err("a link to itself");
        assert!(
            matches!(
                error,
                StoreError::Io {
                    action: "follow",
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn what_no_build_has_is_refused() {
        type Make = fn(&Path);
        type Expected = fn(&StoreError) -> bool;
        let table: [(&str, Make, Expected); 8] = [
            (
                "a foreign directory",
                |d| fs::create_dir(d.join("share")).expect("made"),
                |e| matches!(e, StoreError::ForeignPath { path } if path.ends_with("share")),
            ),
            (
                "a file beside",
                |d| fs::write(d.join("README"), "").expect("written"),
                |e| matches!(e, StoreError::ForeignPath { path } if path.ends_with("README")),
            ),
            (
                "a file in place of a directory",
                |d| fs::write(d.join("firmware"), "").expect("written"),
                |e| matches!(e, StoreError::ForeignPath { .. }),
            ),
            (
                "a socket",
                |d| drop(UnixListener::bind(d.join("bin/s")).expect("bound")),
                |e| matches!(e, StoreError::SpecialFile { kind: "socket", .. }),
            ),
            (
                "a device",
                |d| {
                    symlink("/dev/null", d.join("bin/null")).expect("linked");
                },
                |e| matches!(e, StoreError::LinkLeavesBuild { .. }),
            ),
            (
                "a name that is no text",
                |d| {
                    fs::write(d.join("bin").join(OsStr::from_bytes(b"\xff")), "").expect("written");
                },
                |e| {
                    matches!(
                        e,
                        StoreError::Invalid {
                            expected: "UTF-8",
                            ..
                        }
                    )
                },
            ),
            (
                "a wrapper's name",
                |d| fs::write(d.join("bin/a.harmony"), "").expect("written"),
                |e| {
                    matches!(
                        e,
                        StoreError::Invalid {
                            what: "path in a build",
                            ..
                        }
                    )
                },
            ),
            (
                "too deep",
                |d| {
                    fs::create_dir_all(d.join("lib").join("d/".repeat(260))).expect("made");
                },
                |e| {
                    matches!(
                        e,
                        StoreError::Invalid {
                            expected: "at most 512 bytes",
                            ..
                        }
                    )
                },
            ),
        ];
        for (what, make, expected) in table {
            let build = build();
            make(build.path());
            let error = scan(build.path()).expect_err(what);
            assert!(expected(&error), "{what}: {error:?}");
        }
        for path in ["/nonexistent", "/etc/passwd"] {
            let error = scan(Path::new(path)).expect_err(path);
            assert!(
                matches!(error, StoreError::NotADirectory { .. }),
                "{error:?}"
            );
        }
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let build = build();
        for number in 0..MAX_FILES {
            let path = build.path().join(format!("lib/{number}"));
            symlink("real.so.1.2", path).expect("linked");
        }
        let error = scan(build.path()).expect_err("too many");
        assert!(
            matches!(
                error,
                StoreError::TooManyFiles {
                    bound: MAX_FILES,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}
