//! Servers of NATS, each in a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The user of the platform and of the device, where they need no credentials of their own.
pub const USERS: &str = "authorization { user: device, password: hunter2 }";

/// A nats-server; its data are in a directory that outlives it.
pub struct Server {
    dir: PathBuf,
    name: String,
    child: Option<Child>,
}

impl Server {
    /// One with that configuration, which does not run yet.
    pub fn new(dir: &Path, name: &str, config: &str) -> Self {
        let server = Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            child: None,
        };
        server.write(config);
        server
    }

    fn config(&self) -> PathBuf {
        self.dir.join(format!("{}.conf", self.name))
    }

    fn write(&self, config: &str) {
        std::fs::write(self.config(), config).unwrap();
    }

    /// Starts it; it may not listen yet.
    pub fn start(&mut self) {
        let log = self.dir.join(format!("{}.log", self.name));
        let mut options = File::options();
        let log = options.create(true).append(true).open(log).unwrap();
        let mut command = Command::new("nats-server");
        command
            .arg("-c")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().expect("nats-server is installed"));
    }

    /// Kills it; it has no time for anything.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has it take over another configuration.
    pub fn reload(&self, config: &str) {
        self.write(config);
        let id = self.child.as_ref().unwrap().id();
        let pid = Pid::from_raw(id.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What `nats-server --version` says.
pub fn version() -> String {
    let output = Command::new("nats-server").arg("--version").output();
    let output = output.expect("nats-server is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().trim_start_matches("nats-server: ").to_owned()
}

/// A configuration with JetStream, listening at `host`.
pub fn with_jetstream(dir: &Path, host: &str, port: u16, more: &str) -> String {
    let store = dir.join("store");
    format!("listen: \"{host}:{port}\"\njetstream {{ store_dir: {store:?} }}\n{more}\n")
}

/// The same server without it.
pub fn without_jetstream(port: u16, more: &str) -> String {
    format!("listen: \"127.0.0.1:{port}\"\n{more}\n")
}
