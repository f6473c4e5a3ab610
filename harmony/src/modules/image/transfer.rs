//! One attempt to get a file: from the network or from this host to an unfinished file, hashed on the way.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::digest::{ImageDigest, ImageHasher};
use super::error::ImageError;
use super::source::PinnedUrl;
use super::store::{PartFile, ensure_space, io_error};

/// Why an attempt failed, and so what may be done next.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file is not published any more.
    Gone,
    /// The host cannot be connected to; `waited` when the connection's time bound was used up.
    Unreachable {
        source: reqwest::Error,
        waited: bool,
    },
    /// The same attempt may succeed later.
    Transient(ImageError),
    /// The same attempt will fail again.
    Fatal(ImageError),
}

/// How long an attempt may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For a connection, name resolution and TLS included.
    pub(super) connect: Duration,
    /// For the next byte.
    pub(super) stall: Duration,
}

/// Bytes in flight between the network and the disk: at most this many chunks.
const QUEUE: usize = 16;
const COPY_BUFFER: usize = 1024 * 1024;
/// Stays free beside the file.
const SPACE_MARGIN: u64 = 64 * 1024 * 1024;

/// Gets `pin` into `part` and returns what it hashes to; the data is durable then.
pub(super) async fn transfer(
    pin: &PinnedUrl,
    part: &PartFile,
    bounds: Bounds,
) -> Result<ImageDigest, Failure> {
    let file = part.create().map_err(Failure::Fatal)?;
    let sink = HashingFile {
        file,
        hasher: pin.digest().hasher(),
    };
    match pin.url().to_file_path() {
        Ok(path) if pin.url().scheme() == "file" => copy_local(&path, part.path(), sink).await,
        _ => download(pin, part.path(), sink, bounds).await,
    }
}

struct HashingFile {
    file: File,
    hasher: ImageHasher,
}

impl HashingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.hasher.update(data);
        self.file.write_all(data)
    }

    fn finish(self) -> io::Result<ImageDigest> {
        self.file.sync_all()?;
        Ok(self.hasher.finish())
    }
}

async fn copy_local(from: &Path, to: &Path, mut sink: HashingFile) -> Result<ImageDigest, Failure> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let copy = move || {
        let mut source = File::open(&from).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Failure::Gone,
            _ => Failure::Fatal(io_error("open", &from, source)),
        })?;
        let mut buffer = vec![0; COPY_BUFFER];
        loop {
            let read = source
                .read(&mut buffer)
                .map_err(|source| Failure::Fatal(io_error("read", &from, source)))?;
            if read == 0 {
                break;
            }
            sink.write(&buffer[..read])
                .map_err(|source| Failure::Fatal(io_error("write", &to, source)))?;
        }
        sink.finish()
            .map_err(|source| Failure::Fatal(io_error("write", &to, source)))
    };
    tokio::task::spawn_blocking(copy)
        .await
        .map_err(|source| Failure::Fatal(worker_error(source)))?
}

async fn download(
    pin: &PinnedUrl,
    part: &Path,
    sink: HashingFile,
    bounds: Bounds,
) -> Result<ImageDigest, Failure> {
    let failed = |received, error| classify(pin, received, bounds.stall, error);
    let client = client(bounds).map_err(Failure::Fatal)?;
    let mut response = client
        .get(pin.url().clone())
        .send()
        .await
        .map_err(|error| failed(0, error))?;
    check_status(pin, response.status())?;
    if let (Some(length), Some(dir)) = (response.content_length(), part.parent()) {
        ensure_space(dir, length.saturating_add(SPACE_MARGIN)).map_err(Failure::Fatal)?;
    }
    let mut writer = Writer::spawn(sink);
    let mut received = 0;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failed(received, error))?
    {
        received += chunk.len() as u64;
        if !writer.send(chunk).await {
            break;
        }
    }
    writer.finish(part).await.map_err(Failure::Fatal)
}

/// Hashes and writes on a thread of its own, so that neither waits for the network nor it for them.
struct Writer<B> {
    chunks: mpsc::Sender<B>,
    thread: JoinHandle<io::Result<ImageDigest>>,
}

impl<B: AsRef<[u8]> + Send + 'static> Writer<B> {
    fn spawn(mut sink: HashingFile) -> Self {
        let (chunks, mut queue) = mpsc::channel::<B>(QUEUE);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = queue.blocking_recv() {
                sink.write(chunk.as_ref())?;
            }
            sink.finish()
        });
        Self { chunks, thread }
    }

    /// False when the thread has failed; [`Self::finish`] then says how.
    async fn send(&mut self, chunk: B) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    async fn finish(self, part: &Path) -> Result<ImageDigest, ImageError> {
        drop(self.chunks);
        self.thread
            .await
            .map_err(worker_error)?
            .map_err(|source| io_error("write", part, source))
    }
}

fn worker_error(source: tokio::task::JoinError) -> ImageError {
    ImageError::Worker {
        task: "write the image",
        source: Box::new(source),
    }
}

fn client(bounds: Bounds) -> Result<Client, ImageError> {
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
}

fn check_status(pin: &PinnedUrl, status: StatusCode) -> Result<(), Failure> {
    let refused = || ImageError::HttpStatus {
        url: pin.to_string(),
        status: status.as_u16(),
    };
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Failure::Gone),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(Failure::Transient(refused()))
        }
        status if status.is_server_error() => Err(Failure::Transient(refused())),
        _ => Err(Failure::Fatal(refused())),
    }
}

fn classify(pin: &PinnedUrl, received: u64, stall: Duration, error: reqwest::Error) -> Failure {
    // The URL is in our own message, without its secrets.
    let error = error.without_url();
    let url = pin.to_string();
    if is_tls(&error) {
        return Failure::Fatal(ImageError::Tls {
            url,
            source: Box::new(error),
        });
    }
    if error.is_connect() {
        return Failure::Unreachable {
            waited: error.is_timeout(),
            source: error,
        };
    }
    if error.is_timeout() {
        return Failure::Transient(ImageError::Stalled {
            url,
            received,
            bound: stall,
        });
    }
    let lasting = error.is_redirect() || error.is_builder();
    let broken = ImageError::Transfer {
        url,
        received,
        source: Box::new(error),
    };
    if lasting {
        Failure::Fatal(broken)
    } else {
        Failure::Transient(broken)
    }
}

/// Whether the TLS library is among the causes: the host was reached and is not who it should be.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error that wraps another does not name it as its source.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || wrapped.is_some_and(|e| e.is::<rustls::Error>()) {
            return true;
        }
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
