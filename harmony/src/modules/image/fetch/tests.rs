//! Fetching from a server that misbehaves in one way at a time.

mod misbehaviour;
mod replies;
mod resuming;
mod server;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::net::TcpListener;

use super::Fetcher;
use crate::modules::image::digest::{ImageDigest, Sha256Digest};
use crate::modules::image::error::ImageError;
use crate::modules::image::progress::Silent;
use crate::modules::image::source::PinnedUrl;
use server::{Reply, Request, Server, Step, reply};

/// A disk image, as far as these tests are concerned: no two parts of it are alike.
fn body() -> &'static [u8] {
    static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let words = (0..75_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
        b"QFI\xfb".iter().copied().chain(words).collect()
    });
    &BODY
}

fn digest(data: &[u8]) -> ImageDigest {
    ImageDigest::Sha256(Sha256Digest::of(data))
}

/// The whole file.
fn good(_: &Request) -> Reply {
    reply("200 OK", &[&length(body())], body())
}

fn length(body: &[u8]) -> String {
    format!("content-length: {}", body.len())
}

fn status(line: &str) -> Reply {
    reply(line, &["content-length: 2"], b"no")
}

fn not_found(_: &Request) -> Reply {
    status("404 Not Found")
}

fn gone(_: &Request) -> Reply {
    status("410 Gone")
}

fn page(_: &Request) -> Reply {
    reply("200 OK", &[&length(PAGE)], PAGE)
}

const PAGE: &[u8] = b"<!DOCTYPE html><title>Log in";

fn impatient() -> Fetcher {
    Fetcher {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(2),
        attempts: 3,
        backoff: Duration::from_millis(1),
        max_bytes: 1 << 20,
    }
}

async fn fetch(pins: &[PinnedUrl], dir: &Path) -> Result<std::path::PathBuf, ImageError> {
    impatient().fetch(pins, dir, &Silent).await
}

/// All files, but for locks.
fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("readable")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    names.sort();
    names
}

/// A verified file and its record.
fn kept(pin: &PinnedUrl) -> [String; 2] {
    let name = pin.file_name();
    let record = format!("{name}.json");
    [name, record]
}

#[tokio::test]
async fn a_good_answer_is_fetched_once_also_by_many_at_a_time() {
    let server = Server::start(vec![("/disk.img", vec![good as Step])]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let into = dir.path().join("made/when/missing");
    let pins = [server.pin("/disk.img")];
    let fetches = (0..8).map(|_| fetch(&pins, &into));
    for path in futures::future::join_all(fetches).await {
        let path = path.expect("fetched");
        assert_eq!(fs::read(&path).expect("readable"), body());
        let permissions = fs::metadata(&path).expect("there").permissions();
        assert!(permissions.readonly());
    }
    assert_eq!(files(&into), kept(&pins[0]));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_removed_release_is_passed_over_for_the_next_pin() {
    for status in ["/404", "/410"] {
        let server = Server::start(vec![
            ("/404", vec![not_found as Step]),
            ("/410", vec![gone]),
            ("/old.img", vec![good]),
        ])
        .await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pins = [server.pin(status), server.pin("/old.img")];
        let path = fetch(&pins, dir.path()).await.expect("the older");
        assert_eq!(path, dir.path().join(pins[1].file_name()));
        assert_eq!(
            server.requests().len(),
            2,
            "a removed file is asked for once"
        );
    }
}

#[tokio::test]
async fn a_wrong_file_is_set_aside_and_nothing_else_is_tried() {
    let server = Server::start(vec![
        ("/page.img", vec![page as Step]),
        ("/old.img", vec![good]),
    ])
    .await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pins = [server.pin("/page.img"), server.pin("/old.img")];
    let error = fetch(&pins, dir.path())
        .await
        .expect_err("not the pinned file");
    let ImageError::DigestMismatch {
        expected,
        actual,
        rejected,
        looks_like_html,
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*expected, digest(body()));
    assert_eq!(*actual, digest(PAGE));
    assert!(looks_like_html);
    let name = format!("{}.rejected", pins[0].file_name());
    assert_eq!(rejected, dir.path().join(&name));
    assert_eq!(files(dir.path()), [name]);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn only_hosts_that_cannot_be_connected_to_are_unreachable() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound")
    };
    let pin = |url: String| PinnedUrl::new(&url, digest(body())).expect("a URL");
    let unreachable = [
        pin(format!("http://{closed}/a.img")),
        pin(format!("http://{closed}/b.img")),
        pin("https://no-such-host.invalid/c.img".to_owned()),
    ];
    let error = fetch(&unreachable, dir.path())
        .await
        .expect_err("nobody listens");
    assert!(
        matches!(&error, ImageError::Unreachable { urls, .. } if urls.len() == 3),
        "{error:?}"
    );

    let server = Server::start(vec![("/disk.img", vec![good as Step])]).await;
    let gone = [unreachable[0].clone(), server.pin("/gone.img")];
    let error = fetch(&gone, dir.path()).await.expect_err("gone");
    assert!(matches!(error, ImageError::Gone { .. }), "{error:?}");

    // The connection's bound is used up once, not at each attempt.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = pin(format!(
        "https://{}/d.img",
        silent.local_addr().expect("bound")
    ));
    let fetcher = Fetcher {
        connect_timeout: Duration::from_secs(1),
        stall_timeout: Duration::from_secs(60),
        ..impatient()
    };
    let started = std::time::Instant::now();
    let error = fetcher
        .fetch(&[silent], dir.path(), &Silent)
        .await
        .expect_err("silent");
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_millis(2500));

    // Somebody answers, but not in TLS.
    let plain = pin(format!("https://{}/disk.img", server.address));
    let error = fetch(&[plain], dir.path()).await.expect_err("no TLS");
    assert!(matches!(error, ImageError::Tls { .. }), "{error:?}");

    // The older pin was fetched before: it is as good without a network.
    let path = fetch(&[server.pin("/disk.img")], dir.path())
        .await
        .expect("fetched");
    assert!(path.exists());
    let cached = [
        PinnedUrl::new(&format!("http://{closed}/new.img"), digest(b"newer")).expect("a URL"),
        unreachable[1].clone(),
    ];
    drop(server);
    let again = fetch(&cached, dir.path()).await;
    assert_eq!(again.expect("cached"), path);
}

#[tokio::test]
async fn files_of_this_host_are_verified_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("disk.qcow2");
    fs::write(&original, body()).expect("writable");
    let pin = |path: &Path, data: &[u8]| {
        PinnedUrl::new(&format!("file://{}", path.display()), digest(data)).expect("a URL")
    };
    let store = dir.path().join("store");
    let path = fetch(&[pin(&original, body())], &store)
        .await
        .expect("copied");
    assert_eq!(fs::read(path).expect("readable"), body());
    let error = fetch(&[pin(&original, b"other")], &store)
        .await
        .expect_err("not the pinned file");
    assert!(matches!(
        error,
        ImageError::DigestMismatch {
            looks_like_html: false,
            ..
        }
    ));
    let missing = dir.path().join("missing.img");
    let error = fetch(&[pin(&missing, body())], &store)
        .await
        .expect_err("missing");
    assert!(matches!(error, ImageError::Gone { .. }), "{error:?}");
    let error = fetch(&[], &store).await.expect_err("no pins");
    assert!(matches!(error, ImageError::NoPins));
}
