//! One attempt to get a file: from the network or from this host to an unfinished file, hashed on the way.
//!
//! An attempt goes on where the one before it ended, when the server has a strong validator and honours it.

mod answer;
mod failure;
mod partial;
mod unpack;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use harmony_base::blocking::{WorkerEnded, blocking};
use reqwest::{Client, Response, Url, header};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::ImageError;
use super::progress::{Meter, Progress};
use super::source::{PinnedUrl, public_form};
use super::store::{SPACE_MARGIN, ensure_space, io_error};
use answer::{Answer, Asked, Validator, judge};
use failure::classify;
use partial::Origin;

pub(super) use failure::Failure;
pub(super) use partial::{Complete, Partial};

/// How long an attempt may wait, and how much may come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For a connection, name resolution and TLS included.
    pub(super) connect: Duration,
    /// For the next byte; and for [`TRICKLE`] more.
    pub(super) stall: Duration,
    /// In bytes.
    pub(super) size: u64,
}

/// One of the URLs of a pin, and what has been learned of it.
pub(super) struct Source<'a> {
    pub(super) pin: &'a PinnedUrl,
    pub(super) url: &'a Url,
    /// Whether its answers to requests for a rest can be relied on.
    pub(super) ranges: bool,
}

/// A server that sends less than this in the time of a stall has stalled.
const TRICKLE: u64 = 4096;
/// Bytes in flight between the network and the disk: at most this many chunks.
const QUEUE: usize = 16;
/// What a worker does, for its error.
const TASK: &str = "write the image";
const COPY_BUFFER: usize = 1024 * 1024;
/// So often the free space is looked at where the length is not known.
const SPACE_CHECK: u64 = 64 << 20;

/// Gets what is missing of the file into `partial`, which comes back in any case, and writes it out.
pub(super) async fn transfer(
    client: &Client,
    source: &Source<'_>,
    partial: Partial,
    bounds: Bounds,
    progress: &dyn Progress,
) -> Result<(Partial, Result<Complete, Failure>), ImageError> {
    if partial.is_whole() {
        return complete(partial).await;
    }
    let (partial, result) = match source.url.to_file_path() {
        Ok(path) if source.url.scheme() == "file" => copy_local(source.url, &path, partial).await?,
        _ => {
            Download {
                client,
                source,
                bounds,
                progress,
                url: public_form(source.url),
            }
            .run(partial)
            .await?
        }
    };
    match result {
        Ok(()) => complete(partial).await,
        Err(failure) => Ok((partial, Err(failure))),
    }
}

type Outcome = (Partial, Result<(), Failure>);

async fn complete(
    mut partial: Partial,
) -> Result<(Partial, Result<Complete, Failure>), ImageError> {
    let work = move || {
        let complete = partial.complete().map_err(Failure::Fatal);
        (partial, complete)
    };
    Ok(blocking(TASK, work).await?)
}

async fn copy_local(url: &Url, from: &Path, mut partial: Partial) -> Result<Outcome, ImageError> {
    let (url, from) = (url.clone(), from.to_owned());
    let work = move || {
        let result = copy(&url, &from, &mut partial);
        (partial, result)
    };
    Ok(blocking(TASK, work).await?)
}

fn copy(url: &Url, from: &Path, partial: &mut Partial) -> Result<(), Failure> {
    partial.restart(None).map_err(Failure::Fatal)?;
    partial.set_url(url);
    let failed = |action, source| Failure::Fatal(io_error(action, from, source));
    let mut source = File::open(from).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Failure::Gone,
        _ => failed("open", source),
    })?;
    let length = source.metadata().map_err(|e| failed("read", e))?.len();
    if let Some(dir) = partial.path().parent() {
        ensure_space(dir, length.saturating_add(SPACE_MARGIN)).map_err(Failure::Fatal)?;
    }
    if partial.reflink(&source).map_err(Failure::Fatal)? {
        return Ok(());
    }
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let read = source.read(&mut buffer).map_err(|e| failed("read", e))?;
        if read == 0 {
            return Ok(());
        }
        partial
            .write(&buffer[..read])
            .map_err(|e| Failure::Fatal(partial.failed(e)))?;
    }
}

struct Download<'a> {
    client: &'a Client,
    source: &'a Source<'a>,
    bounds: Bounds,
    progress: &'a dyn Progress,
    /// Without secrets.
    url: String,
}

impl Download<'_> {
    async fn run(&self, mut partial: Partial) -> Result<Outcome, ImageError> {
        let origin = partial.resumable_from(self.source.url);
        let origin = origin.filter(|_| self.source.ranges).cloned();
        let response = match self.ask(&partial, origin.as_ref()).await {
            Ok(response) => response,
            Err(failure) => return Ok((partial, Err(failure))),
        };
        let asked = Asked {
            url: &self.url,
            size: self.source.pin.size(),
            rest: origin
                .as_ref()
                .map(|o| (partial.length(), &o.validator, o.length)),
        };
        let total = match judge(asked, response.status(), response.headers()) {
            Ok(Answer::Complete) => return Ok((partial, Ok(()))),
            Ok(Answer::Rest { total }) => {
                partial.go_on();
                total
            }
            Ok(Answer::Whole { total }) => {
                let origin = Validator::of(response.headers())
                    .map(|validator| Origin::new(self.source.url, validator, total));
                partial.set_url(self.source.url);
                partial.restart(origin)?;
                total
            }
            Err(failure) => return Ok((partial, Err(failure))),
        };
        if let (Some(total), Some(dir)) = (total, partial.path().parent()) {
            let missing = total.saturating_sub(partial.length());
            if let Err(error) = ensure_space(dir, missing.saturating_add(SPACE_MARGIN)) {
                return Ok((partial, Err(Failure::Fatal(error))));
            }
        }
        self.receive(response, partial, total).await
    }

    async fn ask(&self, partial: &Partial, origin: Option<&Origin>) -> Result<Response, Failure> {
        let mut request = self.client.get(self.source.url.clone());
        if let Some(origin) = origin {
            let range = format!("bytes={}-", partial.length());
            request = request
                .header(header::RANGE, range)
                .header(header::IF_RANGE, origin.validator.as_header());
        }
        request
            .send()
            .await
            .map_err(|error| classify(self.source.url, 0, self.bounds.stall, error))
    }

    /// Takes the body.
    async fn receive(
        &self,
        mut response: Response,
        partial: Partial,
        total: Option<u64>,
    ) -> Result<Outcome, ImageError> {
        let at = partial.length();
        let dir = partial.path().parent().map(Path::to_owned);
        let mut meter = Meter::start(self.progress, &self.url, at, total);
        let mut watch = Watch::new(self.bounds.stall);
        let mut writer = Writer::spawn(partial);
        let (mut received, mut checked) = (at, at);
        let result = loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break self.at_the_end(received, total),
                Err(error) => {
                    break Err(classify(
                        self.source.url,
                        received,
                        self.bounds.stall,
                        error,
                    ));
                }
            };
            let length = chunk.len() as u64;
            received += length;
            if let Err(failure) = self.not_too_much(received) {
                break Err(failure);
            }
            if !writer.send(chunk).await {
                break Ok(());
            }
            meter.moved(length);
            if watch.has_stalled(length, Instant::now()) {
                break Err(Failure::Transient(ImageError::Stalled {
                    url: self.url.clone(),
                    received,
                    bound: self.bounds.stall,
                }));
            }
            if total.is_none() && received - checked >= SPACE_CHECK {
                checked = received;
                let space = dir
                    .as_deref()
                    .map_or(Ok(()), |dir| ensure_space(dir, SPACE_MARGIN));
                if let Err(error) = space {
                    break Err(Failure::Fatal(error));
                }
            }
        };
        meter.settling();
        // What came is kept also when the transfer broke: the next attempt goes on behind it.
        let (partial, written) = writer.finish().await?;
        Ok((partial, written.map_err(Failure::Fatal).and(result)))
    }

    /// A body that ends too soon is cut, whatever the HTTP framing says.
    fn at_the_end(&self, received: u64, total: Option<u64>) -> Result<(), Failure> {
        match total {
            Some(total) if received < total => Err(Failure::Transient(ImageError::Transfer {
                url: self.url.clone(),
                received,
                source: format!("the body ended before its {total} bytes").into(),
            })),
            _ => Ok(()),
        }
    }

    fn not_too_much(&self, received: u64) -> Result<(), Failure> {
        let url = || self.url.clone();
        match self.source.pin.size() {
            Some(expected) if received > expected => Err(Failure::Refused(ImageError::WrongSize {
                url: url(),
                size: received,
                expected,
            })),
            _ if received > self.bounds.size => Err(Failure::Refused(ImageError::Endless {
                url: url(),
                bound: self.bounds.size,
            })),
            _ => Ok(()),
        }
    }
}

/// Notices a server that sends, but next to nothing.
struct Watch {
    bound: Duration,
    since: Instant,
    bytes: u64,
}

impl Watch {
    fn new(bound: Duration) -> Self {
        Self {
            bound,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn has_stalled(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes += bytes;
        if now.saturating_duration_since(self.since) < self.bound {
            return false;
        }
        let stalled = self.bytes < TRICKLE;
        (self.since, self.bytes) = (now, 0);
        stalled
    }
}

/// Hashes and writes on a thread of its own, so that neither waits for the network nor it for them. The
/// thread has the unfinished file until it ends, also when nobody waits for it any more.
struct Writer<B> {
    chunks: mpsc::Sender<B>,
    thread: JoinHandle<(Partial, Result<(), ImageError>)>,
}

impl<B: AsRef<[u8]> + Send + 'static> Writer<B> {
    fn spawn(mut partial: Partial) -> Self {
        let (chunks, mut queue) = mpsc::channel::<B>(QUEUE);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = queue.blocking_recv() {
                if let Err(error) = partial.write(chunk.as_ref()) {
                    let error = partial.failed(error);
                    return (partial, Err(error));
                }
            }
            (partial, Ok(()))
        });
        Self { chunks, thread }
    }

    /// False when the thread has failed; [`Self::finish`] then says how.
    async fn send(&mut self, chunk: B) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    async fn finish(self) -> Result<(Partial, Result<(), ImageError>), ImageError> {
        drop(self.chunks);
        let ended = self.thread.await;
        Ok(ended.map_err(|source| WorkerEnded { task: TASK, source })?)
    }
}

/// The HTTP client of a fetch. Redirects are followed up to ten times.
pub(super) async fn client(bounds: Bounds) -> Result<Client, ImageError> {
    // Reading the host's certificate authorities takes a while.
    let work = move || {
        // Fails when the process has a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .connect_timeout(bounds.connect)
            .read_timeout(bounds.stall)
            .user_agent(concat!("harmony/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ImageError::HttpClient {
                source: Box::new(source),
            })
    };
    blocking("read the certificate authorities", work).await?
}

#[cfg(test)]
mod tests;
