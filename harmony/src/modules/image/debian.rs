//! Builds images from a distribution's packages, for where no image host can be reached: a release as its
//! publisher's cloud image would be, or the image of a recipe.
//!
//! The stages: `mmdebstrap` makes the root file system as an archive, with programs of the host's architecture
//! for the time of the installation (module `native`), and runs a recipe's set-up script in it; it is unpacked
//! and finished; `grub-mkimage` of the image itself makes its boot loaders; the disk is laid out (module `disk`)
//! and filled by `mke2fs`; `qemu-img` compresses it. An ordinary user does what needs root in a user namespace
//! with his subordinate ids.
//!
//! The result is cached under a name that has the digest of its composition. It is built under a lock, in a
//! directory beside its place that is removed whatever happens; one that a killed build left is removed by
//! the next.

mod composition;
mod mmdebstrap;
mod native;
mod packages;
mod stages;
pub(crate) mod suite;
mod tree;

use std::path::{Path, PathBuf};

use harmony_base::process::Program;

use super::build::{BuildError, IMAGE, Product, build_once, revision_of};
use super::error::ImageError;
use super::recipe::BuildPlan;
use super::store::is_finished;
use super::tool::{HostProgram, tool};
use crate::domain::topology::virtualization::VmArchitecture;
use composition::Composition;
use stages::Build;
use suite::Suite;

pub use packages::FromPackages;

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

    /// How `mmdebstrap` calls it.
    fn mmdebstrap_mode(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "unshare",
        }
    }

    /// `program`, as root of the image's files.
    fn tool(self, program: &'static str) -> Program {
        match self {
            Self::Root => tool(program),
            Self::User => tool("unshare").args(["--map-root-user", "--map-auto", "--", program]),
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

/// The Debian 12 image in `images_dir`, when it was built already.
pub fn built_debian_12(architecture: VmArchitecture, images_dir: &Path) -> Option<PathBuf> {
    let composition = Composition::plain(Suite::DEBIAN_12, architecture);
    let path = images_dir.join(composition.file_name());
    is_finished(&path).then_some(path)
}

/// Returns Debian 12, as its publisher's cloud image would be, for `architecture` in `images_dir`, built when
/// it is missing: about a minute for the host's own architecture, 3 for another on x86_64.
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
) -> Result<PathBuf, BuildError> {
    let composition = Composition::plain(Suite::DEBIAN_12, architecture);
    let product = Product {
        made: IMAGE,
        name: composition.file_name(),
    };
    let path = images_dir.join(&product.name);
    build_once(images_dir, &[product], async |dir| {
        build(&composition, &[], dir).await
    })
    .await?;
    Ok(path)
}

/// What this builder puts into the image of a plan, as a number: another one whenever that changes.
fn revision(suite: Suite, plan: &BuildPlan) -> u32 {
    revision_of(&Composition::of_plan(suite, plan).digest())
}

/// Builds the image of a plan in the directory `dir`, and copies files out of it: from their path in the image
/// to their name in `dir`.
async fn build_plan(
    suite: Suite,
    plan: &BuildPlan,
    copied_out: &[(&str, &'static str)],
    dir: &Path,
) -> Result<(), BuildError> {
    build(&Composition::of_plan(suite, plan), copied_out, dir).await
}

async fn build(
    composition: &Composition,
    copied_out: &[(&str, &'static str)],
    dir: &Path,
) -> Result<(), BuildError> {
    check_host(composition.architecture)?;
    let privileges = Privileges::of_process();
    let build = Build {
        composition,
        privileges,
        copied_out,
        dir,
    };
    build.run().await
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Privileges, build_debian_12, built_debian_12, programs_for};
    use crate::modules::image::format::{DiskFormat, sniff_file};
    use crate::modules::image::test_images::architecture;

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

    #[tokio::test]
    #[ignore = "needs root or subordinate ids, mmdebstrap and a Debian mirror: builds an image, 1 to 5 min"]
    async fn an_image_is_built_once_and_nothing_else_is_left() {
        let temporary = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
        let (dir, architecture) = (temporary.path(), architecture());
        let path = build_debian_12(architecture, dir).await.expect("built");
        assert_eq!(sniff_file(&path).expect("an image"), DiskFormat::Qcow2);
        assert!(fs::metadata(&path).expect("there").len() < 512 * 1024 * 1024);
        assert_eq!(built_debian_12(architecture, dir), Some(path.clone()));
        let again = build_debian_12(architecture, dir).await.expect("cached");
        assert_eq!(again, path);
        let left: Vec<_> = fs::read_dir(dir)
            .expect("readable")
            .map(|entry| entry.expect("readable").path())
            .filter(|left| left.extension().is_none_or(|e| e != "lock" && e != "qcow2"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
