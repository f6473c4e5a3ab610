//! Fetches a program over HTTPS: as many bytes as were signed for, and not for ever.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use iot_contracts::{AgentRelease, Hex};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::durable;
/// How many pieces may wait for the disk.
const PIECES: usize = 4;

/// How long is waited for a server.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For its answer.
    pub answer: Duration,
    /// For each piece of the program.
    pub piece: Duration,
    /// For all of it.
    pub whole: Duration,
}

impl Patience {
    /// For slow lines: a program of 6 MB takes half an hour at 30 kbit/s.
    pub const SLOW: Self = Self {
        answer: Duration::from_secs(30),
        piece: Duration::from_secs(60),
        whole: Duration::from_secs(3600),
    };
}

/// A program that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The certificates of the authorities cannot be read.
    #[error("cannot read the certificates '{path}' (expected PEM)")]
    Certificates {
        /// Where they are.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The URL is none.
    #[error("the release's URL is none (expected https://HOST[:PORT]/PATH)")]
    Url,
    /// There is no connection to the server that TLS trusts.
    #[error("no trusted connection to '{server}'")]
    Connect {
        /// Its name and port.
        server: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("the transfer broke off")]
    Broken(#[from] hyper::Error),
    /// The server has something else to say. Redirections are not followed.
    #[error("the server answers with status {0} (expected 200)")]
    Status(StatusCode),
    /// Nothing came.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// It came too slowly.
    #[error("it did not come within {} s", .0.as_secs())]
    Slow(Duration),
    /// It ended early, or goes on.
    #[error("{found} bytes came (expected {expected})")]
    Size {
        /// How many came until it ended, or was left.
        found: u64,
        /// How many were signed for.
        expected: u64,
    },
    /// It is something else.
    #[error("what came has digest {found} (expected {expected})")]
    OtherProgram {
        /// Its digest.
        found: Hex<32>,
        /// What was signed for.
        expected: Hex<32>,
    },
    /// It cannot be written.
    #[error("cannot write '{path}'")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// Whether another try would be in vain: the server has another program there, or there can be no server.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::OtherProgram { .. } | Self::Url)
    }
}

/// Fetches the program of `release` to `path`, from a server that the authorities in the file `ca` vouch for, or the
/// system's. What was not complete is removed. `turn` is kept until nothing is written to `path` any more, also where this is
/// dropped before.
///
/// # Errors
///
/// [`FetchError`]: it is not there.
pub async fn fetch(
    release: &AgentRelease,
    ca: Option<&Path>,
    path: &Path,
    patience: Patience,
    turn: impl Send + 'static,
) -> Result<(), FetchError> {
    let (pieces, to_write) = mpsc::channel(PIECES);
    let (target, size) = (path.to_owned(), release.size());
    let sha256 = release.sha256();
    // The disk may be slow, and nothing else waits for it.
    let written = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        write(&target, size, sha256, to_write)
    });
    let received = timeout(patience.whole, receive(release, ca, pieces, patience)).await;
    let received = received.unwrap_or(Err(FetchError::Slow(patience.whole)));
    let written = written.await.unwrap_or_else(|error| {
        Err(FetchError::Write {
            path: path.to_owned(),
            source: io::Error::other(error),
        })
    });
    // What ended the transfer comes before what it left.
    match (received, written) {
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    }
}

async fn receive(
    release: &AgentRelease,
    ca: Option<&Path>,
    pieces: mpsc::Sender<Bytes>,
    patience: Patience,
) -> Result<(), FetchError> {
    let answer = timeout(patience.answer, ask(release.url().as_str(), ca)).await;
    let (response, _driver) = answer.map_err(|_| FetchError::Silent(patience.answer))??;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let (mut body, expected) = (response.into_body(), release.size());
    let mut found = 0;
    loop {
        let next = timeout(patience.piece, body.frame()).await;
        let Some(frame) = next.map_err(|_| FetchError::Silent(patience.piece))? else {
            break;
        };
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        found += piece.len() as u64;
        if found > expected {
            break;
        }
        // Where the disk takes no more, the writer says why.
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
    match found == expected {
        true => Ok(()),
        false => Err(FetchError::Size { found, expected }),
    }
}

/// Asks for the program; the connection lives as long as what comes second.
async fn ask(
    url: &str,
    ca: Option<&Path>,
) -> Result<(Response<Incoming>, JoinSet<()>), FetchError> {
    let url: Uri = url.parse().map_err(|_| FetchError::Url)?;
    let (Some(authority), Some(host)) = (url.authority(), url.host()) else {
        return Err(FetchError::Url);
    };
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| FetchError::Url)?;
    let tls = TlsConnector::from(Arc::new(client_config(ca)?));
    let connect = |source| FetchError::Connect {
        server: authority.to_string(),
        source,
    };
    let port = url.port_u16().unwrap_or(443);
    let stream = TcpStream::connect((bare, port)).await.map_err(connect)?;
    let stream = tls.connect(name, stream).await.map_err(connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async {
        // The other half tells of it.
        let _ = connection.await;
    });
    let request = Request::get(path).header(HOST, authority.as_str());
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|_| FetchError::Url)?;
    Ok((sender.send_request(request).await?, driver))
}

fn client_config(ca: Option<&Path>) -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let failed = |source| FetchError::Certificates {
                path: path.to_owned(),
                source,
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                let certificate = certificate.map_err(failed)?;
                roots
                    .add(certificate)
                    .map_err(|_| failed(pem::Error::NoItemsFound))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| FetchError::Url)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Writes what comes to `path`, where it is a program afterwards; what is not complete is removed.
fn write(
    path: &Path,
    size: u64,
    sha256: Hex<32>,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<(), FetchError> {
    let written = (|| {
        let failed = |source| FetchError::Write {
            path: path.to_owned(),
            source,
        };
        let mut file = durable::create(path, 0o700).map_err(failed)?;
        let (mut digest, mut found) = (Sha256::new(), 0);
        while let Some(piece) = pieces.blocking_recv() {
            file.write_all(&piece).map_err(failed)?;
            digest.update(&piece);
            found += piece.len() as u64;
        }
        if found != size {
            let expected = size;
            return Err(FetchError::Size { found, expected });
        }
        let found = <[u8; 32]>::from(digest.finalize()).into();
        if found != sha256 {
            let expected = sha256;
            return Err(FetchError::OtherProgram { found, expected });
        }
        file.sync_all().map_err(failed)
    })();
    if written.is_err()
        && let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "what was fetched in part stays");
    }
    written
}
