//! `harmony-image fetch` as processes: killed at any byte, and many at a time.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use harmony::modules::image::Sha256Digest;

/// A well-behaved server with one file, which it sends in pieces.
struct Server {
    url: String,
    gets: Arc<AtomicUsize>,
    /// Requests for a rest.
    ranges: Arc<AtomicUsize>,
    /// How many bytes of the file have been sent so far, piece by piece.
    sent: mpsc::Receiver<usize>,
}

fn content() -> Vec<u8> {
    let words = (0..2_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    words.collect()
}

fn serve(content: Arc<Vec<u8>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let gets = Arc::new(AtomicUsize::new(0));
    let ranges = Arc::new(AtomicUsize::new(0));
    let (tell, sent) = mpsc::channel();
    let (counter, range_counter) = (Arc::clone(&gets), Arc::clone(&ranges));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a client");
            let (content, tell) = (Arc::clone(&content), tell.clone());
            let ranges = Arc::clone(&range_counter);
            counter.fetch_add(1, Ordering::SeqCst);
            // A client that was killed does not take everything.
            std::thread::spawn(move || answer(stream, &content, &tell, &ranges).ok());
        }
    });
    Server {
        url: format!("http://{address}/disk.img"),
        gets,
        ranges,
        sent,
    }
}

fn answer(
    mut stream: TcpStream,
    content: &[u8],
    tell: &mpsc::Sender<usize>,
    ranges: &AtomicUsize,
) -> std::io::Result<()> {
    let mut from = None;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<usize>().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    let length = content.len();
    let (status, range) = match from {
        Some(from) => {
            ranges.fetch_add(1, Ordering::SeqCst);
            let range = format!("content-range: bytes {from}-{}/{length}\r\n", length - 1);
            ("206 Partial Content", range)
        }
        None => ("200 OK", String::new()),
    };
    let from = from.unwrap_or(0);
    let body = content.get(from..).unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 {status}\r\netag: \"one\"\r\n{range}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    let mut at = from;
    for piece in body.chunks(50_000) {
        stream.write_all(piece)?;
        at += piece.len();
        // Nobody need listen.
        let _ = tell.send(at);
    }
    Ok(())
}

fn fetch(server: &Server, content: &[u8], store: &Path) -> Child {
    let digest = Sha256Digest::of(content);
    Command::new(env!("CARGO_BIN_EXE_harmony-image"))
        .args(["--quiet", "fetch", "--dir"])
        .arg(store)
        .arg(format!("{}#sha256={digest}", server.url))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program")
}

fn fetched(child: Child) -> String {
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.trim_end().to_owned()
}

/// Files of the store that have the name of an image.
fn named(store: &Path) -> Vec<String> {
    let entries = fs::read_dir(store).into_iter().flatten();
    let names = entries.map(|entry| {
        entry
            .expect("readable")
            .file_name()
            .into_string()
            .expect("UTF-8")
    });
    names.filter(|name| name.ends_with(".img")).collect()
}

#[test]
fn a_process_that_is_killed_at_any_byte_leaves_what_the_next_goes_on_with() {
    let content = Arc::new(content());
    let mut random = fastrand::Rng::with_seed(4);
    let mut resumed = 0;
    for round in 0..12 {
        let server = serve(Arc::clone(&content));
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Up to four processes are killed on the way, at points that differ in each round.
        for _ in 0..random.usize(1..=4) {
            let until = random.usize(1..content.len());
            let mut child = fetch(&server, &content, dir.path());
            while child.try_wait().expect("ours").is_none() {
                match server.sent.recv_timeout(Duration::from_millis(20)) {
                    Ok(sent) if sent < until => {}
                    // Nothing is sent when nothing was missing: the process will end.
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => break,
                }
            }
            child.kill().expect("ours");
            child.wait().expect("it ends");
            while server.sent.try_recv().is_ok() {}
            // Under a right name there is the right file or none.
            for name in named(dir.path()) {
                let there = fs::read(dir.path().join(name)).expect("readable");
                assert!(there == *content, "round {round}");
            }
            if !named(dir.path()).is_empty() {
                break;
            }
        }
        let path = fetched(fetch(&server, &content, dir.path()));
        assert!(
            fs::read(path).expect("readable") == *content,
            "round {round}"
        );
        let left = fs::read_dir(dir.path()).expect("readable").map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        });
        let parts: Vec<_> = left.filter(|name| name.contains(".part")).collect();
        assert!(parts.is_empty(), "round {round}: {parts:?}");
        resumed += server.ranges.load(Ordering::SeqCst);
    }
    assert!(resumed > 0, "no process went on where another was killed");
}

#[test]
fn ten_processes_fetch_once() {
    let content = Arc::new(content());
    let server = serve(Arc::clone(&content));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let children: Vec<_> = (0..10)
        .map(|_| fetch(&server, &content, dir.path()))
        .collect();
    let paths: Vec<_> = children.into_iter().map(fetched).collect();
    for path in &paths {
        assert_eq!(path, &paths[0]);
        assert!(fs::read(path).expect("readable") == *content);
    }
    assert_eq!(server.gets.load(Ordering::SeqCst), 1);
}
