//! The real agent, when it hangs: its service manager does not hear of it any more.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long any awaited event may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest silence that the service manager would stand; a word comes three times within it.
const SILENCE: Duration = Duration::from_millis(600);

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A named pipe: who reads it waits for who writes.
fn pipe_in_place_of(path: &Path) {
    std::fs::remove_file(path).unwrap();
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// The first line of a server that asks for credentials.
fn greet(mut connection: &TcpStream) {
    let info = r#"{"server_id":"x","version":"2.10.0","nonce":"abc","auth_required":true,"max_payload":1048576,"headers":true}"#;
    connection
        .write_all(format!("INFO {info}\r\n").as_bytes())
        .unwrap();
}

fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 64];
    let length = manager.recv(&mut buffer).expect("a word");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Whether nothing is said for ten times the wait between two words.
fn is_silent(manager: &UnixDatagram) -> bool {
    let (since, mut buffer) = (Instant::now(), [0; 64]);
    manager.set_read_timeout(Some(SILENCE * 10 / 3)).unwrap();
    while since.elapsed() < LIMIT {
        if manager.recv(&mut buffer).is_err() {
            manager.set_read_timeout(Some(LIMIT)).unwrap();
            return true;
        }
    }
    false
}

#[test]
fn an_agent_that_hangs_is_silent_and_one_that_waits_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (config, creds, notify) = ["config.toml", "x.creds", "notify"]
        .map(|name| dir.path().join(name))
        .into();
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\neyJ0.a.b\n------END-----\n-----BEGIN USER NKEY SEED-----\n{seed}\n"
    );
    std::fs::write(&creds, text).unwrap();
    let url = server.local_addr().unwrap();
    let text = format!(
        "device_id = \"pi-1\"\npodman.socket = \"/nonexistent/podman.sock\"\n[nats]\nurls = [\"nats://{url}\"]\n\
         credentials = {{ type = \"creds-file\", path = {creds:?} }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_iot-agent-v0"));
    agent.arg("--config").arg(&config).stderr(Stdio::null());
    agent.env("NOTIFY_SOCKET", &notify);
    agent.env("WATCHDOG_USEC", SILENCE.as_micros().to_string());
    let _agent = Agent(agent.spawn().unwrap());

    // It waits for a server that takes its connection and says nothing, and for a Podman that is not there.
    assert_eq!(heard(&manager), "READY=1");
    let (first, _) = server.accept().unwrap();
    for _ in 0..10 {
        assert_eq!(heard(&manager), "WATCHDOG=1");
    }
    // It reads its credentials from a disk that does not answer.
    pipe_in_place_of(&creds);
    greet(&first);
    assert!(is_silent(&manager), "a hanging agent says that it goes on");
    // The disk answers.
    std::fs::write(&creds, "none").unwrap();
    assert_eq!(heard(&manager), "WATCHDOG=1");
    let mut rest = Vec::new();
    drop(server);
    let _ = (&first).read_to_end(&mut rest);
}
