//! Builds a Debian 12 image from the distribution's packages, for where no image host can be reached.
//!
//! The stages: `mmdebstrap` makes the root file system as an archive; it is unpacked and configured;
//! `grub-mkimage` of the image itself makes its boot loaders; the disk is laid out
//! (module `disk`) and filled by `mke2fs`; `qemu-img` compresses it. An ordinary user does what
//! needs root in a user namespace with his subordinate ids.
//!
//! The result is cached under a name that has the digest of its recipe. It is built under a lock, in a
//! directory beside its place that is removed whatever happens; one that a killed build left is removed by
//! the next.

mod mmdebstrap;
mod recipe;
mod stages;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::error::ImageError;
use super::store::{StoreLock, ensure_dir, ensure_space, io_error, is_finished, publish};
use super::tool::{HostProgram, Tool};
use crate::domain::topology::virtualization::VmArchitecture;
use recipe::Recipe;
use stages::Build;

/// What a build needs beside its result: the archive, the tree, the disk.
const SPACE: u64 = 4 * 1024 * 1024 * 1024;

/// How the files of the image get their owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privileges {
    /// Directly.
    Root,
    /// In a user namespace.
    User,
}

impl Privileges {
    fn of_process() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::Root
        } else {
            Self::User
        }
    }

    /// `program`, as root of the image's files.
    fn tool(self, program: &'static str) -> Tool {
        match self {
            Self::Root => Tool::new(program),
            Self::User => {
                Tool::new("unshare").args(["--map-root-user", "--map-auto", "--", program])
            }
        }
    }
}

/// The programs that building needs on this host, for this process' user.
pub fn required_programs() -> Vec<HostProgram> {
    programs_for(Privileges::of_process())
}

fn programs_for(privileges: Privileges) -> Vec<HostProgram> {
    let all = [
        ("mmdebstrap", "mmdebstrap", false),
        ("tar", "tar", false),
        ("chroot", "coreutils", false),
        ("mke2fs", "e2fsprogs", false),
        ("qemu-img", "qemu-utils", false),
        ("unshare", "util-linux", true),
        ("newuidmap", "uidmap", true),
    ];
    all.into_iter()
        .filter(|(_, _, user)| privileges == Privileges::User || !user)
        .map(|(program, debian_package, _)| HostProgram {
            program,
            debian_package,
        })
        .collect()
}

/// Checks that this host can build an image for `architecture`.
///
/// # Errors
/// [`ImageError::MissingPrograms`] with all of them; [`ImageError::ForeignExecution`] when another
/// architecture's programs do not run here.
pub fn check_host(architecture: VmArchitecture) -> Result<(), ImageError> {
    let mut programs = required_programs();
    programs.retain(|program| !program.is_installed());
    if !programs.is_empty() {
        return Err(ImageError::MissingPrograms { programs });
    }
    let handler = Path::new("/proc/sys/fs/binfmt_misc").join(format!("qemu-{architecture}"));
    if VmArchitecture::of_host() != Some(architecture) && !handler.exists() {
        return Err(ImageError::ForeignExecution {
            architecture,
            handler,
        });
    }
    Ok(())
}

/// The image of the current recipe in `images_dir`, when it was built already.
pub fn built_debian_12(architecture: VmArchitecture, images_dir: &Path) -> Option<PathBuf> {
    let path = images_dir.join(Recipe::debian_12(architecture).file_name());
    is_finished(&path).then_some(path)
}

/// Returns the Debian 12 image for `architecture` in `images_dir`, built when it is missing: 1 to 3 minutes
/// for the host's own architecture, about 10 for another.
///
/// # Guarantees
/// A failure, and giving up the future, leaves nothing but a lock file. Many callers build once.
///
/// # Errors
/// As [`check_host`]; [`ImageError::NoSpace`]; [`ImageError::Tool`] with the failed program's last words;
/// others for the file system and the boot loader.
pub async fn build_debian_12(
    architecture: VmArchitecture,
    images_dir: &Path,
) -> Result<PathBuf, ImageError> {
    if let Some(path) = built_debian_12(architecture, images_dir) {
        return Ok(path);
    }
    check_host(architecture)?;
    ensure_dir(images_dir)?;
    let recipe = Recipe::debian_12(architecture);
    let name = recipe.file_name();
    let _lock = StoreLock::acquire(images_dir, &name).await?;
    if let Some(path) = built_debian_12(architecture, images_dir) {
        return Ok(path);
    }
    ensure_space(images_dir, SPACE)?;
    let started = Instant::now();
    tracing::info!(%architecture, dir = %images_dir.display(), "building the Debian 12 image, once");
    let privileges = Privileges::of_process();
    let dir = BuildDir::create(images_dir.join(format!(".{name}.build")), privileges)?;
    let image = Build {
        recipe: &recipe,
        privileges,
        dir: &dir.path,
    }
    .run()
    .await?;
    let path = images_dir.join(name);
    publish(&image, &path)?;
    tracing::info!(path = %path.display(), seconds = started.elapsed().as_secs(), "image built");
    Ok(path)
}

/// The directory of one build, removed when dropped.
#[derive(Debug)]
struct BuildDir {
    path: PathBuf,
    privileges: Privileges,
}

impl BuildDir {
    fn create(path: PathBuf, privileges: Privileges) -> Result<Self, ImageError> {
        let dir = Self { path, privileges };
        dir.remove()?;
        fs::create_dir(&dir.path).map_err(|source| io_error("create", &dir.path, source))?;
        Ok(dir)
    }

    fn remove(&self) -> Result<(), ImageError> {
        let failed = |source| io_error("remove", &self.path, source);
        match fs::remove_dir_all(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            // Directories of the image's own users: only the namespace's root may empty them.
            Err(_) if self.privileges == Privileges::User => {
                let status = std::process::Command::new("unshare")
                    .args(["--map-root-user", "--map-auto", "--", "rm", "-rf", "--"])
                    .arg(&self.path)
                    .stdin(std::process::Stdio::null())
                    .status()
                    .map_err(failed)?;
                if status.success() {
                    return Ok(());
                }
                Err(failed(std::io::Error::other(status.to_string())))
            }
            Err(source) => Err(failed(source)),
        }
    }
}

impl Drop for BuildDir {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the build directory");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{BuildDir, Privileges, SPACE, build_debian_12, built_debian_12, programs_for};
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::format::{DiskFormat, sniff_file};

    #[test]
    fn an_ordinary_user_needs_the_namespace_programs_too() {
        let names = |privileges| -> Vec<_> {
            let programs = programs_for(privileges);
            programs.into_iter().map(|p| p.program).collect()
        };
        let root = ["mmdebstrap", "tar", "chroot", "mke2fs", "qemu-img"];
        assert_eq!(names(Privileges::Root), root);
        assert_eq!(
            names(Privileges::User),
            [root.as_slice(), &["unshare", "newuidmap"]].concat()
        );
    }

    #[test]
    fn a_build_directory_replaces_a_killed_builds_and_goes_with_its_build() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join(".x.build");
        fs::create_dir_all(path.join("tree/etc")).expect("made");
        let dir = BuildDir::create(path.clone(), Privileges::Root).expect("made");
        assert_eq!(fs::read_dir(&path).expect("there").count(), 0);
        drop(dir);
        assert!(!path.exists());
    }

    /// The directory and the architecture come from `HARMONY_TEST_IMAGES_DIR` and
    /// `HARMONY_TEST_ARCHITECTURE`; by default a temporary directory and the host's own.
    #[tokio::test]
    #[ignore = "needs root or subordinate ids, mmdebstrap and a Debian mirror: builds an image, 1 to 10 min"]
    async fn an_image_is_built_once_and_nothing_else_is_left() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = std::env::var_os("HARMONY_TEST_IMAGES_DIR")
            .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
        let architecture = std::env::var("HARMONY_TEST_ARCHITECTURE").map_or_else(
            |_| VmArchitecture::of_host().expect("a known host"),
            |name| name.parse().expect("an architecture"),
        );
        let path = build_debian_12(architecture, &dir).await.expect("built");
        assert_eq!(sniff_file(&path).expect("an image"), DiskFormat::Qcow2);
        assert!(fs::metadata(&path).expect("there").len() < SPACE / 8);
        assert_eq!(built_debian_12(architecture, &dir), Some(path.clone()));
        let again = build_debian_12(architecture, &dir).await.expect("cached");
        assert_eq!(again, path);
        let left: Vec<_> = fs::read_dir(&dir)
            .expect("readable")
            .map(|entry| entry.expect("readable").path())
            .filter(|left| left.extension().is_none_or(|e| e != "lock" && e != "qcow2"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
