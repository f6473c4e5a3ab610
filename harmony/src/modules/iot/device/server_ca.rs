//! The authorities that a device believes servers by.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::domain::error::{ErrorKind, HintedError};

/// Where the certificates of the NATS server's authority are on a device.
pub const NATS_CA: &str = "/etc/iot-agent/nats-ca.pem";
/// Where those of the authority of the servers of releases are.
pub const RELEASES_CA: &str = "/etc/iot-agent/releases-ca.pem";

/// How many characters a line of PEM has.
const LINE: usize = 64;

/// What can be wrong with a file of an authority's certificates.
#[derive(Debug, thiserror::Error)]
pub enum ServerCaError {
    /// It cannot be read.
    #[error("cannot read the authority's certificates '{path}'")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is none in it.
    #[error("'{path}' has no certificate (expected one or more in PEM, of the server's authority)")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// One cannot be used.
    #[error(
        "certificate {number} in '{path}' cannot be used (expected PEM, of the server's authority)"
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Which one, from 1 on.
        number: usize,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl HintedError for ServerCaError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidRequest
    }

    fn hint(&self) -> Option<String> {
        Some(
            "name the file with the certificate that signed the server's: its text begins with \
             '-----BEGIN CERTIFICATE-----'"
                .to_owned(),
        )
    }
}

/// The certificates of the authority that a server is believed by, and nothing else: a key that lies in the same
/// file is not taken along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCa {
    pem: String,
}

impl ServerCa {
    /// What a file of PEM has.
    ///
    /// # Errors
    /// [`ServerCaError`]: it cannot be read, or has no certificate, or one that cannot be used.
    pub fn read(path: &Path) -> Result<Self, ServerCaError> {
        let text = fs::read(path).map_err(|source| ServerCaError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut usable = RootCertStore::empty();
        let mut certificates = Vec::new();
        for (before, certificate) in CertificateDer::pem_slice_iter(&text).enumerate() {
            let cannot = |source| ServerCaError::Certificate {
                path: path.to_owned(),
                number: before + 1,
                source,
            };
            let certificate = certificate.map_err(|e| cannot(e.into()))?;
            let added = usable.add(certificate.clone());
            added.map_err(|e| cannot(e.into()))?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(ServerCaError::NoCertificate {
                path: path.to_owned(),
            });
        }
        Ok(Self::of(&certificates))
    }

    /// These certificates.
    pub(crate) fn of(certificates: &[CertificateDer<'_>]) -> Self {
        Self {
            pem: certificates.iter().map(pem).collect(),
        }
    }

    /// The certificates as PEM.
    pub fn as_pem(&self) -> &str {
        &self.pem
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (column, letter) in BASE64.encode(certificate).chars().enumerate() {
        if column > 0 && column % LINE == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text + "\n-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ServerCa, ServerCaError};

    #[test]
    fn certificates_are_taken_and_keys_are_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("ca.pem");
        let made =
            |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
        let [one, two] = ["a", "b"].map(made);
        let key = one.signing_key.serialize_pem();
        let text = format!("# ours\n{key}{}{}", one.cert.pem(), two.cert.pem());
        fs::write(&path, text.replace('\n', "\r\n")).expect("written");
        let ca = ServerCa::read(&path).expect("two certificates");
        let expected = format!("{}{}", one.cert.pem(), two.cert.pem());
        assert_eq!(ca.as_pem(), expected.replace("\r\n", "\n"));

        fs::write(&path, key).expect("written");
        let error = ServerCa::read(&path).expect_err("a key alone");
        assert!(
            matches!(error, ServerCaError::NoCertificate { .. }),
            "{error:?}"
        );
        let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&path, one.cert.pem() + wrong).expect("written");
        let error = ServerCa::read(&path).expect_err("the second is none");
        assert!(
            matches!(error, ServerCaError::Certificate { number: 2, .. }),
            "{error:?}"
        );
        fs::remove_file(&path).expect("there");
        let error = ServerCa::read(&path).expect_err("absent");
        assert!(
            matches!(error, ServerCaError::Unreadable { .. }),
            "{error:?}"
        );
        for part in ["ca.pem", "cannot read"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
