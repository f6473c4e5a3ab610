//! The certificate that a running server shows, as who connects to it sees it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iot_contracts::NatsUrl;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::modules::iot::platform::Cause;

/// How long a server is left alone that does not show it yet.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest first line of a server, in bytes.
const FIRST_LINE: u64 = 64 << 10;

/// Looks at what servers show to who believes an authority.
pub(super) struct Looker {
    connector: TlsConnector,
    /// The certificate that they are to show.
    expected: CertificateDer<'static>,
}

impl Looker {
    /// Believes the certificates of the file `ca`, and no other, and expects the one of the file `server`: a server that
    /// was not told of a new one shows the one before, which ends sooner.
    pub(super) fn new(ca: &Path, server: &Path) -> Result<Self, Cause> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            expected: CertificateDer::from_pem_file(server)?,
        })
    }

    /// Whether the server of a URL shows the certificate, and that is one for `name`, whatever the URL calls it. One to which there is no
    /// connection has no say: who uses it next is told.
    ///
    /// # Errors
    /// Why what it shows is not taken.
    pub(super) async fn look(&self, url: &NatsUrl, name: &str) -> Result<(), Cause> {
        let name = ServerName::try_from(name.to_owned())?;
        match TcpStream::connect(url.host_and_port()).await {
            Ok(stream) => Ok(self.shake_hands(stream, name).await?),
            Err(error) => {
                debug!(%url, %error, "no connection");
                Ok(())
            }
        }
    }

    /// Waits until the server shows it.
    ///
    /// # Errors
    /// Why it was not taken the last time, when it is not within `bound`.
    pub(super) async fn wait(
        &self,
        url: &NatsUrl,
        name: &str,
        bound: Duration,
    ) -> Result<(), Cause> {
        let deadline = Instant::now() + bound;
        let mut last = Cause::from("nothing was heard of it");
        loop {
            match timeout_at(deadline, self.look(url, name)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => last = error,
                Err(_) => return Err(last),
            }
            let next = Instant::now() + PAUSE;
            if next >= deadline {
                return Err(last);
            }
            sleep_until(next).await;
        }
    }

    /// The server speaks first, one line in plain text, and then TLS.
    async fn shake_hands(&self, stream: TcpStream, name: ServerName<'static>) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        let mut first = (&mut stream).take(FIRST_LINE);
        first.read_until(b'\n', &mut line).await?;
        if !line.starts_with(b"INFO ") || !line.ends_with(b"\n") {
            return Err(io::Error::other("its first line is not a nats-server's"));
        }
        let mut secure = self.connector.connect(name, stream.into_inner()).await?;
        let shown = secure.get_ref().1.peer_certificates();
        let is_it = shown.and_then(|shown| shown.first()) == Some(&self.expected);
        secure.shutdown().await?;
        match is_it {
            true => Ok(()),
            false => Err(io::Error::other(
                "it shows another certificate of the authority",
            )),
        }
    }
}
