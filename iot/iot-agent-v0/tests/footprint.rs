//! What the agent costs a device while nothing happens.
//!
//! `IOT_AGENT_BINARY` names the program, such as the one that iot/scripts/build-agent.sh prints; else it is the
//! test profile's own.

mod buckets;
mod server;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::Watch;
use futures::TryStreamExt;
use iot_contracts::AgentStatus;

use crate::buckets::open;
use crate::server::{Server, free_port};

/// How long any awaited event may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The variable that names the program.
const BINARY: &str = "IOT_AGENT_BINARY";

/// The most that the agent may have in memory as it ships, in KiB.
const MAX_RESIDENT_KIB: u64 = 12 * 1024;

/// The same for the test profile's own, whose code is not optimised.
const MAX_RESIDENT_KIB_UNOPTIMISED: u64 = 16 * 1024;

/// The most that it may have had in memory whatever is in the bucket, in KiB: its unit bounds it to 128 MiB.
const MAX_PEAK_KIB: u64 = 96 * 1024;

/// The most often that the agent may wake up.
const MAX_WAKE_UPS_PER_SECOND: f64 = 1.0;

/// For how many heartbeats of 10 s it is watched: a look at Podman, every 30 s, is among them.
const HEARTBEATS: u64 = 4;

/// The agent's own program, with a configuration below `dir`.
struct Agent(Child);

impl Agent {
    fn start(dir: &Path, port: u16, podman: &Path) -> Self {
        let config = format!(
            "device_id = \"pi-1\"\npodman.socket = {podman:?}\n\
             [nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
             credentials = {{ type = \"user-password\", username = \"device\", password = \"hunter2\" }}\n"
        );
        let path = dir.join("config.toml");
        std::fs::write(&path, config).unwrap();
        let state = dir.join("state");
        let own = || env!("CARGO_BIN_EXE_iot-agent-v0").into();
        let mut command = Command::new(std::env::var_os(BINARY).unwrap_or_else(own));
        command.arg("--config").arg(path).stderr(Stdio::null());
        // As by its unit: it says every 40 s that it goes on.
        command.env("NOTIFY_SOCKET", dir.join("notify"));
        command.env("WATCHDOG_USEC", "120000000");
        if state.exists() {
            command.env("STATE_DIRECTORY", state);
        }
        Self(command.spawn().unwrap())
    }

    /// A figure of one of the process's threads, or of the process.
    fn figure(status: &Path, name: &str) -> u64 {
        let text = std::fs::read_to_string(status).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.unwrap().trim_start_matches(':').trim();
        value.trim_end_matches(" kB").parse().unwrap()
    }

    fn proc(&self, file: &str) -> std::path::PathBuf {
        Path::new("/proc").join(self.0.id().to_string()).join(file)
    }

    fn peak_kib(&self) -> u64 {
        Self::figure(&self.proc("status"), "VmHWM")
    }

    fn resident_kib(&self) -> u64 {
        Self::figure(&self.proc("status"), "VmRSS")
    }

    /// How often its threads have waited for something until now.
    fn waits(&self) -> u64 {
        let threads = std::fs::read_dir(self.proc("task")).unwrap();
        threads
            .map(|thread| thread.unwrap().path().join("status"))
            .map(|status| Self::figure(&status, "voluntary_ctxt_switches"))
            .sum()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A Podman without containers, which serves until the test's process ends.
fn serve_empty_podman(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = BufReader::new(connection.unwrap());
            let mut line = String::new();
            while connection.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
            connection.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
}

/// Waits for the report of that number, or of a later one.
async fn report(reports: &mut Watch, number: u64) -> u64 {
    loop {
        let next = tokio::time::timeout(LIMIT, reports.try_next()).await;
        let entry = next.expect("a report").unwrap().expect("the reports go on");
        let report: AgentStatus = serde_json::from_slice(&entry.value).unwrap();
        if report.sequence >= number {
            return report.sequence;
        }
    }
}

#[tokio::test]
#[ignore = "needs nats-server: runs one and the agent on loopback, and watches the idle agent for 40 s"]
async fn an_idle_agent_is_small_and_sleeps() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("podman.sock");
    serve_empty_podman(&socket);
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let agent = Agent::start(dir.path(), port, &socket);
    let (_, mut reports) = tokio::time::timeout(LIMIT, open(port)).await.unwrap();
    // The second comes a heartbeat after the first, when all that is done at the start is done.
    let started = report(&mut reports, 2).await;

    let (since, before) = (Instant::now(), agent.waits());
    report(&mut reports, started + HEARTBEATS).await;
    let (seconds, waits) = (since.elapsed().as_secs_f64(), agent.waits() - before);
    let per_second = waits as f64 / seconds;
    assert!(
        per_second <= MAX_WAKE_UPS_PER_SECOND,
        "{waits} wake-ups in {seconds:.1} s (expected at most {MAX_WAKE_UPS_PER_SECOND} a second)"
    );
    let mut word = [0; 64];
    let length = manager.recv(&mut word).unwrap();
    assert_eq!(&word[..length], b"READY=1");
    let resident = agent.resident_kib();
    let most = match std::env::var_os(BINARY) {
        Some(_) => MAX_RESIDENT_KIB,
        None => MAX_RESIDENT_KIB_UNOPTIMISED,
    };
    assert!(
        resident <= most,
        "{resident} KiB resident (expected at most {most})"
    );
}

/// A value of nearly as many bytes as the bucket takes, with that environment.
fn large(env: &str) -> String {
    format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:1","env":{{{env}}}}}]}}}}"#
    )
}

#[tokio::test]
#[ignore = "needs nats-server: puts more and larger values into the bucket than the agent's memory would take"]
async fn a_bucket_that_is_too_full_does_not_fill_the_agents_memory() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("podman.sock");
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    serve_empty_podman(&socket);
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let (desired, mut reports) = tokio::time::timeout(LIMIT, open(port)).await.unwrap();
    // What is short takes the most memory for its bytes.
    let pairs: Vec<_> = (0..25_000).map(|n| format!("\"{n:x}\":\"\"")).collect();
    let (short, long) = (pairs.join(","), "x".repeat(250 * 1024));
    let (short, long) = (large(&short), large(&format!("\"A\":\"{long}\"")));
    for n in 0..60 {
        let value = if n < 15 { &short } else { &long };
        let put = desired.put(format!("pi-1.d{n:02}"), value.clone().into());
        put.await.unwrap();
    }
    let agent = Agent::start(dir.path(), port, &socket);
    loop {
        let next = tokio::time::timeout(LIMIT, reports.try_next()).await;
        let entry = next.expect("a report").unwrap().expect("the reports go on");
        let report: AgentStatus = serde_json::from_slice(&entry.value).unwrap();
        let is_full = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            text.contains("there is no room for it")
        };
        let told = report.deployments.values();
        if told.filter(|status| is_full(&status.detail)).count() >= 40 {
            break;
        }
    }
    let kept = async {
        while !state.join("desired-state").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, kept).await.unwrap();
    let peak = agent.peak_kib();
    assert!(
        peak <= MAX_PEAK_KIB,
        "{peak} KiB at the most (expected at most {MAX_PEAK_KIB})"
    );
}
