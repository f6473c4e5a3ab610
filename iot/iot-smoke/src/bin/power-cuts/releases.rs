//! Who releases the agent: a key, a certificate, and a server of programs.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::iot::device::released_program;
use harmony::modules::iot::operator::Operator;
use iot_contracts::{AgentRelease, Hex, OperatorKey};
use iot_smoke::Failure;
use iot_smoke::deployment::as_guest_sees;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// The longest request that is read, in bytes.
const MAX_REQUEST: usize = 4096;

/// A server of releases, which ends when this is dropped.
pub(crate) struct Releases {
    /// Its address as the guest sees it.
    authority: String,
    releaser: Operator,
    served: PathBuf,
    /// The certificate that vouches for the server, as PEM.
    pub(crate) certificate: String,
    /// How many there were.
    count: u64,
    _serving: JoinSet<()>,
}

impl Releases {
    /// Serves on `ip`, with its files below `dir`, for a guest with this default gateway.
    ///
    /// # Errors
    /// When there is no certificate to be had, or no port.
    pub(crate) async fn start(
        dir: &Path,
        ip: IpAddr,
        gateway: Option<&str>,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await?;
        let authority = as_guest_sees(&listener.local_addr()?.to_string(), gateway)?;
        let host = authority
            .rsplit_once(':')
            .ok_or("an address without a port")?
            .0;
        let (key, certificate) = certificate(dir, host).await?;
        let acceptor = acceptor(&key, &certificate)?;
        let served = dir.join("releases");
        std::fs::create_dir(&served)?;
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, acceptor, served.clone()));
        Ok(Self {
            authority,
            releaser: Operator::ensure(&dir.join("release.seed"))?,
            served,
            certificate: std::fs::read_to_string(certificate)?,
            count: 0,
            _serving: serving,
        })
    }

    /// The public half of the key that signs.
    pub(crate) fn key(&self) -> &OperatorKey {
        self.releaser.key()
    }

    /// Releases another build of `program`: nobody reads what comes after it.
    ///
    /// # Errors
    /// When it cannot be written where it is served.
    pub(crate) fn next(
        &mut self,
        program: &[u8],
        arch: VmArchitecture,
    ) -> Result<AgentRelease, Failure> {
        self.count += 1;
        let mut program = program.to_vec();
        program.extend(self.count.to_be_bytes());
        let name = format!("agent-{}", self.count);
        let path = self.served.join(&name);
        std::fs::write(&path, &program)?;
        let url = format!("https://{}/{name}", self.authority).parse()?;
        Ok(self
            .releaser
            .release(&released_program(&path, arch, url)?)?)
    }
}

/// The digest of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hex<32> {
    <[u8; 32]>::from(Sha256::digest(bytes)).into()
}

/// A new certificate that vouches for itself: the files with its key and with it.
async fn certificate(dir: &Path, host: &str) -> Result<(PathBuf, PathBuf), Failure> {
    let (key, certificate) = (dir.join("releases.key"), dir.join("releases.pem"));
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=releases \
        -addext basicConstraints=critical,CA:false -addext";
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .arg(format!("subjectAltName=IP:{host}"))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stdin(Stdio::null())
        .output()
        .await?;
    match output.status.success() {
        true => Ok((key, certificate)),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

fn acceptor(key: &Path, certificate: &Path) -> Result<TlsAcceptor, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, files: PathBuf) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(acceptor.clone(), stream, files.clone()));
                }
                Err(error) => tracing::warn!(%error, "a connection for a release was not accepted"),
            },
            Some(served) = connections.join_next() => {
                // That a client goes away in the middle of it is what this is about.
                debug!(?served, "a connection for a release ended");
            }
        }
    }
}

/// Answers one request with the file that it names.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, files: PathBuf) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < MAX_REQUEST {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let name = request.split([' ', '/']).nth(2).unwrap_or_default();
    let program = std::fs::read(files.join(name))?;
    let length = program.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&program).await?;
    stream.shutdown().await
}
