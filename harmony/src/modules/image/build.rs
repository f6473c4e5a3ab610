//! Images built from a recipe's plan: what every builder has in common, and the trait before them.
//!
//! ```text
//! BuildPlan --+-- FromPackages   mmdebstrap, the script in the chroot          Debian and Ubuntu
//!             +-- InGuest        boots the base, the script through the seed   any cloud image
//!                    |
//!                    v
//! images_dir/device-ARCH-DIGEST.qcow2 [.vmlinuz .initrd]     read-only, whole, built once
//! ```
//! `FromPackages` is in `debian`. `InGuest` is made of virtual machines and so above this part of the library.
//!
//! The name is the digest of the plan, of the builder, and of what the builder itself puts into an image. An
//! image that is there is never built again; a build that fails leaves nothing.

mod error;
mod once;
mod progress;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::digest::Sha256Digest;
use super::error::ImageError;
use super::fetch::fetch;
use super::recipe::{BootFile, BuildPlan};
use super::store::is_finished;
use crate::domain::topology::virtualization::KernelBoot;

pub use super::recipe::BuilderKind;
pub use error::BuildError;
pub(crate) use once::{Product, build_once};
#[cfg(feature = "kvm")]
pub(crate) use progress::Line;
pub(crate) use progress::Progress;

/// What the kernel and its initial file system are called in a build's directory.
const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd";
/// What the compressed image is called there.
pub(crate) const IMAGE: &str = "image.qcow2";

/// An image that was built from a plan, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The image: qcow2, compressed, without a backing file. It is never written to.
    pub path: PathBuf,
    /// The kernel to boot it with, when the recipe has one.
    pub kernel: Option<KernelBoot>,
    /// How it was built.
    pub builder: BuilderKind,
    /// Whether this call built it.
    pub built_now: bool,
}

impl BuiltImage {
    /// Whether all its files are there and whole.
    pub fn is_finished(&self) -> bool {
        let kernel = self.kernel.iter();
        let kernel = kernel.flat_map(|kernel| [Some(&kernel.image), kernel.initrd.as_ref()]);
        kernel.flatten().all(|path| is_finished(path)) && is_finished(&self.path)
    }
}

/// The beginning of a digest as a number.
pub(crate) fn revision_of(digest: &Sha256Digest) -> u32 {
    // Eight hexadecimal digits fill it.
    u32::from_str_radix(&digest.to_string()[..8], 16).unwrap_or_default()
}

/// A way to build an image from a plan.
#[async_trait(?Send)]
pub trait ImageBuilder: Send + Sync {
    /// Which one it is.
    fn kind(&self) -> BuilderKind;

    /// Where the image of `plan` is in `store_dir` when this builder has built it. Touches nothing.
    ///
    /// # Errors
    /// [`BuildError::UnsupportedBase`] when it cannot build it.
    fn planned(&self, plan: &BuildPlan, store_dir: &Path) -> Result<BuiltImage, BuildError>;

    /// The image of `plan`, when it is in `store_dir` already. Reads a few directory entries and does nothing
    /// else.
    fn built(&self, plan: &BuildPlan, store_dir: &Path) -> Option<BuiltImage> {
        let image = self.planned(plan, store_dir).ok()?;
        image.is_finished().then_some(image)
    }

    /// Returns the image of `plan` in `store_dir`, built when it is not there.
    ///
    /// # Guarantees
    /// A failure, and giving up the future, leaves neither an image nor anything that was made for it. Many
    /// callers build once.
    ///
    /// # Errors
    /// [`BuildError::StepFailed`] when a step of the plan's script fails, with what it said; what the builder
    /// itself needs and lacks.
    async fn build(&self, plan: &BuildPlan, store_dir: &Path) -> Result<BuiltImage, BuildError>;
}

/// The files of one plan's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Products {
    /// The name that they share.
    pub(crate) stem: String,
    builder: BuilderKind,
}

impl Products {
    pub(crate) fn new(plan: &BuildPlan, builder: BuilderKind, revision: u32) -> Self {
        Self {
            stem: plan.image_name(builder, revision),
            builder,
        }
    }

    fn name(&self, extension: &str) -> String {
        format!("{}.{extension}", self.stem)
    }

    /// What has to be made, the image last.
    pub(crate) fn to_make(&self, plan: &BuildPlan) -> Vec<Product> {
        let beside = copied_out(plan).into_iter().map(|(_, made)| Product {
            made,
            name: self.name(made),
        });
        let image = Product {
            made: IMAGE,
            name: self.name("qcow2"),
        };
        beside.chain([image]).collect()
    }

    /// All of them, as they are when they are in `store_dir`.
    pub(crate) fn image(&self, plan: &BuildPlan, store_dir: &Path, built_now: bool) -> BuiltImage {
        let place = |file: &BootFile, extension: &str| match file {
            BootFile::InImage(_) => store_dir.join(self.name(extension)),
            BootFile::Url(pin) => store_dir.join(pin.file_name()),
        };
        BuiltImage {
            path: store_dir.join(self.name("qcow2")),
            kernel: plan.kernel.as_ref().map(|kernel| KernelBoot {
                image: place(&kernel.kernel, KERNEL),
                initrd: kernel.initrd.as_ref().map(|file| place(file, INITRD)),
                arguments: kernel.arguments.clone(),
            }),
            builder: self.builder,
            built_now,
        }
    }
}

/// The files that the plan wants out of the image: their path in it, and their name when they are made.
pub(crate) fn copied_out(plan: &BuildPlan) -> Vec<(&str, &'static str)> {
    let Some(kernel) = &plan.kernel else {
        return Vec::new();
    };
    let files = [
        (Some(&kernel.kernel), KERNEL),
        (kernel.initrd.as_ref(), INITRD),
    ];
    let in_image = files.into_iter().filter_map(|(file, name)| match file {
        Some(BootFile::InImage(path)) => Some((path.as_str(), name)),
        Some(BootFile::Url(_)) | None => None,
    });
    in_image.collect()
}

/// Brings the kernel's files that come from elsewhere to `store_dir`.
pub(crate) async fn fetch_kernel(plan: &BuildPlan, store_dir: &Path) -> Result<(), ImageError> {
    let Some(kernel) = &plan.kernel else {
        return Ok(());
    };
    for file in [Some(&kernel.kernel), kernel.initrd.as_ref()]
        .into_iter()
        .flatten()
    {
        if let BootFile::Url(pin) = file {
            fetch(std::slice::from_ref(pin), store_dir).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
