//! Fetching pinned files: once, whole, verified.
//!
//! A file is streamed to an unfinished one beside its place and hashed on the way, made durable and
//! read-only, and only then named `<algorithm>-<digest>.<extension>`, with a record beside it. Whoever finds
//! a file that looks as its record says therefore finds a verified one, and needs no network. An
//! inter-process lock lets many callers fetch once. A compressed image is unpacked on the way: the digest
//! is that of the published bytes, and what is stored is named by its own.
//!
//! A transfer that broke is gone on with where it ended, at once or by a later process, when the server
//! says that its file is still the same; see [`super::store`] for what is kept.
//!
//! The pins are tried in order, and of each its URLs. One that its publisher has removed (HTTP 404 or 410)
//! is passed over, and so is one whose host cannot be connected to; that no host could be reached at all is
//! an error of its own ([`ImageError::Unreachable`]). What was fetched and is not the pinned file stops
//! everything: it is set aside as `<name>.rejected` and neither used nor replaced by another pin's.

mod keep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harmony_base::blocking::blocking;
use reqwest::{Client, Url};

use super::error::ImageError;
use super::progress::{Logged, Progress};
use super::source::{PinnedUrl, public_form};
use super::store::{StoreLock, ensure_dir};
use super::transfer::{Bounds, Complete, Failure, Partial, Source, client, transfer};

/// How patient a fetch is.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher {
    /// The longest time for a connection, name resolution and TLS included.
    pub connect_timeout: Duration,
    /// The longest silence of a server. There is no bound on the whole transfer.
    pub stall_timeout: Duration,
    /// How often a URL is tried without getting anywhere, 1 or more. An attempt that brought 1 MiB or more
    /// does not count.
    pub attempts: u32,
    /// The pause before the second attempt, give or take a half; each later one is twice as long, up to
    /// 30 s.
    pub backoff: Duration,
    /// The largest file, in bytes, where its size is not pinned.
    pub max_bytes: u64,
}

/// So much makes an attempt worth another.
const WORTHWHILE: u64 = 1 << 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Default for Fetcher {
    /// 8 s to connect, 60 s of silence, 3 attempts with pauses of about 0.5 s and 1 s, 64 GiB.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(8),
            stall_timeout: Duration::from_secs(60),
            attempts: 3,
            backoff: Duration::from_millis(500),
            max_bytes: 64 << 30,
        }
    }
}

/// Fetches one of `sources` into `dir` with the default patience, logging its progress: see
/// [`Fetcher::fetch`].
///
/// # Errors
/// As [`Fetcher::fetch`].
pub async fn fetch(sources: &[PinnedUrl], dir: &Path) -> Result<PathBuf, ImageError> {
    Fetcher::default()
        .fetch(sources, dir, &Logged::default())
        .await
}

/// Where the file of `pin` is in `dir`, when it is there and beyond doubt. Reads its record and not the file.
///
/// # Errors
/// [`ImageError::Io`] when `dir` cannot be looked into.
pub fn stored_path(pin: &PinnedUrl, dir: &Path) -> Result<Option<PathBuf>, ImageError> {
    keep::stored(pin, dir)
}

/// Why a pin could not be had.
enum Missed {
    Gone(Vec<String>),
    /// With what the last attempt met, if there was any.
    Unreachable(Option<reqwest::Error>),
}

impl Fetcher {
    /// Returns the verified file of the first of `sources` that can be had; without any network when it
    /// is in `dir` already. `dir` is made when it is missing. A file of the store that looks otherwise than
    /// its record says is hashed again; a wrong one is set aside and fetched anew.
    ///
    /// # Errors
    /// [`ImageError::Unreachable`] when no host could be connected to; [`ImageError::Gone`] when every
    /// reachable one has removed its file; [`ImageError::DigestMismatch`]; others for transfers that
    /// broke, stalled or were refused at each attempt, and for the file system.
    pub async fn fetch(
        &self,
        sources: &[PinnedUrl],
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<PathBuf, ImageError> {
        ensure_dir(dir)?;
        let mut gone = Vec::new();
        let mut unreachable = Unreachable::default();
        for pin in sources {
            if let Some(path) = keep::stored(pin, dir)? {
                return Ok(path);
            }
            match self.fetch_pin(pin, dir, progress, &mut unreachable).await? {
                Ok(path) => return Ok(path),
                Err(Missed::Gone(urls)) => {
                    tracing::warn!(url = %pin, "no longer published, trying the next pinned release");
                    gone.extend(urls);
                }
                Err(Missed::Unreachable(source)) => {
                    unreachable.cause = source.or(unreachable.cause.take());
                }
            }
        }
        match unreachable.cause {
            // A host that answered "gone" was reached.
            Some(source) if gone.is_empty() => Err(ImageError::Unreachable {
                urls: unreachable.urls,
                source: Box::new(source),
            }),
            _ if gone.is_empty() => Err(ImageError::NoPins),
            _ => Err(ImageError::Gone { urls: gone }),
        }
    }

    async fn fetch_pin(
        &self,
        pin: &PinnedUrl,
        dir: &Path,
        progress: &dyn Progress,
        unreachable: &mut Unreachable,
    ) -> Result<Result<PathBuf, Missed>, ImageError> {
        let lock = Arc::new(StoreLock::acquire(dir, &pin.file_name()).await?);
        if let Some(path) = keep::stored_or_mended(pin, dir).await? {
            return Ok(Ok(path));
        }
        let client = client(self.bounds()).await?;
        let mut partial = open(pin, dir, Arc::clone(&lock)).await?;
        let mut gone = Vec::new();
        let mut refused = None;
        let mut missed = None;
        for url in pin.urls() {
            if unreachable.has_host_of(url) {
                unreachable.urls.push(public_form(url));
                continue;
            }
            let (back, result) = self.try_url(&client, pin, url, partial, progress).await?;
            partial = back;
            match result {
                Ok(complete) => {
                    drop(client);
                    return keep::settle(pin, url, dir, partial, complete).await.map(Ok);
                }
                Err(Failure::Gone) => gone.push(public_form(url)),
                Err(Failure::Unreachable { source, .. }) => {
                    unreachable.note(url);
                    missed = Some(source);
                }
                Err(Failure::Fatal(error)) => return Err(error),
                Err(
                    Failure::Transient(error)
                    | Failure::NotTheRest(error)
                    | Failure::Refused(error),
                ) => {
                    tracing::debug!(url = %public_form(url), %error, "another URL may do");
                    refused.get_or_insert(error);
                }
            }
        }
        match (refused, missed) {
            (Some(error), _) => Err(error),
            (None, Some(source)) if gone.is_empty() => Ok(Err(Missed::Unreachable(Some(source)))),
            // Each URL is at a host that was found unreachable before.
            _ if gone.is_empty() => Ok(Err(Missed::Unreachable(None))),
            _ => Ok(Err(Missed::Gone(gone))),
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            connect: self.connect_timeout,
            stall: self.stall_timeout,
            size: self.max_bytes,
        }
    }

    /// Attempt after attempt at one URL, until the bytes are there and are the pinned ones, or nothing more
    /// can be expected.
    async fn try_url(
        &self,
        client: &Client,
        pin: &PinnedUrl,
        url: &Url,
        mut partial: Partial,
        progress: &dyn Progress,
    ) -> Result<(Partial, Result<Complete, Failure>), ImageError> {
        let mut source = Source {
            pin,
            url,
            ranges: true,
        };
        let mut patience = Patience::new(self);
        loop {
            let before = partial.length();
            let (back, result) =
                transfer(client, &source, partial, self.bounds(), progress).await?;
            partial = back;
            let failure = match result {
                // One of the answers lied, or a crash of the host lost what was not on the disk yet.
                Ok(complete) if complete.joined && complete.digest != *pin.digest() => {
                    tracing::debug!(url = %public_form(url), "the parts do not fit, starting over");
                    partial.start_over()?;
                    source.ranges = false;
                    continue;
                }
                Ok(complete) => return Ok((partial, Ok(complete))),
                Err(failure) => failure,
            };
            if let Failure::NotTheRest(_) = failure {
                source.ranges = false;
            }
            let brought = partial.length().saturating_sub(before);
            let Some(pause) = patience.pause(&failure, brought) else {
                return Ok((partial, Err(failure)));
            };
            tracing::debug!(url = %public_form(url), ?failure, "trying again");
            tokio::time::sleep(pause).await;
        }
    }
}

async fn open(pin: &PinnedUrl, dir: &Path, lock: Arc<StoreLock>) -> Result<Partial, ImageError> {
    let (pin, dir) = (pin.clone(), dir.to_owned());
    let work = move || Partial::open(&dir, &pin, lock);
    blocking("read the unfinished image", work).await?
}

/// Hosts that cannot be connected to, and the URLs that were not tried for that.
#[derive(Default)]
struct Unreachable {
    hosts: Vec<(Option<String>, Option<u16>)>,
    urls: Vec<String>,
    cause: Option<reqwest::Error>,
}

impl Unreachable {
    fn has_host_of(&self, url: &Url) -> bool {
        self.hosts.contains(&host_of(url))
    }

    fn note(&mut self, url: &Url) {
        self.hosts.push(host_of(url));
        self.urls.push(public_form(url));
    }
}

/// Whom the URL connects to.
fn host_of(url: &Url) -> (Option<String>, Option<u16>) {
    (
        url.host_str().map(str::to_owned),
        url.port_or_known_default(),
    )
}

/// How often a URL is tried again, and how long is waited before.
struct Patience {
    left: u32,
    pause: Duration,
    first_pause: Duration,
    attempts: u32,
}

impl Patience {
    fn new(fetcher: &Fetcher) -> Self {
        Self {
            left: fetcher.attempts,
            pause: fetcher.backoff,
            first_pause: fetcher.backoff,
            attempts: fetcher.attempts,
        }
    }

    /// The pause before the next attempt; none when there is to be no other.
    fn pause(&mut self, failure: &Failure, brought: u64) -> Option<Duration> {
        let again = matches!(
            failure,
            Failure::Transient(_)
                | Failure::NotTheRest(_)
                | Failure::Unreachable { waited: false, .. }
        );
        if !again {
            return None;
        }
        if brought >= WORTHWHILE {
            self.left = self.attempts;
            self.pause = self.first_pause;
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return None;
        }
        let pause = self.pause.mul_f64(0.5 + fastrand::f64());
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests;
