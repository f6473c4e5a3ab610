//! Servers that live as long as the smoke: started on free ports, ended by their own process ids.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use harmony::modules::host::find_program;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

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

/// A random password.
async fn password() -> Result<String, Failure> {
    let mut bytes = [0_u8; 24];
    let mut source = tokio::fs::File::open("/dev/urandom").await?;
    source.read_exact(&mut bytes).await?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A private `nats-server -js`, and the file with the credentials for it.
///
/// # Errors
/// When it cannot be started.
pub async fn start_nats(dir: &Path, ip: Ipv4Addr) -> Result<(Server, PathBuf), Failure> {
    let program = find_program("nats-server").ok_or("nats-server is not on PATH")?;
    let address = free_address(ip)?;
    let password = password().await?;
    let store = dir.join("nats");
    // NATS reads JSON as its own configuration language.
    let config = serde_json::json!({
        "listen": address.to_string(),
        "jetstream": { "store_dir": store },
        "authorization": { "user": "smoke", "password": password },
    });
    let config_path = dir.join("nats.conf");
    write_private(&config_path, &config.to_string())?;
    let credentials = dir.join("nats-credentials.toml");
    let text =
        format!("type = \"user-password\"\nusername = \"smoke\"\npassword = \"{password}\"\n");
    write_private(&credentials, &text)?;
    let mut command = Command::new(program);
    command.arg("-js").arg("--config").arg(&config_path);
    let server = Server::start(command, address, &dir.join("nats.log")).await?;
    Ok((server, credentials))
}
