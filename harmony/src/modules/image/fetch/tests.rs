//! Fetching from a server that misbehaves in one way at a time.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Fetcher;
use crate::modules::image::digest::{ImageDigest, Sha256Digest};
use crate::modules::image::error::ImageError;
use crate::modules::image::source::PinnedUrl;

const BODY: &[u8] = b"QFI\xfb a disk image, as far as these tests are concerned";

/// The first byte of a TLS connection, which this server does not understand.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the server does with a path.
#[derive(Clone, Copy)]
enum Answer {
    Ok,
    Status(u16),
    /// Promises the whole body and hangs up in the middle.
    Truncated,
    /// Sends half of the body and then nothing.
    Stall,
    /// Answers nothing at all.
    Silence,
    Html,
    /// Redirects to itself for ever.
    RedirectLoop,
    /// Claims a length that no disk holds.
    Huge,
    /// Fails the first two times.
    ThirdTime,
}

struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answers: &'static [(&'static str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answers, Arc::clone(&counter)));
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    fn pin(&self, path: &str) -> PinnedUrl {
        PinnedUrl::new(&format!("http://{}{path}", self.address), digest(BODY)).expect("a URL")
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn digest(data: &[u8]) -> ImageDigest {
    ImageDigest::Sha256(Sha256Digest::of(data))
}

async fn serve(
    mut stream: TcpStream,
    answers: &'static [(&'static str, Answer)],
    requests: Arc<AtomicUsize>,
) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
        if request.first() == Some(&TLS_HANDSHAKE) {
            break;
        }
    }
    let count = requests.fetch_add(1, Ordering::SeqCst) + 1;
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let answer = answers.iter().find(|(p, _)| *p == path).map(|(_, a)| *a);
    let whole = |status: &str, body: &[u8]| {
        let mut bytes = head(status, body.len() as u64);
        bytes.extend_from_slice(body);
        bytes
    };
    let half = [head("200 OK", BODY.len() as u64), BODY[..20].to_vec()].concat();
    let (bytes, hang) = match answer.unwrap_or(Answer::Status(404)) {
        Answer::Ok => (whole("200 OK", BODY), false),
        Answer::ThirdTime if count < 3 => (whole("503 Busy", b""), false),
        Answer::ThirdTime => (whole("200 OK", BODY), false),
        Answer::Status(status) => (whole(&format!("{status} X"), b"no"), false),
        Answer::Truncated => (half, false),
        Answer::Stall => (half, true),
        Answer::Silence => (Vec::new(), true),
        Answer::Html => (whole("200 OK", b"<!DOCTYPE html><title>Log in"), false),
        Answer::RedirectLoop => (
            format!("HTTP/1.1 302 Found\r\nlocation: {path}\r\ncontent-length: 0\r\n\r\n").into(),
            false,
        ),
        Answer::Huge => (head("200 OK", u64::MAX / 2), false),
    };
    // The client may be gone already; that is its business.
    let _ = stream.write_all(&bytes).await;
    if hang {
        // Ends when the client gives up.
        let _ = stream.read(&mut buffer).await;
    }
}

fn head(status: &str, length: u64) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").into()
}

fn impatient() -> Fetcher {
    Fetcher {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(1),
        attempts: 3,
        backoff: Duration::from_millis(1),
    }
}

/// The visible files, and the unfinished ones; lock files stay.
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

#[tokio::test]
async fn a_good_answer_is_fetched_once_also_by_many_at_a_time() {
    let server = Server::start(&[("/disk.img", Answer::Ok)]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let into = dir.path().join("made/when/missing");
    let pins = [server.pin("/disk.img")];
    let fetcher = impatient();
    let fetches = (0..8).map(|_| fetcher.fetch(&pins, &into));
    for path in futures::future::join_all(fetches).await {
        let path = path.expect("fetched");
        assert_eq!(fs::read(&path).expect("readable"), BODY);
        let permissions = fs::metadata(&path).expect("there").permissions();
        assert!(permissions.readonly());
    }
    assert_eq!(files(&into), [pins[0].file_name()]);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_failed_attempt_is_repeated() {
    let server = Server::start(&[("/disk.img", Answer::ThirdTime)]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fetched = impatient()
        .fetch(&[server.pin("/disk.img")], dir.path())
        .await;
    assert!(fetched.is_ok(), "{fetched:?}");
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_removed_release_is_passed_over_for_the_next_pin() {
    for status in ["/404", "/410"] {
        let server = Server::start(&[
            ("/404", Answer::Status(404)),
            ("/410", Answer::Status(410)),
            ("/old.img", Answer::Ok),
        ])
        .await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pins = [server.pin(status), server.pin("/old.img")];
        let path = impatient()
            .fetch(&pins, dir.path())
            .await
            .expect("the older");
        assert_eq!(path, dir.path().join(pins[1].file_name()));
        assert_eq!(server.requests(), 2, "a removed file is asked for once");
    }
}

#[tokio::test]
async fn each_misbehaviour_is_its_own_error_and_leaves_nothing() {
    type Expected = fn(&ImageError) -> bool;
    let table: [(&str, usize, Expected); 9] = [
        (
            "/404",
            1,
            |e| matches!(e, ImageError::Gone { urls } if urls.len() == 1),
        ),
        ("/403", 1, |e| {
            matches!(e, ImageError::HttpStatus { status: 403, .. })
        }),
        ("/206", 1, |e| {
            matches!(e, ImageError::HttpStatus { status: 206, .. })
        }),
        ("/503", 2, |e| {
            matches!(e, ImageError::HttpStatus { status: 503, .. })
        }),
        ("/truncated", 2, |e| {
            matches!(e, ImageError::Transfer { .. })
        }),
        ("/stall", 2, |e| {
            matches!(e, ImageError::Stalled { received: 20, .. })
        }),
        ("/silence", 2, |e| {
            matches!(e, ImageError::Stalled { received: 0, .. })
        }),
        ("/redirect", 11, |e| {
            matches!(e, ImageError::Transfer { .. })
        }),
        ("/huge", 1, |e| matches!(e, ImageError::NoSpace { .. })),
    ];
    let rows = table.map(|(path, requests, expected)| async move {
        let server = Server::start(&[
            ("/403", Answer::Status(403)),
            ("/206", Answer::Status(206)),
            ("/503", Answer::Status(503)),
            ("/truncated", Answer::Truncated),
            ("/stall", Answer::Stall),
            ("/silence", Answer::Silence),
            ("/redirect", Answer::RedirectLoop),
            ("/huge", Answer::Huge),
        ])
        .await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fetcher = Fetcher {
            attempts: 2,
            ..impatient()
        };
        let error = fetcher
            .fetch(&[server.pin(path)], dir.path())
            .await
            .expect_err(path);
        assert!(expected(&error), "{path}: {error:?}");
        assert_eq!(server.requests(), requests, "{path}");
        assert_eq!(files(dir.path()), [""; 0], "{path}");
    });
    futures::future::join_all(rows).await;
}

#[tokio::test]
async fn a_wrong_file_is_set_aside_and_nothing_else_is_tried() {
    let server = Server::start(&[("/page.img", Answer::Html), ("/old.img", Answer::Ok)]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pins = [server.pin("/page.img"), server.pin("/old.img")];
    let error = impatient()
        .fetch(&pins, dir.path())
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
    assert_eq!(*expected, digest(BODY));
    assert_eq!(*actual, digest(b"<!DOCTYPE html><title>Log in"));
    assert!(looks_like_html);
    let name = format!("{}.rejected", pins[0].file_name());
    assert_eq!(rejected, dir.path().join(&name));
    assert_eq!(files(dir.path()), [name]);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn only_hosts_that_cannot_be_connected_to_are_unreachable() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound")
    };
    let pin = |url: String| PinnedUrl::new(&url, digest(BODY)).expect("a URL");
    let unreachable = [
        pin(format!("http://{closed}/a.img")),
        pin(format!("http://{closed}/b.img")),
        pin("https://no-such-host.invalid/c.img".to_owned()),
    ];
    let error = impatient()
        .fetch(&unreachable, dir.path())
        .await
        .expect_err("nobody listens");
    assert!(
        matches!(&error, ImageError::Unreachable { urls, .. } if urls.len() == 3),
        "{error:?}"
    );

    let server = Server::start(&[("/disk.img", Answer::Ok)]).await;
    let gone = [unreachable[0].clone(), server.pin("/gone.img")];
    let error = impatient()
        .fetch(&gone, dir.path())
        .await
        .expect_err("gone");
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
        .fetch(&[silent], dir.path())
        .await
        .expect_err("silent");
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_millis(2500));

    // Somebody answers, but not in TLS.
    let plain = pin(format!("https://{}/disk.img", server.address));
    let error = impatient()
        .fetch(&[plain], dir.path())
        .await
        .expect_err("no TLS");
    assert!(matches!(error, ImageError::Tls { .. }), "{error:?}");

    // The older pin was fetched before: it is as good without a network.
    let path = impatient()
        .fetch(&[server.pin("/disk.img")], dir.path())
        .await
        .expect("fetched");
    assert!(path.exists());
    let cached = [
        PinnedUrl::new(&format!("http://{closed}/new.img"), digest(b"newer")).expect("a URL"),
        unreachable[1].clone(),
    ];
    drop(server);
    let again = impatient().fetch(&cached, dir.path()).await;
    assert_eq!(again.expect("cached"), path);
}

#[tokio::test]
async fn files_of_this_host_are_verified_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("disk.qcow2");
    fs::write(&original, BODY).expect("writable");
    let pin = |path: &Path, data: &[u8]| {
        PinnedUrl::new(&format!("file://{}", path.display()), digest(data)).expect("a URL")
    };
    let store = dir.path().join("store");
    let path = impatient()
        .fetch(&[pin(&original, BODY)], &store)
        .await
        .expect("copied");
    assert_eq!(fs::read(path).expect("readable"), BODY);
    let error = impatient()
        .fetch(&[pin(&original, b"other")], &store)
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
    let error = impatient()
        .fetch(&[pin(&missing, BODY)], &store)
        .await
        .expect_err("missing");
    assert!(matches!(error, ImageError::Gone { .. }), "{error:?}");
    let error = impatient().fetch(&[], &store).await.expect_err("no pins");
    assert!(matches!(error, ImageError::NoPins));
}
