//! Servers that live as long as the smoke: started on free ports, ended by their own process ids.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use harmony::modules::host::find_program;
use harmony::modules::iot::platform::DeviceRegistry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A child process that is ended when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddrV4,
    child: Child,
}

impl Server {
    /// Starts a program that listens on `address`; its output goes to `log`.
    ///
    /// # Errors
    /// When it ends, or does not listen within 20 s.
    pub async fn start(
        mut command: Command,
        address: SocketAddrV4,
        log: &Path,
    ) -> Result<Self, Failure> {
        let output = std::fs::File::create(log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()?;
        let deadline = Instant::now() + START_TIMEOUT;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("the server for {address} ended ({status}): {said}").into());
            }
            if Instant::now() >= deadline {
                return Err(format!("nothing listens on {address} after {START_TIMEOUT:?}").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { address, child })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn stop(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }
}

/// A port that is free now.
///
/// # Errors
/// When none can be had.
pub fn free_address(ip: Ipv4Addr) -> Result<SocketAddrV4, Failure> {
    let port = TcpListener::bind((ip, 0))?.local_addr()?.port();
    Ok(SocketAddrV4::new(ip, port))
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}

/// A private nats-server with JetStream that speaks TLS and knows each device by a key of its own.
#[derive(Debug)]
pub struct NatsServer {
    /// The directory with its certificate and the keys that it knows.
    pub registry: PathBuf,
    /// How it is reached from here.
    pub url: String,
    server: Server,
}

impl NatsServer {
    /// Ends it.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn stop(self) -> Result<(), Failure> {
        self.server.stop().await
    }

    /// Fails unless it asks for TLS, and ends the connection of who speaks plain text.
    ///
    /// # Errors
    /// With what it said instead.
    pub async fn takes_no_plain_text(&self) -> Result<(), Failure> {
        let mut stream = tokio::net::TcpStream::connect(self.server.address).await?;
        stream.write_all(b"CONNECT {}\r\nPING\r\n").await?;
        let mut said = Vec::new();
        let ended = timeout(START_TIMEOUT, stream.read_to_end(&mut said)).await;
        // Its end of the connection may be a reset.
        let is_open = ended.is_err();
        let said = String::from_utf8_lossy(&said);
        let asks = said.starts_with("INFO ") && said.contains("\"tls_required\":true");
        if is_open || !asks || said.contains("PONG") {
            return Err(format!("the server takes plain text (open: {is_open}): {said}").into());
        }
        Ok(())
    }
}

/// Starts one.
///
/// # Errors
/// When it cannot be started.
pub async fn start_nats(dir: &Path, ip: Ipv4Addr) -> Result<NatsServer, Failure> {
    let program = find_program("nats-server").ok_or("nats-server is not on PATH")?;
    let address = free_address(ip)?;
    let known = dir.join("nats-registry");
    std::fs::DirBuilder::new().mode(0o700).create(&known)?;
    let registry = DeviceRegistry::new(&known);
    registry.platform_credentials()?;
    registry.ensure_certificate(&[&ip.to_string()])?;
    let mut config = registry.server_config()?;
    // NATS reads JSON as its own configuration language.
    let jetstream = serde_json::json!({ "store_dir": dir.join("nats") });
    config.push_str(&format!("listen: \"{address}\"\njetstream: {jetstream}\n"));
    let config_path = known.join("nats.conf");
    write_private(&config_path, &config)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&config_path);
    let server = Server::start(command, address, &dir.join("nats.log")).await?;
    let url = format!("tls://{address}");
    Ok(NatsServer {
        registry: known,
        url,
        server,
    })
}
