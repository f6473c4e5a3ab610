//! A certificate for the servers, and the authority that it is believed by.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The authority's certificate, and the servers' key with their certificate.
pub struct Certificates {
    pub ca: PathBuf,
    pub server: PathBuf,
}

impl Certificates {
    /// As a registry of the platform makes them, for servers at `host`.
    pub fn make(dir: &Path, host: &str) -> Self {
        let made = Self {
            ca: dir.join("ca.pem"),
            server: dir.join("server.pem"),
        };
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&authority).unwrap();
        std::fs::write(&made.ca, certificate.pem()).unwrap();
        let issuer = Issuer::from_params(&params, &authority);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(&made.server, key.serialize_pem() + &certificate.pem()).unwrap();
        made
    }
}
