//! An HTTP server that follows a script, one step a request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::modules::image::source::PinnedUrl;

/// The first byte of a TLS connection, which this server does not understand.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: String,
    /// The first byte that it wants, when it does not want all.
    pub(super) from: Option<usize>,
    pub(super) if_range: Option<String>,
}

/// What it gets.
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) then: Then,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Then {
    HangUp,
    /// Until the client gives up.
    Nothing,
    /// A byte now and then, until the client gives up.
    Trickle,
}

pub(super) type Step = fn(&Request) -> Reply;

/// A reply with a head and a body.
pub(super) fn reply(status: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    Reply {
        bytes,
        then: Then::HangUp,
    }
}

/// A body in chunks, without the last one.
pub(super) fn chunks(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(10_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves each path by its steps; the last one is repeated. Other paths are not found.
    pub(super) async fn start(script: Vec<(&'static str, Vec<Step>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script.into_iter().collect::<HashMap<_, _>>());
        let log = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn pin(&self, path: &str) -> PinnedUrl {
        PinnedUrl::new(&self.url(path), super::digest(super::body())).expect("a URL")
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From where on each request wanted the file.
    pub(super) fn ranges(&self) -> Vec<Option<usize>> {
        self.requests().iter().map(|request| request.from).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<HashMap<&'static str, Vec<Step>>>,
    log: Arc<Mutex<Vec<Request>>>,
) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
        if head.first() == Some(&TLS_HANDSHAKE) {
            break;
        }
    }
    let request = Request::parse(&String::from_utf8_lossy(&head));
    let step = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let before = log.iter().filter(|r| r.path == request.path).count();
        log.push(request.clone());
        script
            .get(request.path.as_str())
            .and_then(|steps| steps.get(before).or(steps.last()))
            .copied()
    };
    let reply = step.map_or_else(
        || reply("404 Not Found", &["content-length: 2"], b"no"),
        |step| step(&request),
    );
    // The client may be gone already; that is its business.
    let _ = stream.write_all(&reply.bytes).await;
    match reply.then {
        Then::HangUp => {
            let _ = stream.shutdown().await;
        }
        Then::Nothing => {
            let _ = stream.read(&mut buffer).await;
        }
        Then::Trickle => {
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

impl Request {
    fn parse(head: &str) -> Self {
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let from = field("range").and_then(|range| {
            let range = range.strip_prefix("bytes=")?.strip_suffix('-')?.to_owned();
            range.parse().ok()
        });
        Self {
            path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            from,
            if_range: field("if-range"),
        }
    }
}
