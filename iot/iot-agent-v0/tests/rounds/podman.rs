//! A Podman that does at once what it is asked for, and records every call that changes something.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::watch;

/// Images of this registry never come: the pull is accepted and not answered.
pub const HANGING_REGISTRY: &str = "hang.example/";

/// What a call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Pull,
    RemoveImage,
    Create,
    Start,
    Stop,
    Rename,
    Remove,
}

/// A call that changed something.
#[derive(Debug, Clone)]
pub struct Call {
    pub did: Did,
    /// The container's name at the time, or the image.
    pub name: String,
    /// The container's image.
    pub image: String,
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub runs: bool,
    /// Since when it runs or does not.
    pub since: Instant,
    labels: Value,
    started_at: u64,
    exited_at: u64,
    was_started: bool,
    pid: u32,
}

/// All that it has and did.
#[derive(Debug, Default)]
pub struct State {
    pub containers: BTreeMap<String, Container>,
    pub calls: Vec<Call>,
    /// Requests that it does not know.
    pub unknown: Vec<String>,
    images: BTreeSet<String>,
    made: u64,
    /// How long a start takes.
    pub start_takes: Duration,
    /// The main processes, where there are any.
    processes: BTreeMap<String, Child>,
    has_processes: bool,
    /// The test is over: nothing starts any more.
    is_over: bool,
}

impl State {
    /// The container of that name.
    pub fn named(&self, name: &str) -> Option<&Container> {
        self.containers.values().find(|c| c.name == name)
    }

    /// Whether the service `a` of a deployment runs with that image.
    pub fn runs(&self, deployment: &str, image: &str) -> bool {
        let container = self.named(&format!("harmony.{deployment}.a"));
        container.is_some_and(|c| c.runs && c.image == image)
    }

    /// Ends all containers, as a power cut does, or their own programs.
    pub fn end_all(&mut self) {
        for (id, mut process) in std::mem::take(&mut self.processes) {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
            self.containers.entry(id).and_modify(Container::end);
        }
        self.containers
            .values_mut()
            .filter(|c| c.runs)
            .for_each(Container::end);
    }

    fn did(&mut self, did: Did, id: &str) {
        let container = &self.containers[id];
        self.calls.push(Call {
            did,
            name: container.name.clone(),
            image: container.image.clone(),
        });
    }
}

impl Container {
    fn end(&mut self) {
        self.runs = false;
        self.pid = 0;
        self.since = Instant::now();
        self.exited_at = now();
    }

    fn listed(&self, id: &str) -> Value {
        let state = match (self.runs, self.was_started) {
            (true, _) => "running",
            (false, true) => "exited",
            (false, false) => "created",
        };
        json!({ "Id": id, "State": state, "ExitCode": 137, "Labels": self.labels, "Names": [self.name],
            "StartedAt": self.started_at, "ExitedAt": self.exited_at, "Image": self.image,
            "ImageID": format!("id-of-{}", self.image.replace(['/', ':'], "-")), "Pid": self.pid })
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// The service behind a socket. It answers until the test's process ends.
pub struct Podman(Arc<Service>);

/// What the threads that serve share.
struct Service(watch::Sender<State>);

impl Drop for Podman {
    fn drop(&mut self) {
        self.change(|state| {
            state.is_over = true;
            state.end_all();
        });
    }
}

impl Podman {
    /// Begins to listen. With `has_processes` each container has a process of its own.
    pub fn start(socket: &Path, has_processes: bool) -> Self {
        let state = State {
            has_processes,
            ..State::default()
        };
        let service = Arc::new(Service(watch::Sender::new(state)));
        let listener = UnixListener::bind(socket).unwrap();
        let serving = Arc::clone(&service);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let service = Arc::clone(&serving);
                std::thread::spawn(move || service.serve(connection));
            }
        });
        Self(service)
    }

    /// What it has and did now.
    pub fn state(&self) -> watch::Ref<'_, State> {
        self.0.0.borrow()
    }

    /// Changes something by another hand.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.0.0.send_modify(change);
    }

    /// Waits until something is so, and gives when that was; `None` where it is not within `limit`.
    pub async fn wait(&self, limit: Duration, is_so: impl Fn(&State) -> bool) -> Option<Instant> {
        let mut receiver = self.0.0.subscribe();
        let waited = tokio::time::timeout(limit, receiver.wait_for(|state| is_so(state))).await;
        let came = waited.is_ok_and(|seen| seen.is_ok());
        came.then(Instant::now)
    }
}

impl Service {
    fn serve(&self, connection: UnixStream) {
        let mut connection = BufReader::new(connection);
        let Some((line, body)) = read_request(&mut connection) else {
            return;
        };
        let mut words = line.split(' ');
        let (method, uri) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let path = path.strip_prefix("/v4.0.0/libpod/").unwrap_or(path);
        let segments: Vec<String> = path.split('/').map(decoded).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        if let (["images", "pull"], Some(image)) = (segments.as_slice(), query.get("reference"))
            && image.starts_with(HANGING_REGISTRY)
        {
            // Until the agent gives it up.
            let _ = connection.read(&mut [0]);
            return;
        }
        if segments.last() == Some(&"start") {
            let time = self.0.borrow().start_takes;
            std::thread::sleep(time);
        }
        let mut answer = (500, json!({}));
        let is_read = method == "GET";
        self.0.send_if_modified(|state| {
            answer = state.answer(method, &segments, &query, &body);
            !is_read
        });
        let (status, json) = answer;
        let text = match status {
            204 | 304 => format!("HTTP/1.1 {status} x\r\n\r\n"),
            _ => {
                let text = json.to_string();
                let length = text.len();
                format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{text}")
            }
        };
        // It may have gone.
        let _ = connection.get_mut().write_all(text.as_bytes());
    }
}

fn decoded(segment: &str) -> String {
    let mut pairs = form_urlencoded::parse(segment.as_bytes());
    pairs
        .next()
        .map(|(text, _)| text.into_owned())
        .unwrap_or_default()
}

fn read_request(connection: &mut BufReader<UnixStream>) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    connection.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).ok()? <= 2 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).ok()?;
    Some((first.trim_end().to_owned(), body))
}
