//! What can go wrong with renewing pins.

use std::error::Error;
use std::path::PathBuf;

use harmony::domain::error::{ErrorKind, HintedError};
use harmony::modules::image::catalog::CatalogName;

type Cause = Box<dyn Error + Send + Sync>;

/// Pins could not be renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    /// A publisher whose sums nobody vouches for.
    #[error("{publisher} signs no sums of '{name}' (expected an OpenPGP signature beside them)")]
    Unsigned {
        name: CatalogName,
        publisher: &'static str,
    },
    /// An index in which no release is found.
    #[error("'{url}' lists no release (expected directories like {expected})")]
    NoReleases { url: String, expected: &'static str },
    /// Sums without the image.
    #[error("'{url}' has no digest of {file} (expected one of {digits} hexadecimal digits)")]
    NotInSums {
        url: String,
        file: String,
        digits: usize,
    },
    /// A signature that proves nothing.
    #[error("'{url}' is no signature of the sums by {fingerprint}: {reason}")]
    BadSignature {
        url: String,
        fingerprint: String,
        reason: String,
    },
    /// A file with a key that cannot be used.
    #[error("{key} is no OpenPGP key (expected {expected})")]
    BadKey {
        key: String,
        expected: String,
        #[source]
        source: Option<Cause>,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A server that gives no answer.
    #[error("cannot get '{url}'")]
    Web {
        url: String,
        #[source]
        source: Cause,
    },
    /// An answer that is not what was asked for.
    #[error("'{url}' answered HTTP status {status} (expected 200)")]
    Status { url: String, status: u16 },
    /// An answer that is too long for what it should be.
    #[error("'{url}' has more than {bound} bytes (expected fewer)")]
    TooLong { url: String, bound: usize },
}

impl HintedError for RefreshError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::BadKey { .. } | Self::Unreadable { .. } => ErrorKind::InvalidRequest,
            Self::Web { .. } => ErrorKind::Unavailable,
            Self::Unsigned { .. }
            | Self::NoReleases { .. }
            | Self::NotInSums { .. }
            | Self::BadSignature { .. }
            | Self::Status { .. }
            | Self::TooLong { .. } => ErrorKind::Failed,
        }
    }
}
