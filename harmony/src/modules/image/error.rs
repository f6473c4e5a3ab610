//! What can go wrong with images.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use harmony_base::blocking::WorkerEnded;
use harmony_base::words::NulInWord;

use super::catalog_name::{CatalogName, UnknownImage, expected_sources};
use super::digest::{ImageDigest, NotADigest};
use super::host_program::HostProgram;
use super::packing::Packing;
use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::VmArchitecture;

type Cause = Box<dyn Error + Send + Sync>;

/// An image could not be named, fetched, verified or built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A text that is no digest.
    #[error("invalid digest '{value}' (expected {expected})")]
    InvalidDigest {
        /// What was given.
        value: String,
        /// The expected form.
        expected: &'static str,
    },
    /// A name that the catalog does not have.
    #[error("unknown image '{value}' (expected {})", expected_sources())]
    UnknownName {
        /// What was given.
        value: String,
    },
    /// An image of the catalog of which no digest was ever checked.
    #[error("image '{name}' has no pinned release for {architecture} (expected one at least)")]
    NotPinned {
        /// Which image.
        name: CatalogName,
        /// For which architecture.
        architecture: VmArchitecture,
    },
    /// A URL without the digest of what it gives.
    #[error("image URL '{url}' has no digest (expected URL#sha256=DIGEST or URL#sha512=DIGEST)")]
    MissingDigest {
        /// The URL, without secrets.
        url: String,
    },
    /// A text that is no URL.
    #[error("invalid image URL '{value}' (expected an absolute URL)")]
    InvalidUrl {
        /// What was given.
        value: String,
        /// What the parser says.
        #[source]
        source: Cause,
    },
    /// A URL that cannot be fetched from.
    #[error("unsupported image URL '{url}' (expected http://, https:// or file:///)")]
    UnsupportedScheme {
        /// The URL, without secrets.
        url: String,
    },
    /// A list of pins without any.
    #[error("no pinned URL to fetch from (expected at least one)")]
    NoPins,
    /// A local image that does not exist.
    #[error("image file {path} does not exist")]
    NoSuchFile {
        /// The file.
        path: PathBuf,
    },
    /// A file that is none of the image store.
    #[error("{path} is no file of the image store (expected a name ALGORITHM-DIGEST.EXTENSION)")]
    NotStored {
        /// The file.
        path: PathBuf,
    },
    /// A local file that is no disk image.
    #[error("{path} is {looks_like} (expected a qcow2 or raw disk image)")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        looks_like: &'static str,
    },
    /// No host of any pinned URL could be connected to.
    #[error("cannot reach the image's host: {}", urls.join(", "))]
    Unreachable {
        /// The URLs that were tried, without secrets.
        urls: Vec<String>,
        /// What the last attempt met.
        #[source]
        source: Cause,
    },
    /// A server that was reached but not trusted.
    #[error("no trusted TLS connection to '{url}'")]
    Tls {
        /// The URL, without secrets.
        url: String,
        /// What the TLS library says.
        #[source]
        source: Cause,
    },
    /// An answer that is neither the file nor "it is gone".
    #[error("'{url}' answered HTTP status {status} (expected 200)")]
    HttpStatus {
        /// The URL, without secrets.
        url: String,
        /// The status code.
        status: u16,
    },
    /// Every pinned release has been removed by its publisher.
    #[error("no pinned release is published any more: {}", urls.join(", "))]
    Gone {
        /// The URLs that were tried, without secrets.
        urls: Vec<String>,
    },
    /// A transfer that broke.
    #[error("the transfer of '{url}' broke after {received} bytes")]
    Transfer {
        /// The URL, without secrets.
        url: String,
        /// The bytes that had come.
        received: u64,
        /// How it broke.
        #[source]
        source: Cause,
    },
    /// A transfer in which nothing came any more.
    #[error("'{url}' sent nothing for {}, after {received} bytes", seconds(bound))]
    Stalled {
        /// The URL, without secrets.
        url: String,
        /// The bytes that had come.
        received: u64,
        /// The longest allowed silence.
        bound: Duration,
    },
    /// An answer to a request for the rest of a file that is not that rest.
    #[error(
        "'{url}' answered a request for the bytes from {offset} on with {answer} (expected {expected})"
    )]
    FalseRange {
        /// The URL, without secrets.
        url: String,
        /// Where the rest begins.
        offset: u64,
        /// What the answer says of itself.
        answer: String,
        /// What it should say.
        expected: String,
    },
    /// A file that is longer or shorter than the pinned one.
    #[error("'{url}' has {size} bytes (expected {expected})")]
    WrongSize {
        /// The URL, without secrets.
        url: String,
        /// What was announced, or what came until it was too much.
        size: u64,
        /// The pinned size.
        expected: u64,
    },
    /// A file without end.
    #[error("'{url}' sent more than {bound} bytes (expected no more)")]
    Endless {
        /// The URL, without secrets.
        url: String,
        /// The bound in bytes.
        bound: u64,
    },
    /// A verified file that cannot be unpacked.
    #[error("{path} cannot be unpacked as {packing}")]
    Unpack {
        /// The unfinished result.
        path: PathBuf,
        /// How it should be packed.
        packing: Packing,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// A file that is not the pinned one.
    #[error(
        "'{url}' has digest {actual} (expected {expected}); set aside as {}",
        rejected.display()
    )]
    DigestMismatch {
        /// The URL, without secrets.
        url: String,
        /// The pin.
        expected: Box<ImageDigest>,
        /// What came.
        actual: Box<ImageDigest>,
        /// Where the wrong file is kept.
        rejected: PathBuf,
        /// Whether what came begins like an HTML page.
        looks_like_html: bool,
    },
    /// A file system that is too full.
    #[error("{dir} has {available_mib} MiB free (expected at least {needed_mib} MiB)")]
    NoSpace {
        /// The directory.
        dir: PathBuf,
        /// What is needed.
        needed_mib: u64,
        /// What there is.
        available_mib: u64,
    },
    /// A file operation that failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The HTTP client cannot work on this host.
    #[error("cannot set up the HTTPS client")]
    HttpClient {
        /// Why.
        #[source]
        source: Cause,
    },
    /// Programs that the builder needs and this host lacks.
    #[error("missing programs: {}", programs.iter().map(|p| p.program).collect::<Vec<_>>().join(", "))]
    MissingPrograms {
        /// The programs with their packages.
        programs: Vec<HostProgram>,
    },
    /// A host that cannot execute programs of the image's architecture.
    #[error("this host cannot execute {architecture} programs: {handler} does not exist")]
    ForeignExecution {
        /// The image's architecture.
        architecture: VmArchitecture,
        /// The kernel's registration of the emulator.
        handler: PathBuf,
    },
    /// A program that failed.
    #[error("{program} failed with {status}: {}", if stderr_tail.is_empty() { "no message" } else { stderr_tail.as_str() })]
    Tool {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last lines of its standard error.
        stderr_tail: String,
    },
    /// A disk image that could not be laid out.
    #[error("cannot write the {part} of the disk image")]
    Layout {
        /// Which part.
        part: &'static str,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A boot loader file that is not what it should be.
    #[error("GRUB's {file} {problem} (expected {expected})")]
    BootLoader {
        /// Which file.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What was expected.
        expected: String,
    },
    /// A text that no script of a build can have.
    #[error(transparent)]
    Word(#[from] NulInWord),
    /// A worker thread that ended abnormally.
    #[error("the thread that should {task} ended abnormally")]
    Worker {
        /// What it did.
        task: &'static str,
        /// How it ended.
        #[source]
        source: Cause,
    },
}

impl From<WorkerEnded> for ImageError {
    fn from(WorkerEnded { task, source }: WorkerEnded) -> Self {
        Self::Worker {
            task,
            source: Box::new(source),
        }
    }
}

impl From<NotADigest> for ImageError {
    fn from(NotADigest { value, expected }: NotADigest) -> Self {
        Self::InvalidDigest { value, expected }
    }
}

impl From<UnknownImage> for ImageError {
    fn from(UnknownImage { value }: UnknownImage) -> Self {
        Self::UnknownName { value }
    }
}

fn seconds(bound: &Duration) -> String {
    format!("{:.1} s", bound.as_secs_f64())
}

fn lacks_subordinate_ids(message: &str) -> bool {
    ["subuid", "subgid", "newuidmap", "newgidmap"]
        .iter()
        .any(|word| message.contains(word))
}

impl HintedError for ImageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidDigest { .. }
            | Self::UnknownName { .. }
            | Self::NotPinned { .. }
            | Self::MissingDigest { .. }
            | Self::InvalidUrl { .. }
            | Self::UnsupportedScheme { .. }
            | Self::NoPins
            | Self::NoSuchFile { .. }
            | Self::NotStored { .. }
            | Self::UnknownFormat { .. } => ErrorKind::InvalidRequest,
            Self::Unreachable { .. }
            | Self::NoSpace { .. }
            | Self::HttpClient { .. }
            | Self::MissingPrograms { .. }
            | Self::ForeignExecution { .. } => ErrorKind::Unavailable,
            Self::Stalled { .. } => ErrorKind::TimedOut,
            Self::Tls { .. }
            | Self::HttpStatus { .. }
            | Self::Gone { .. }
            | Self::Transfer { .. }
            | Self::FalseRange { .. }
            | Self::WrongSize { .. }
            | Self::Endless { .. }
            | Self::Unpack { .. }
            | Self::DigestMismatch { .. }
            | Self::Io { .. }
            | Self::Tool { .. }
            | Self::Layout { .. }
            | Self::Word(_)
            | Self::BootLoader { .. }
            | Self::Worker { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotPinned { .. } => {
                "pin it with harmony-image refresh, or give an image by URL and digest".to_owned()
            }
            Self::MissingDigest { .. } => {
                "take the digest from the publisher's signed SHA256SUMS or SHA512SUMS".to_owned()
            }
            Self::NoSuchFile { .. } => format!("images are named {}", expected_sources()),
            Self::UnknownFormat { .. } => {
                "unpack or convert it first (qemu-img convert)".to_owned()
            }
            Self::Unreachable { .. } => {
                "check the network and the proxy settings, or give a local image".to_owned()
            }
            Self::Gone { .. } => "update harmony, or give an image by URL and digest".to_owned(),
            Self::DigestMismatch {
                looks_like_html: true,
                ..
            } => "a web page came instead of the image: a proxy or a portal answered".to_owned(),
            Self::DigestMismatch { .. } => {
                "do not use the file; compare with the publisher's signed sums".to_owned()
            }
            Self::WrongSize { .. } | Self::Endless { .. } => {
                "something else is published there now, or a proxy answered".to_owned()
            }
            Self::NoSpace { .. } => "free disk space, or set HARMONY_DATA_DIR elsewhere".to_owned(),
            Self::HttpClient { .. } => {
                "install the certificate authorities (apt-get install ca-certificates)".to_owned()
            }
            Self::MissingPrograms { programs } => {
                let mut packages: Vec<_> = programs.iter().map(|p| p.debian_package).collect();
                packages.sort_unstable();
                packages.dedup();
                format!("apt-get install {}", packages.join(" "))
            }
            Self::ForeignExecution { .. } => {
                "apt-get install qemu-user-static, and have binfmt_misc mounted".to_owned()
            }
            Self::Tool { stderr_tail, .. } if lacks_subordinate_ids(stderr_tail) => {
                "an ordinary user needs subordinate ids: usermod --add-subuids 100000-165535 \
                 --add-subgids 100000-165535 USER"
                    .to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }
}
