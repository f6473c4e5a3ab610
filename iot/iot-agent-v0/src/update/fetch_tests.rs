//! Fetching, from a server that does what servers do.

#[path = "../../tests/https/mod.rs"]
mod https;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::https::{acceptor, certificate};
use super::release;
use crate::digest::sha256;
use crate::update::fetch::{FetchError, Patience, fetch};

/// Shorter than a server's silence here, and far longer than loopback takes.
const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(2),
    piece: Duration::from_secs(2),
    whole: Duration::from_secs(20),
};

/// A server that answers each request with these bytes and is then silent, or says no more.
struct Server {
    address: SocketAddr,
    ca: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    async fn answering(dir: &Path, answer: Vec<u8>, hangs: bool) -> Self {
        let certificate = certificate(dir, "server");
        let acceptor = acceptor(&certificate);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Who does not trust it goes.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /agent HTTP/1.1\r\n"));
                stream.write_all(&answer).await.unwrap();
                stream.flush().await.unwrap();
                if hangs {
                    std::future::pending::<()>().await;
                }
                let _ = stream.shutdown().await;
            }
        });
        Self {
            address,
            ca: certificate.1,
            task,
        }
    }

    fn url(&self) -> String {
        format!("https://{}/agent", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ok(length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Fetches `program`, where the server answers that.
async fn fetched(program: &[u8], answer: Vec<u8>, hangs: bool) -> Result<Vec<u8>, FetchError> {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::answering(dir.path(), answer, hangs).await;
    let digest = sha256(program);
    let release = release(1, 1, digest, program.len() as u64, &server.url());
    let path = dir.path().join("a.new");
    fs::write(&path, "a left-over").unwrap();
    let fetched = fetch(&release, Some(&server.ca), &path, PATIENCE, ()).await;
    if let Err(error) = fetched {
        assert!(!path.exists(), "a part stays: {error}");
        return Err(error);
    }
    Ok(fs::read(&path).unwrap())
}

#[tokio::test]
async fn a_program_arrives_whole() {
    let program = vec![7; 300_000];
    let came = fetched(&program, ok(program.len(), &program), true).await;
    assert_eq!(came.unwrap(), program);
    // Without a length it ends with the connection.
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n", &program[..]].concat();
    assert_eq!(fetched(&program, answer, false).await.unwrap(), program);
}

#[tokio::test]
async fn what_is_less_more_or_something_else_is_removed() {
    let program = vec![7; 3000];
    let truncated = fetched(&program, ok(3000, &program[..2999]), false).await;
    assert!(
        matches!(truncated, Err(FetchError::Broken(_))),
        "{truncated:?}"
    );
    let short = fetched(&program, ok(2999, &program[..2999]), true).await;
    let is_size = |result: &Result<_, _>, bytes| matches!(result, Err(FetchError::Size { found, expected: 3000 }) if *found == bytes);
    assert!(is_size(&short, 2999), "{short:?}");
    let long = fetched(&program, ok(3001, &[7; 3001]), true).await;
    assert!(is_size(&long, 3001), "{long:?}");
    let other = fetched(&program, ok(3000, &[8; 3000]), true).await;
    assert!(
        matches!(other, Err(FetchError::OtherProgram { .. })),
        "{other:?}"
    );
    assert!(other.unwrap_err().is_final() && !short.unwrap_err().is_final());
}

#[tokio::test]
async fn a_server_that_hangs_is_left() {
    let program = vec![7; 3000];
    let silent = fetched(&program, Vec::new(), true).await;
    assert!(matches!(silent, Err(FetchError::Silent(_))), "{silent:?}");
    let half = fetched(&program, ok(3000, &program[..1500]), true).await;
    assert!(matches!(half, Err(FetchError::Silent(_))), "{half:?}");
}

#[tokio::test]
async fn a_url_that_can_have_no_server_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let release = release(1, 1, sha256(b"x"), 1, "https://-._/x");
    let path = dir.path().join("a.new");
    let error = fetch(&release, None, &path, PATIENCE, ())
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::Url) && error.is_final(),
        "{error}"
    );
}

#[tokio::test]
async fn another_status_is_no_program() {
    let moved = b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n";
    let found = fetched(b"x", moved.to_vec(), true).await;
    assert!(matches!(found, Err(FetchError::Status(status)) if status == 302));
}

#[tokio::test]
async fn only_a_server_that_the_authority_vouches_for_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::answering(dir.path(), ok(1, b"x"), true).await;
    let digest = sha256(b"x");
    let release = release(1, 1, digest, 1, &server.url());
    let path = dir.path().join("a.new");
    let (_, other) = certificate(dir.path(), "other");
    for ca in [Some(other.as_path()), None] {
        let fetched = fetch(&release, ca, &path, PATIENCE, ()).await;
        assert!(
            matches!(fetched, Err(FetchError::Connect { .. })),
            "{fetched:?}"
        );
    }
    let nothing = dir.path().join("nothing.pem");
    let fetched = fetch(&release, Some(&nothing), &path, PATIENCE, ()).await;
    assert!(
        matches!(fetched, Err(FetchError::Certificates { .. })),
        "{fetched:?}"
    );
}

#[tokio::test]
#[ignore = "needs root: mounts a small file system, and fetches more than it takes"]
async fn a_disk_that_fills_up_is_told_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let mount = |arguments: &[&str]| {
        let done = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(&small)
            .status();
        assert!(done.unwrap().success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "harmony-test"]);
    let program = vec![7; 300_000];
    let server = Server::answering(dir.path(), ok(program.len(), &program), true).await;
    let digest = sha256(&program);
    let release = release(1, 1, digest, program.len() as u64, &server.url());
    let path = small.join("a.new");
    let fetched = fetch(&release, Some(&server.ca), &path, PATIENCE, ()).await;
    let left = fs::read_dir(&small).unwrap().count();
    mount(&["umount"]);
    assert!(
        matches!(&fetched, Err(FetchError::Write { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull),
        "{fetched:?}"
    );
    assert_eq!(left, 0);
}
