//! A private certificate authority in a registry's directory, and the certificate that the server shows.
//!
//! ```text
//! nats-authority.pem   the authority's key and certificate; it never leaves this machine
//! nats-ca.pem          the certificate alone, for everybody who shall believe the server
//! nats-server.pem      the server's key and certificate; its configuration names this file twice
//! ```
//! A key and its certificate are in one file, so that no crash leaves one without the other.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tracing::info;

use super::RegistryError;
use crate::modules::iot::device::ServerCa;
use crate::modules::iot::own_files;
use crate::modules::iot::platform::Cause;

const AUTHORITY: &str = "nats-authority.pem";
const CA: &str = "nats-ca.pem";
const SERVER: &str = "nats-server.pem";

/// What the server is called on its own machine, and is always named.
const OWN_NAMES: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority counts. Whoever believes it gets another one only by being set up again.
const AUTHORITY_VALID: Duration = DAY.saturating_mul(3650);
/// How long the server's certificate counts.
const SERVER_VALID: Duration = DAY.saturating_mul(365);
/// It is made anew when it counts for less than this, a third.
const RENEWED_BEFORE: Duration = DAY.saturating_mul(121);

/// The certificate that the server is believed by.
pub(super) fn ca_file(dir: &Path) -> PathBuf {
    dir.join(CA)
}

/// The server's key and its certificate.
pub(super) fn server_file(dir: &Path) -> PathBuf {
    dir.join(SERVER)
}

/// A name of a server as it is kept: an address in its one form, and a host in small letters.
pub(super) fn name(given: &str) -> Result<String, RegistryError> {
    let name = match given.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => given.trim_end_matches('.').to_ascii_lowercase(),
    };
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => Err(RegistryError::ServerName {
            name: given.to_owned(),
        }),
    }
}

/// Has the server's file in `dir` hold a certificate for all of `names` and for its own machine's that counts for long
/// enough, and returns whether it was made. The directory is the caller's alone meanwhile.
pub(super) fn ensure(
    dir: &Path,
    names: &BTreeSet<String>,
    now: SystemTime,
) -> Result<bool, RegistryError> {
    let authority = Authority::ensure(&dir.join(AUTHORITY), now)?;
    authority.publish(&ca_file(dir))?;
    let own_names = OWN_NAMES.map(str::to_owned);
    let names: BTreeSet<String> = names.iter().cloned().chain(own_names).collect();
    let path = server_file(dir);
    match fs::read(&path) {
        Ok(pem) => match authority.check(&pem, &names, now + RENEWED_BEFORE) {
            Ok(()) => return Ok(false),
            Err(reason) => info!(path = %path.display(), %reason, "the certificate is made anew"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file("read", &path)(error)),
    }
    let issued = authority.issue(&names, now);
    let pem = issued.map_err(|e| file("make", &path)(io::Error::other(e)))?;
    let checked = authority.check(pem.as_bytes(), &names, now);
    checked.map_err(|source| RegistryError::Authority {
        path: authority.path,
        source,
    })?;
    own_files::replace(&path, pem.as_bytes()).map_err(file("write", &path))?;
    Ok(true)
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RegistryError {
    let path = path.to_owned();
    move |source| RegistryError::File {
        action,
        path,
        source,
    }
}

struct Authority {
    path: PathBuf,
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// The one in a file, which is made when there is none.
    fn ensure(path: &Path, now: SystemTime) -> Result<Self, RegistryError> {
        own_files::make_once(path, || Self::make(now).map_err(io::Error::other))
            .map_err(file("make", path))?;
        let pem = own_files::read_secret(path).map_err(file("read", path))?;
        let unusable = |source: Cause| RegistryError::Authority {
            path: path.to_owned(),
            source,
        };
        // Each takes the first of its kind.
        let key = KeyPair::from_pem(&pem).map_err(|e| unusable(e.into()))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
        Ok(Self {
            certificate: certificate.map_err(|e| unusable(e.into()))?,
            path: path.to_owned(),
            key,
        })
    }

    fn make(now: SystemTime) -> Result<String, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = authority_params(&key, now).self_signed(&key)?;
        Ok(key.serialize_pem() + &certificate.pem())
    }

    /// Has everybody read the certificate, and nothing else.
    fn publish(&self, path: &Path) -> Result<(), RegistryError> {
        let ca = ServerCa::of(std::slice::from_ref(&self.certificate));
        if fs::read(path).is_ok_and(|there| there == ca.as_pem().as_bytes()) {
            return Ok(());
        }
        own_files::publish(path, ca.as_pem().as_bytes()).map_err(file("write", path))
    }

    /// A new key, and a certificate for it.
    fn issue(&self, names: &BTreeSet<String>, now: SystemTime) -> Result<String, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params("nats-server", now + SERVER_VALID);
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                Ok(match name.parse() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(name.as_str().try_into()?),
                })
            })
            .collect::<Result<_, rcgen::Error>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let authority = authority_params(&self.key, now);
        let issuer = Issuer::from_params(&authority, &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(key.serialize_pem() + &certificate.pem())
    }

    /// Whether a file holds a key and a certificate of this authority for it, which whoever believes the authority takes
    /// for each of the names at that time.
    fn check(&self, pem: &[u8], names: &BTreeSet<String>, at: SystemTime) -> Result<(), Cause> {
        let shown = CertificateDer::from_pem_slice(pem)?;
        let key = PrivateKeyDer::from_pem_slice(pem)?;
        let provider = Arc::new(ring::default_provider());
        CertifiedKey::from_der(vec![shown.clone()], key, &provider)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let verifier = verifier.build()?;
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH)?);
        for name in names {
            let name = ServerName::try_from(name.as_str())?;
            verifier.verify_server_cert(&shown, &[], &name, &[], at)?;
        }
        Ok(())
    }
}

/// The authority is called after its key: two of them are two. Whoever has the key can tell the name.
fn authority_params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    let digest = Sha256::digest(key.public_key_raw());
    let id = HEXLOWER.encode(&digest[..8]);
    let name = format!("harmony's authority for NATS {id}");
    let mut params = params(&name, now + AUTHORITY_VALID);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn params(name: &str, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // A device that lost the time with its power is years behind until the network tells it.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = OffsetDateTime::from(until);
    params
}

#[cfg(test)]
mod tests;
