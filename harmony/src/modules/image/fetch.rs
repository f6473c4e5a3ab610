//! Fetching pinned files: once, whole, verified.
//!
//! A file is streamed to an unfinished one beside its place and hashed on the way, made durable and
//! read-only, and only then named `<algorithm>-<digest>.<extension>`. Whoever finds a file of that name
//! therefore finds a verified one, and needs no network. An inter-process lock lets many callers fetch
//! once.
//!
//! The pins are tried in order. One that its publisher has removed (HTTP 404 or 410) is passed over, and
//! so is one whose host cannot be connected to; that no host could be reached at all is an error of its
//! own ([`ImageError::Unreachable`]). What was fetched and is not the pinned file stops everything: it is
//! set aside as `<name>.rejected` and neither used nor replaced by another pin's.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::ImageDigest;
use super::error::ImageError;
use super::format::{SNIFF_BYTES, sniff};
use super::source::PinnedUrl;
use super::store::{PartFile, StoreLock, ensure_dir, io_error, is_finished, publish};
use super::transfer::{Bounds, Failure, transfer};

/// How patient a fetch is.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher {
    /// The longest time for a connection, name resolution and TLS included.
    pub connect_timeout: Duration,
    /// The longest silence of a server. There is no bound on the whole transfer.
    pub stall_timeout: Duration,
    /// How often a URL is tried, 1 or more.
    pub attempts: u32,
    /// The pause before the second attempt; each later one is twice as long.
    pub backoff: Duration,
}

impl Default for Fetcher {
    /// 8 s to connect, 60 s of silence, 3 attempts with pauses of 0.5 s and 1 s.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(8),
            stall_timeout: Duration::from_secs(60),
            attempts: 3,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Fetches one of `sources` into `dir` with the default patience: see [`Fetcher::fetch`].
///
/// # Errors
/// As [`Fetcher::fetch`].
pub async fn fetch(sources: &[PinnedUrl], dir: &Path) -> Result<PathBuf, ImageError> {
    Fetcher::default().fetch(sources, dir).await
}

impl Fetcher {
    /// Returns the verified file of the first of `sources` that can be had; without any network when it
    /// is in `dir` already. `dir` is made when it is missing.
    ///
    /// # Errors
    /// [`ImageError::Unreachable`] when no host could be connected to; [`ImageError::Gone`] when every
    /// reachable one has removed its file; [`ImageError::DigestMismatch`]; others for transfers that
    /// broke, stalled or were refused at each attempt, and for the file system.
    pub async fn fetch(&self, sources: &[PinnedUrl], dir: &Path) -> Result<PathBuf, ImageError> {
        ensure_dir(dir)?;
        let mut gone = Vec::new();
        let mut unreachable: Vec<&PinnedUrl> = Vec::new();
        let mut cause = None;
        for pin in sources {
            let path = dir.join(pin.file_name());
            if is_finished(&path) {
                return Ok(path);
            }
            let host = host_of(pin);
            if unreachable.iter().any(|other| host_of(other) == host) {
                unreachable.push(pin);
                continue;
            }
            match self.fetch_pin(pin, &path, dir).await {
                Ok(()) => return Ok(path),
                Err(Failure::Gone) => {
                    tracing::warn!(url = %pin, "no longer published, trying the next pinned release");
                    gone.push(pin.to_string());
                }
                Err(Failure::Unreachable { source, .. }) => {
                    unreachable.push(pin);
                    cause = Some(source);
                }
                Err(Failure::Transient(error) | Failure::Fatal(error)) => return Err(error),
            }
        }
        match cause {
            // A host that answered "gone" was reached.
            Some(source) if gone.is_empty() => Err(ImageError::Unreachable {
                urls: unreachable.iter().map(ToString::to_string).collect(),
                source: Box::new(source),
            }),
            _ if gone.is_empty() => Err(ImageError::NoPins),
            _ => Err(ImageError::Gone { urls: gone }),
        }
    }

    async fn fetch_pin(&self, pin: &PinnedUrl, path: &Path, dir: &Path) -> Result<(), Failure> {
        let name = pin.file_name();
        let _lock = StoreLock::acquire(dir, &name)
            .await
            .map_err(Failure::Fatal)?;
        if is_finished(path) {
            return Ok(());
        }
        let part = PartFile::new(dir, &name);
        tracing::info!(url = %pin, to = %path.display(), "fetching the image");
        let actual = self.try_repeatedly(pin, &part).await?;
        settle(pin, &part, path, actual).map_err(Failure::Fatal)
    }

    async fn try_repeatedly(
        &self,
        pin: &PinnedUrl,
        part: &PartFile,
    ) -> Result<ImageDigest, Failure> {
        let bounds = Bounds {
            connect: self.connect_timeout,
            stall: self.stall_timeout,
        };
        let mut pause = self.backoff;
        let mut attempt = 1;
        loop {
            let failure = match transfer(pin, part, bounds).await {
                Ok(digest) => return Ok(digest),
                Err(failure) => failure,
            };
            let error: &dyn std::error::Error = match &failure {
                Failure::Transient(error) => error,
                Failure::Unreachable {
                    source,
                    waited: false,
                } => source,
                _ => return Err(failure),
            };
            if attempt >= self.attempts {
                return Err(failure);
            }
            tracing::debug!(url = %pin, attempt, error, "trying again");
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }
}

/// Whom the URL connects to.
fn host_of(pin: &PinnedUrl) -> (Option<&str>, Option<u16>) {
    (pin.url().host_str(), pin.url().port_or_known_default())
}

/// Gives the file its name when it is the pinned one; else sets it aside.
fn settle(
    pin: &PinnedUrl,
    part: &PartFile,
    path: &Path,
    actual: ImageDigest,
) -> Result<(), ImageError> {
    if actual == *pin.digest() {
        return publish(part.path(), path);
    }
    let mut header = Vec::with_capacity(SNIFF_BYTES);
    File::open(part.path())
        .and_then(|file| file.take(SNIFF_BYTES as u64).read_to_end(&mut header))
        .map_err(|source| io_error("read", part.path(), source))?;
    let mut rejected = path.as_os_str().to_owned();
    rejected.push(".rejected");
    let rejected = PathBuf::from(rejected);
    fs::rename(part.path(), &rejected)
        .map_err(|source| io_error("set aside", part.path(), source))?;
    Err(ImageError::DigestMismatch {
        url: pin.to_string(),
        expected: Box::new(*pin.digest()),
        actual: Box::new(actual),
        rejected,
        looks_like_html: sniff(&header) == Err("an HTML page"),
    })
}

#[cfg(test)]
mod tests;
