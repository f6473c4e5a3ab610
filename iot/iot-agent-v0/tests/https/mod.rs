//! A certificate for loopback, and a server's side of TLS with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// A new certificate that vouches for itself: the files with its key and with it.
pub fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (key, pem) = (
        dir.join(format!("{name}.key")),
        dir.join(format!("{name}.pem")),
    );
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:false";
    let made = Command::new("openssl")
        .args(arguments.split_whitespace())
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&pem)
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(made.success());
    (key, pem)
}

/// What a server with that certificate accepts connections by.
pub fn acceptor((key, pem): &(PathBuf, PathBuf)) -> TlsAcceptor {
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(pem).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
