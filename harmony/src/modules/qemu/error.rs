//! What can go wrong with the store of QEMU builds.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::VmArchitecture;

use super::digest::ObjectDigest;
use super::malformed::Malformed;
use super::name::BuildName;
use super::path::BuildPath;
use super::profile::{ProfileError, QemuProfile};

/// What can go wrong with the store of QEMU builds.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No variable says where the user's data is.
    #[error(
        "no data directory: none of HARMONY_DATA_DIR, XDG_DATA_HOME, HOME is set to an absolute path"
    )]
    NoDataDirectory,
    /// The store's directory cannot be written into a library search path.
    #[error(
        "the store cannot be in '{}' (expected an absolute path without ':', ';' and '$')",
        root.display()
    )]
    UnusableRoot {
        /// The directory.
        root: PathBuf,
    },
    /// A text that is not what it should be.
    #[error("invalid {what} '{value}' (expected {expected})")]
    Invalid {
        /// What was to be given.
        what: &'static str,
        /// What was given, shortened.
        value: String,
        /// What it must look like.
        expected: &'static str,
    },
    /// A manifest that is no JSON, or not that of a build.
    #[error("the manifest {} is not valid", path.display())]
    MalformedManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest that is too long to be read.
    #[error("the manifest {} is longer than {bound_bytes} bytes", path.display())]
    ManifestTooLong {
        /// The file.
        path: PathBuf,
        /// The bound.
        bound_bytes: u64,
    },
    /// A manifest under another build's name.
    #[error("the manifest {} is of the build '{name}' (expected the file's name)", path.display())]
    MisnamedManifest {
        /// The file.
        path: PathBuf,
        /// The name in it.
        name: BuildName,
    },
    /// A manifest whose sum does not fit its objects.
    #[error("the build '{name}' says total_bytes = {stated} (its objects have {found})")]
    WrongTotal {
        /// The build.
        name: BuildName,
        /// What the manifest says.
        stated: u64,
        /// The sum of the files' sizes, in bytes.
        found: u64,
    },
    /// What is to be ingested is no directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// An entry beside the three directories of a build.
    #[error("'{}' does not belong into a build (expected bin/, lib/ and firmware/)", path.display())]
    ForeignPath {
        /// The entry.
        path: PathBuf,
    },
    /// A symbolic link to something outside of the directory, or to nothing.
    #[error(
        "the symbolic link {} leads to '{}' (expected a file inside of the build)",
        path.display(), target.display()
    )]
    LinkLeavesBuild {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// A symbolic link to a directory that it is in.
    #[error("the symbolic link {} leads to a directory around it", path.display())]
    LinkLoop {
        /// The link.
        path: PathBuf,
    },
    /// A device, socket or pipe.
    #[error("{} is a {kind} (expected a regular file, a directory or a link to one)", path.display())]
    SpecialFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// More files than a build may have.
    #[error("{} has more than {bound} files", path.display())]
    TooManyFiles {
        /// The directory.
        path: PathBuf,
        /// The bound.
        bound: usize,
    },
    /// The emulator itself is missing.
    #[error("{} has no bin/{binary}, which profile {profile} needs for {arch} guests", dir.display())]
    NoBinary {
        /// The directory.
        dir: PathBuf,
        /// The emulator's file name.
        binary: &'static str,
        /// The profile.
        profile: QemuProfile,
        /// The guests' architecture.
        arch: VmArchitecture,
    },
    /// The profile has no such guests.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The emulator does not tell its version.
    #[error("{} --version did not say a version (it said: '{said}')", binary.display())]
    VersionUnknown {
        /// The emulator.
        binary: PathBuf,
        /// What it printed, or why it could not be asked.
        said: String,
    },
    /// Another build has the name.
    #[error("the store already has another build '{name}'")]
    NameTaken {
        /// The name.
        name: BuildName,
    },
    /// There is no build of that name.
    #[error("the store {} has no build '{name}'", root.display())]
    NoSuchBuild {
        /// The store.
        root: PathBuf,
        /// The name.
        name: BuildName,
    },
    /// There is no build for the profile.
    #[error("the store {} has no build of profile {profile} for {arch} guests", root.display())]
    NoBuild {
        /// The store.
        root: PathBuf,
        /// The profile.
        profile: QemuProfile,
        /// The guests' architecture.
        arch: VmArchitecture,
    },
    /// An object of a build is not there.
    #[error("object {object} of {path} in the build '{build}' is missing")]
    MissingObject {
        /// The object.
        object: ObjectDigest,
        /// A file that consists of it.
        path: BuildPath,
        /// The build.
        build: BuildName,
    },
    /// An object's content is not what its name says.
    #[error("object {object} of {path} in the build '{build}' is corrupt: its sha256 is {found}")]
    CorruptObject {
        /// The object.
        object: ObjectDigest,
        /// A file that consists of it.
        path: BuildPath,
        /// The build.
        build: BuildName,
        /// The digest of what is there.
        found: ObjectDigest,
    },
}

impl HintedError for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnusableRoot { .. }
            | Self::Invalid { .. }
            | Self::NotADirectory { .. }
            | Self::ForeignPath { .. }
            | Self::LinkLeavesBuild { .. }
            | Self::LinkLoop { .. }
            | Self::SpecialFile { .. }
            | Self::TooManyFiles { .. }
            | Self::NoBinary { .. } => ErrorKind::InvalidRequest,
            Self::Profile(error) => error.kind(),
            Self::NameTaken { .. } => ErrorKind::Conflict,
            Self::NoDataDirectory
            | Self::NoSuchBuild { .. }
            | Self::NoBuild { .. }
            | Self::MissingObject { .. } => ErrorKind::Unavailable,
            Self::Io { .. }
            | Self::MalformedManifest { .. }
            | Self::ManifestTooLong { .. }
            | Self::MisnamedManifest { .. }
            | Self::WrongTotal { .. }
            | Self::VersionUnknown { .. }
            | Self::CorruptObject { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoDataDirectory => "set HOME, or HARMONY_DATA_DIR",
            Self::ForeignPath { .. } => "move what QEMU's data directory has into firmware/",
            Self::LinkLeavesBuild { .. } => "copy the file into the build in place of the link",
            Self::VersionUnknown { .. } => "give the version with the build",
            Self::NameTaken { .. } => "choose another name, or remove the build first",
            Self::NoBuild { .. } => "ingest one, or use the host's own QEMU",
            Self::MalformedManifest { .. }
            | Self::ManifestTooLong { .. }
            | Self::MisnamedManifest { .. }
            | Self::WrongTotal { .. } => "remove the manifest, and ingest the build again",
            Self::MissingObject { .. } | Self::CorruptObject { .. } => {
                "remove the build, and ingest it again"
            }
            Self::Profile(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<Malformed> for StoreError {
    fn from(malformed: Malformed) -> Self {
        let Malformed {
            what,
            value,
            expected,
        } = malformed;
        Self::Invalid {
            what,
            value,
            expected,
        }
    }
}

/// A closure that makes an [`StoreError::Io`] of an I/O error.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A [`StoreError::Invalid`] with the value cut to what a reader needs.
pub(super) fn invalid(what: &'static str, value: &str, expected: &'static str) -> StoreError {
    Malformed::new(what, value, expected).into()
}
