//! Why an image could not be looked into.

use std::io;
use std::path::PathBuf;

use crate::domain::error::{ErrorKind, HintedError};

/// An image could not be looked into, or was not to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file cannot be opened.
    #[error("cannot open image {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A directory, a device, a pipe or a socket.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// What was opened.
        path: PathBuf,
    },
    /// A file that is neither qcow2 nor a disk's bytes.
    #[error("{path} is {looks_like} (expected a qcow2 or raw disk image)")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        looks_like: &'static str,
    },
    /// A qcow2 header that breaks the format's rules.
    #[error("qcow2 image {path} has {field} {found} (expected {expected})")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The bound or the form.
        expected: String,
    },
    /// A qcow2 feature that is not read here.
    #[error("qcow2 image {path} uses {feature}, which is not read here")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The feature.
        feature: String,
    },
    /// The file ends before what its tables point to.
    #[error("{path} is cut off: {what} at byte {offset}, and the file has {file_bytes} bytes")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// How long the file is.
        file_bytes: u64,
    },
    /// The data of a qcow2 image is in another file, which is never followed.
    #[error("image {path} keeps its data in another file, {data_file}")]
    ExternalData {
        /// The image.
        path: PathBuf,
        /// The other file's name as the image has it, escaped.
        data_file: String,
    },
    /// A backing file, and none may be followed.
    #[error("image {path} depends on the backing file {backing}")]
    Backing {
        /// The image.
        path: PathBuf,
        /// The backing file's name as the image has it, escaped.
        backing: String,
    },
    /// A backing file outside the directory in which chains may be followed.
    #[error("image {path} depends on {backing}, which is not within {directory}")]
    BackingOutside {
        /// The image.
        path: PathBuf,
        /// The backing file's name as the image has it, escaped.
        backing: String,
        /// Where chains may be followed.
        directory: PathBuf,
    },
    /// A chain that leads back into itself.
    #[error("image {path} depends on itself through its backing file {backing}")]
    ChainLoop {
        /// The image whose backing file closes the loop.
        path: PathBuf,
        /// The file that was met before.
        backing: PathBuf,
    },
    /// More backing files than may be followed.
    #[error("image {path} has more than {bound} backing files")]
    ChainTooLong {
        /// The first image of the chain.
        path: PathBuf,
        /// How many may be followed.
        bound: u32,
    },
    /// Looking further would take more reads than allowed.
    #[error("looking into {path} takes more than {bound_bytes} bytes of reads")]
    TooExpensive {
        /// The image.
        path: PathBuf,
        /// The bound.
        bound_bytes: u64,
    },
    /// The image's own tables or compressed data are damaged, or the file cannot be read.
    #[error("cannot read {part} of image {path}")]
    Read {
        /// The image.
        path: PathBuf,
        /// What was read.
        part: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl HintedError for InspectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorKind::Unavailable
            }
            Self::Read { .. } => ErrorKind::Failed,
            _ => ErrorKind::InvalidRequest,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Truncated { .. } => "fetch the image again, and compare its digest",
            Self::UnknownFormat { .. } => {
                "give a qcow2 or raw disk image; unpack an archive, convert others with qemu-img convert"
            }
            Self::Unsupported { .. } => "convert the image with qemu-img convert -O qcow2",
            Self::Backing { .. } | Self::BackingOutside { .. } | Self::ExternalData { .. } => {
                "make it stand alone with qemu-img convert -O qcow2"
            }
            Self::Open { .. }
            | Self::NotAFile { .. }
            | Self::Malformed { .. }
            | Self::ChainLoop { .. }
            | Self::ChainTooLong { .. }
            | Self::TooExpensive { .. }
            | Self::Read { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
