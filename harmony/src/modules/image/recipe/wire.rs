//! A recipe as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::topology::virtualization::VmArchitecture;

/// A recipe as it is written: nothing in it has been checked but its form.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// What the image is, for people.
    pub description: String,
    /// What the image is made from.
    pub base: BaseTable,
    /// Packages, in groups whose names are for people.
    pub packages: BTreeMap<String, Vec<String>>,
    /// systemd's units.
    pub services: ServicesTable,
    /// Files by their absolute path.
    pub files: BTreeMap<String, FileTable>,
    /// Changes to `/etc/fstab`.
    pub fstab: FstabTable,
    /// What is removed at last.
    pub cleanup: CleanupTable,
    /// A kernel that is booted without the image's boot loader.
    pub kernel: PerArchitecture<KernelTable>,
    /// Variants by their name.
    pub profiles: BTreeMap<String, PerArchitecture<ProfileTable>>,
}

/// A value for each architecture that has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerArchitecture<T> {
    /// For 64-bit x86.
    pub x86_64: Option<T>,
    /// For 64-bit Arm.
    pub aarch64: Option<T>,
}

impl<T> Default for PerArchitecture<T> {
    fn default() -> Self {
        Self {
            x86_64: None,
            aarch64: None,
        }
    }
}

impl<T> PerArchitecture<T> {
    /// The value for one architecture.
    pub fn get(&self, architecture: VmArchitecture) -> Option<&T> {
        match architecture {
            VmArchitecture::X86_64 => self.x86_64.as_ref(),
            VmArchitecture::Aarch64 => self.aarch64.as_ref(),
        }
    }

    pub(super) fn get_mut(&mut self, architecture: VmArchitecture) -> &mut Option<T> {
        match architecture {
            VmArchitecture::X86_64 => &mut self.x86_64,
            VmArchitecture::Aarch64 => &mut self.aarch64,
        }
    }

    /// The architectures that have a value, with it.
    pub fn iter(&self) -> impl Iterator<Item = (VmArchitecture, &T)> {
        VmArchitecture::ALL
            .into_iter()
            .filter_map(|architecture| Some((architecture, self.get(architecture)?)))
    }
}

/// What an image is made from: a name of the catalog, or a pinned URL for each architecture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct BaseTable {
    /// A name of the catalog.
    pub catalog: Option<String>,
    /// An image for 64-bit x86.
    pub x86_64: Option<PinTable>,
    /// An image for 64-bit Arm.
    pub aarch64: Option<PinTable>,
}

/// A URL and what it must give.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinTable {
    /// `http`, `https` or `file`.
    pub url: String,
    /// `sha256=…` or `sha512=…`.
    pub digest: String,
}

/// What becomes of systemd's units.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ServicesTable {
    /// Started at each boot; they must exist.
    pub enable: Vec<String>,
    /// Not started at boot by themselves, where they exist.
    pub disable: Vec<String>,
    /// Never started, whether they exist or not.
    pub mask: Vec<String>,
}

/// A file of the image.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTable {
    /// The whole content.
    pub content: String,
    /// `user:group`, by name or number; they exist by then.
    #[serde(default = "root")]
    pub owner: String,
    /// Permission bits, octal.
    #[serde(default = "readable")]
    pub mode: String,
}

fn root() -> String {
    "root:root".to_owned()
}

fn readable() -> String {
    "0644".to_owned()
}

impl std::fmt::Debug for FileTable {
    /// Without the content, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileTable")
            .field("bytes", &self.content.len())
            .field("owner", &self.owner)
            .field("mode", &self.mode)
            .finish()
    }
}

/// Changes to `/etc/fstab`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct FstabTable {
    /// Lines that match one of these extended regular expressions are removed; comments stay.
    pub remove_patterns: Vec<String>,
    /// Mount points whose lines get the option `nofail`.
    pub nofail: Vec<String>,
}

/// What is removed at last.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct CleanupTable {
    /// Directories, with everything in them.
    pub remove_dirs: Vec<String>,
}

/// A kernel that is booted without the image's boot loader.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelTable {
    /// The kernel.
    pub kernel: BootFileTable,
    /// Its initial file system.
    pub initrd: Option<BootFileTable>,
    /// Its command line, before the profile's boot arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// A file that is booted: a path in the image, or a URL and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct BootFileTable {
    /// The path in the image.
    pub path: Option<String>,
    /// `http`, `https` or `file`.
    pub url: Option<String>,
    /// `sha256=…` or `sha512=…`.
    pub digest: Option<String>,
}

/// A variant of the image for one architecture: what it has beside the rest of the recipe.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileTable {
    /// What it is for, for people.
    pub description: String,
    /// Further arguments of the kernel, in this order.
    pub boot_arguments: Vec<String>,
    /// Further packages.
    pub packages: Vec<String>,
    /// Files of the host whose contents decide about the image, as globs below the recipe's directory.
    pub build_inputs: Vec<String>,
    /// Units; what is said here counts before what the recipe says.
    pub services: ServicesTable,
    /// Files; one with a path of the recipe's takes its place.
    pub files: BTreeMap<String, FileTable>,
    /// Further changes to `/etc/fstab`.
    pub fstab: FstabTable,
    /// Further directories to remove.
    pub cleanup: CleanupTable,
}
