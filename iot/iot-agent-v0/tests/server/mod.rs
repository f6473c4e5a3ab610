//! A NATS server for tests.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use iot_contracts::KvBucket;

/// A nats-server with JetStream on 127.0.0.1, with its data in a directory which outlives it.
pub struct Server(Child);

impl Server {
    /// Starts it, for the user `device`; it may not listen yet.
    pub fn start(dir: &Path, port: u16) -> Self {
        Self::start_with(
            dir,
            port,
            "authorization { user: device, password: hunter2 }",
        )
    }

    /// Starts it with more of a configuration.
    pub fn start_with(dir: &Path, port: u16, more: &str) -> Self {
        let store = dir.join("store");
        let config =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n{more}\n");
        let file = dir.join(format!("nats-{port}.conf"));
        std::fs::write(&file, config).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        // Another version than the one that is installed.
        let program = std::env::var_os("HARMONY_TEST_NATS_SERVER");
        let mut command = Command::new(program.unwrap_or("nats-server".into()));
        command
            .arg("-c")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(log);
        Self(command.spawn().expect("nats-server is installed"))
    }

    /// Its process.
    #[allow(dead_code, reason = "not every test crate sends it signals")]
    pub fn id(&self) -> u32 {
        self.0.id()
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

/// The stream of a bucket, as the platform makes it.
pub fn bucket_config(bucket: &KvBucket) -> Config {
    Config {
        name: bucket.stream_name(),
        subjects: vec![bucket.subjects()],
        max_messages_per_subject: bucket.history.into(),
        max_message_size: 262_144,
        max_bytes: -1,
        max_messages: -1,
        max_consumers: -1,
        duplicate_window: Duration::from_secs(120),
        discard: DiscardPolicy::New,
        num_replicas: 1,
        allow_rollup: bucket.roll_up,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}
