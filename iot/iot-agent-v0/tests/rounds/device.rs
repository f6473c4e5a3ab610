//! The agent's own program, in a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The variable that names another program than the test profile's own.
const BINARY: &str = "IOT_AGENT_BINARY";

/// The device of these tests.
pub const DEVICE_ID: &str = "pi-1";

/// How the agent of a test reaches NATS.
pub struct Access {
    pub urls: Vec<String>,
    /// Servers that are spoken to in plain text wherever they are.
    pub plain: Vec<String>,
    /// `credentials` of the configuration.
    pub credentials: String,
    /// The authority that servers are believed by.
    pub ca: Option<PathBuf>,
}

impl Default for Access {
    /// With the name and password of these tests.
    fn default() -> Self {
        let credentials =
            r#"{ type = "user-password", username = "device", password = "hunter2" }"#;
        Self {
            urls: Vec::new(),
            plain: Vec::new(),
            credentials: credentials.to_owned(),
            ca: None,
        }
    }
}

/// A device's directory: its configuration, Podman's socket, the agent's state and log.
pub struct Device {
    dir: PathBuf,
    namespace: Option<String>,
    agent: Option<Child>,
}

impl Device {
    /// Writes the configuration; nothing runs yet. In `namespace` the agent has a network of its own.
    pub fn new(dir: &Path, access: &Access, namespace: Option<String>) -> Self {
        let device = Self {
            dir: dir.to_owned(),
            namespace,
            agent: None,
        };
        let tls = access.ca.as_ref().map(|ca| format!("tls.ca = {ca:?}\n"));
        let config = format!(
            "device_id = {DEVICE_ID:?}\nheartbeat_seconds = 2\npodman.socket = {:?}\n[nats]\nurls = {:?}\n\
             allow_plaintext = {:?}\ncredentials = {}\n{}",
            device.socket(),
            access.urls,
            access.plain,
            access.credentials,
            tls.unwrap_or_default(),
        );
        std::fs::write(device.config(), config).unwrap();
        std::fs::create_dir_all(dir.join("state")).unwrap();
        device
    }

    /// Where its Podman listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("podman.sock")
    }

    /// Where the agent's log is.
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        let own = || env!("CARGO_BIN_EXE_iot-agent-v0").into();
        let program = std::env::var_os(BINARY).unwrap_or_else(own);
        let mut command = match &self.namespace {
            // `ip` becomes the agent: it has the number that is known here.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let mut options = File::options();
        let log = options.create(true).append(true).open(self.log()).unwrap();
        command
            .arg("--config")
            .arg(self.config())
            .env("STATE_DIRECTORY", self.dir.join("state"))
            .stdin(Stdio::null())
            .stderr(log);
        self.agent = Some(command.spawn().unwrap());
    }

    /// Kills the agent, as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // It may have ended by itself.
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// How the agent ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        let agent = self.agent.as_mut()?;
        let status = agent.try_wait().ok()??;
        Some(status.to_string())
    }

    /// The last lines of the agent's log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.kill();
    }
}
