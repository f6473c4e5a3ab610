//! Who releases the agent: a key, and a server of programs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use iot_contracts::{AgentRelease, Hex, OperatorKey, ReleasedProgram};
use nkeys::{KeyPair, KeyPairType};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::https::{acceptor, certificate};

/// The key.
fn pair() -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::Operator, [1; 32]).unwrap()
}

/// Its public half.
pub fn key() -> OperatorKey {
    pair().public_key().parse().unwrap()
}

pub fn sha256(program: &[u8]) -> Hex<32> {
    <[u8; 32]>::from(Sha256::digest(program)).into()
}

/// A release as JSON.
pub fn signed(serial: u64, program: &[u8], url: &str) -> String {
    let size = program.len().try_into().unwrap();
    let arch = std::env::consts::ARCH;
    let program = ReleasedProgram::new(arch, sha256(program), size, url.parse().unwrap());
    let release = AgentRelease::sign(serial, program.unwrap(), |text| {
        let signature = pair().sign(text).unwrap();
        Ok::<_, Infallible>(signature.try_into().unwrap())
    });
    serde_json::to_string(&release.unwrap()).unwrap()
}

/// A server of the files in a directory.
pub struct Releases {
    address: SocketAddr,
    served: PathBuf,
    ca: PathBuf,
}

impl Releases {
    /// Serves until the test's runtime ends.
    pub async fn start(dir: &Path) -> Self {
        let certificate = certificate(dir, "releases");
        let acceptor = acceptor(&certificate);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = dir.join("served");
        std::fs::create_dir(&served).unwrap();
        let files = served.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that is killed in the middle of it is what some tests are about.
                tokio::spawn(serve(acceptor.clone(), stream, files.clone()));
            }
        });
        Self {
            address,
            served,
            ca: certificate.1,
        }
    }

    /// Serves `program`; its URL.
    pub fn serve(&self, name: &str, program: &[u8]) -> String {
        std::fs::write(self.served.join(name), program).unwrap();
        format!("https://{}/{name}", self.address)
    }

    /// The certificate that vouches for it.
    pub fn ca(&self) -> &Path {
        &self.ca
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, files: PathBuf) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = [0; 1024];
    let length = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let name = request.split([' ', '/']).nth(2).unwrap_or_default();
    let program = std::fs::read(files.join(name))?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        program.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&program).await?;
    stream.shutdown().await
}
