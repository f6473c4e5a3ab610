//! A recipe for one architecture and one profile: plain data for the builders.

use std::fmt;

use crate::domain::topology::linux_host::HostFile;
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::catalog::CatalogName;
use crate::modules::image::digest::Sha256Digest;
use crate::modules::image::source::PinnedUrl;

/// What is built: everything that decides what is in the image. Lists that have no order of their own are
/// sorted and without repeats.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildPlan {
    /// For which guests.
    pub architecture: VmArchitecture,
    /// The profile's description, or the recipe's. Not part of the name.
    pub description: String,
    /// What the image is made from.
    pub base: PlannedBase,
    /// Debian packages.
    pub packages: Vec<String>,
    /// systemd's units.
    pub services: PlannedServices,
    /// Files, by path. Their owners are names or numbers of the image.
    pub files: Vec<HostFile>,
    /// Changes to `/etc/fstab`.
    pub fstab: PlannedFstab,
    /// Directories to remove with everything in them.
    pub cleanup: Vec<String>,
    /// Arguments for the kernel that the image's boot loader starts, in this order. In a guest the script gives
    /// them to GRUB; a builder that writes the boot loader's configuration itself adds them there.
    pub boot_arguments: Vec<String>,
    /// The kernel to boot without the boot loader, if any.
    pub kernel: Option<PlannedKernel>,
    /// The host's files that the name depends on.
    pub inputs: Vec<BuildInput>,
    /// The POSIX shell script that does all of it but the kernel, as root; see
    /// [`SCRIPT_ENVIRONMENT`](super::SCRIPT_ENVIRONMENT).
    pub setup_script: String,
}

/// What an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedBase {
    /// An image of the catalog.
    Catalog(CatalogName),
    /// An image to fetch and verify.
    Url(PinnedUrl),
}

/// What becomes of systemd's units. No unit is in two of the lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedServices {
    /// Started at each boot; they must exist.
    pub enable: Vec<String>,
    /// Not started at boot by themselves, where they exist.
    pub disable: Vec<String>,
    /// Never started, whether they exist or not.
    pub mask: Vec<String>,
}

/// Changes to `/etc/fstab`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedFstab {
    /// POSIX extended regular expressions: lines that match one are removed, but for comments.
    pub remove_patterns: Vec<String>,
    /// Mount points whose lines get the option `nofail`.
    pub nofail: Vec<String>,
}

/// A kernel that is booted without the image's boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedKernel {
    /// The kernel.
    pub kernel: BootFile,
    /// Its initial file system.
    pub initrd: Option<BootFile>,
    /// Its whole command line, the profile's boot arguments included, in this order.
    pub arguments: Vec<String>,
}

/// Where a file that is booted comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootFile {
    /// The absolute path in the finished image; links there are followed.
    InImage(String),
    /// A file to fetch and verify.
    Url(PinnedUrl),
}

/// A file of the host that the image depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInput {
    /// Its path relative to the recipe's directory, with `/`.
    pub path: String,
    /// The digest of its content.
    pub digest: Sha256Digest,
}

/// How an image is built from a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuilderKind {
    /// The script runs in a guest that boots the base image.
    InGuest,
    /// `mmdebstrap` makes the file system from the distribution's packages.
    FromPackages,
}

impl BuilderKind {
    /// The name in digests and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InGuest => "in-guest",
            Self::FromPackages => "from-packages",
        }
    }
}

impl fmt::Display for BuilderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for BuildPlan {
    /// Without the script and the files' contents, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildPlan")
            .field("architecture", &self.architecture)
            .field("description", &self.description)
            .field("base", &self.base)
            .field("packages", &self.packages)
            .field("services", &self.services)
            .field("files", &self.files)
            .field("fstab", &self.fstab)
            .field("cleanup", &self.cleanup)
            .field("boot_arguments", &self.boot_arguments)
            .field("kernel", &self.kernel)
            .field("inputs", &self.inputs)
            .field("setup_script_bytes", &self.setup_script.len())
            .finish()
    }
}
