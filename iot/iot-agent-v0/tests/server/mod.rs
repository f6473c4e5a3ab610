//! A NATS server for tests.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A nats-server with JetStream on 127.0.0.1, with its data in a directory which outlives it.
pub struct Server(Child);

impl Server {
    /// Starts it; it may not listen yet.
    pub fn start(dir: &Path, port: u16) -> Self {
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?} }}\n\
             authorization {{ user: device, password: hunter2 }}\n",
            dir.join("store")
        );
        let file = dir.join(format!("nats-{port}.conf"));
        std::fs::write(&file, config).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let mut command = Command::new("nats-server");
        command
            .arg("-c")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(log);
        Self(command.spawn().expect("nats-server is installed"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A port on 127.0.0.1 that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
