//! Renewing from a server of this host, with a key of this test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::catalog::CatalogName;
use pgp::composed::{
    DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::types::Password;

use super::Refresher;
use super::error::RefreshError;
use super::pins_file::Entry;
use super::signature::PinnedKey;
use super::web::Web;

type Files = HashMap<String, Vec<u8>>;

/// Serves files until the process ends.
fn serve(files: Files) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let files = Arc::new(files);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, files) = (stream.expect("a client"), Arc::clone(&files));
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
                let request = lines.next().expect("a request").expect("text");
                for line in lines.map_while(Result::ok) {
                    if line.is_empty() {
                        break;
                    }
                }
                let mut words = request.split(' ');
                let (method, path) = (words.next(), words.next().unwrap_or_default());
                let (status, body) = match files.get(path) {
                    Some(body) => ("200 OK", body.as_slice()),
                    None => ("404 Not Found", b"".as_slice()),
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
                );
                let body = if method == Some("HEAD") { b"" } else { body };
                // The client may be gone already.
                let _ = stream.write_all(&[head.as_bytes(), body].concat());
            });
        }
    });
    format!("http://{address}")
}

fn key() -> SignedSecretKey {
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_sign(true)
        .can_certify(true)
        .primary_user_id("harmony-test-publisher".into())
        .build()
        .expect("parameters")
        .generate(rand::thread_rng())
        .expect("a key")
}

fn sign(key: &SignedSecretKey, hash: HashAlgorithm, content: &[u8]) -> Vec<u8> {
    let key = &key.primary_key;
    let signature = DetachedSignature::sign_binary_data(
        rand::thread_rng(),
        key,
        &Password::empty(),
        hash,
        content,
    );
    signature
        .expect("signed")
        .to_armored_bytes(Default::default())
        .expect("armoured")
}

const INDEX: &str = "/releases/noble/";

/// A release of Ubuntu in which each image has this size.
fn add_release(files: &mut Files, dir: &str, key: &SignedSecretKey, size: usize) {
    let name = |arch: &str| format!("ubuntu-24.04-server-cloudimg-{arch}.img");
    let digest = |arch: &str| format!("{:02x}", size % 256 + arch.len() % 2).repeat(32);
    let line = |arch: &str| format!("{} *{}\n", digest(arch), name(arch));
    let sums = [line("amd64"), line("arm64")].concat();
    let base = format!("{INDEX}{dir}/");
    for arch in ["amd64", "arm64"] {
        files.insert(format!("{base}{}", name(arch)), vec![0; size]);
    }
    let signature = sign(key, HashAlgorithm::Sha512, sums.as_bytes());
    files.insert(format!("{base}SHA256SUMS.gpg"), signature);
    files.insert(format!("{base}SHA256SUMS"), sums.into_bytes());
}

fn published(key: &SignedSecretKey) -> Files {
    let index =
        r#"<a href="release-20260901/"> <a href="release-20261001/"> <a href="release-20260826/">"#;
    let mut files = Files::from([(INDEX.to_owned(), index.into())]);
    add_release(&mut files, "release-20260901", key, 100);
    add_release(&mut files, "release-20261001", key, 200);
    files
}

async fn renew(files: Files, key: &SignedSecretKey) -> Result<Vec<Entry>, RefreshError> {
    let name = CatalogName::Ubuntu2404;
    let public = SignedPublicKey::from(key.clone());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("key.asc");
    let armoured = public
        .to_armored_bytes(Default::default())
        .expect("armoured");
    std::fs::write(&path, armoured).expect("writable");
    let refresher = Refresher {
        web: Web::new(Some(&serve(files)))?,
        key: Some(PinnedKey::read(&path)?),
        accept_unsigned: false,
    };
    let before = VmArchitecture::ALL.map(|architecture| Entry::of_catalog(name, architecture));
    refresher.renew(name, &before).await
}

#[tokio::test]
async fn the_newest_signed_releases_become_the_pins() {
    let key = key();
    let entries = renew(published(&key), &key).await.expect("renewed");
    assert_eq!(entries.len(), 2);
    for entry in entries {
        let arch = entry.architecture.debian_name();
        let url = |day: &str| {
            format!(
                "https://cloud-images.ubuntu.com/releases/noble/release-{day}/ubuntu-24.04-server-cloudimg-{arch}.img"
            )
        };
        let urls: Vec<_> = entry.pins.iter().map(|pin| pin.url.clone()).collect();
        assert_eq!(urls, [url("20261001"), url("20260901")]);
        assert_eq!(entry.pins[0].size, Some(200));
        assert_eq!(entry.pins[1].size, Some(100));
        assert_eq!(
            entry.pins[0].digest,
            format!("{:02x}", 200 + arch.len() % 2).repeat(32)
        );
    }
}

type Tamper = fn(&mut Files, &SignedSecretKey);

const SUMS: &str = "/releases/noble/release-20261001/SHA256SUMS";
const SIGNATURE: &str = "/releases/noble/release-20261001/SHA256SUMS.gpg";

#[tokio::test]
async fn sums_that_nobody_vouches_for_renew_nothing() {
    let table: [(&str, Tamper, &str); 7] = [
        (
            "changed sums",
            |files, _| {
                files.get_mut(SUMS).expect("there")[0] ^= 1;
            },
            "BadSignature",
        ),
        (
            "another's signature",
            |files, _| {
                let signature = sign(&key(), HashAlgorithm::Sha512, &files[SUMS]);
                files.insert(SIGNATURE.to_owned(), signature);
            },
            "BadSignature",
        ),
        (
            "no signature at all",
            |files, _| {
                files.insert(SIGNATURE.to_owned(), b"<html>".to_vec());
            },
            "BadSignature",
        ),
        (
            "a missing signature",
            |files, _| {
                files.remove(SIGNATURE);
            },
            "Status",
        ),
        (
            "signed before the release was made",
            |files, key| {
                let index = r#"<a href="release-21001001/">"#;
                files.insert(INDEX.to_owned(), index.into());
                add_release(files, "release-21001001", key, 7);
            },
            "before the release of 21001001",
        ),
        (
            "sums without the image",
            |files, key| {
                files.insert(SUMS.to_owned(), b"x".to_vec());
                files.insert(SIGNATURE.to_owned(), sign(key, HashAlgorithm::Sha256, b"x"));
            },
            "NotInSums",
        ),
        (
            "an index without releases",
            |files, _| {
                files.insert(INDEX.to_owned(), b"<html>".to_vec());
            },
            "NoReleases",
        ),
    ];
    for (name, tamper, expected) in table {
        let key = key();
        let mut files = published(&key);
        tamper(&mut files, &key);
        let error = renew(files, &key).await.expect_err(name);
        let text = format!("{error:?}");
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[tokio::test]
async fn unsigned_sums_count_only_when_that_was_accepted() {
    let name = CatalogName::Debian12;
    let file = |arch: &str| format!("debian-12-genericcloud-{arch}-20260901-1.qcow2");
    let dir = "/images/cloud/bookworm/20260901-1/";
    let line = |arch: &str| format!("{}  {}\n", "ab".repeat(64), file(arch));
    let mut files = Files::from([
        (
            "/images/cloud/bookworm/".to_owned(),
            br#"<a href="20260901-1/">"#.to_vec(),
        ),
        (
            format!("{dir}SHA512SUMS"),
            [line("amd64"), line("arm64")].concat().into_bytes(),
        ),
    ]);
    for arch in ["amd64", "arm64"] {
        files.insert(format!("{dir}{}", file(arch)), vec![0; 9]);
    }
    let before = VmArchitecture::ALL.map(|architecture| Entry::of_catalog(name, architecture));
    let mut refresher = Refresher {
        web: Web::new(Some(&serve(files))).expect("a client"),
        key: None,
        accept_unsigned: false,
    };
    let error = refresher.renew(name, &before).await.expect_err("unsigned");
    assert!(matches!(error, RefreshError::Unsigned { .. }), "{error:?}");
    refresher.accept_unsigned = true;
    let after = refresher.renew(name, &before).await.expect("accepted");
    assert_eq!(after[0].pins[0].digest, "ab".repeat(64));
    // The only release there: the pin from before stays behind it.
    assert_eq!(after[0].pins[1..], before[0].pins);
}
