//! Servers and a device that are known to each other, in one of two ways.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use iot_contracts::{ServerAccounts, UserKey};
use nkeys::KeyPair;

use crate::authority::Certificates;
use crate::device::{Access, DEVICE_ID};
use crate::platform::Platform;
use crate::server::{Server, USERS, with_jetstream};
use crate::server_for_all::free_port;

/// How servers and device know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// As harmony makes a device: it has a key of its own and the consumer that the platform made, its account reaches
    /// nothing but its subjects, and its servers are believed by an authority (TLS).
    Key,
    /// By a name and a password, or a token, in plain text: such a device makes its own consumer.
    Password,
}

impl By {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::Key, Self::Password];
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key and TLS",
            Self::Password => "password",
        })
    }
}

/// What the servers and the device have in common.
pub struct Site {
    pub by: By,
    dir: PathBuf,
    host: String,
    identity: Option<Identity>,
}

/// Who is known by a key.
struct Identity {
    platform: KeyPair,
    device: UserKey,
    seed_file: PathBuf,
    certificates: Certificates,
}

/// The file with the accounts, beside the servers' configurations.
const ACCOUNTS: &str = "accounts.json";

impl Site {
    /// One whose servers are on loopback.
    pub fn on_loopback(dir: &Path, by: By) -> Self {
        Self::at(dir, by, "127.0.0.1")
    }

    /// One whose servers are at `host`.
    pub fn at(dir: &Path, by: By, host: &str) -> Self {
        let site = Self {
            by,
            dir: dir.to_owned(),
            host: host.to_owned(),
            identity: (by == By::Key).then(|| Identity::make(dir, host)),
        };
        site.admit(true);
        site
    }

    /// Has the accounts hold the device's key or not. A server that runs takes it up when it reads its configuration
    /// again.
    pub fn admit(&self, is_known: bool) {
        let Some(identity) = &self.identity else {
            return;
        };
        let device = (DEVICE_ID.parse().unwrap(), identity.device.clone());
        let devices = BTreeMap::from_iter(is_known.then_some(device));
        let platform = identity.platform.public_key().parse().unwrap();
        let accounts = ServerAccounts::new(&[platform], &devices).unwrap();
        let json = serde_json::to_string(&accounts).unwrap();
        std::fs::write(self.dir.join(ACCOUNTS), json).unwrap();
    }

    /// What a server's configuration says of who may do what, and of TLS.
    pub fn rights(&self) -> String {
        let Some(identity) = &self.identity else {
            return USERS.to_owned();
        };
        let pair = &identity.certificates.server;
        // The time that a registry gives to TLS.
        let tls = format!("tls {{ cert_file: {pair:?}, key_file: {pair:?}, timeout: 10 }}");
        format!("include \"{ACCOUNTS}\"\n{tls}")
    }

    /// The configuration of one server alone.
    pub fn config(&self, port: u16) -> String {
        with_jetstream(&self.dir, &self.host, port, &self.rights())
    }

    /// A server at a free port, which runs.
    pub fn start_server(&self) -> (Server, u16) {
        let port = free_port();
        let mut server = Server::new(&self.dir, "nats", &self.config(port));
        server.start();
        (server, port)
    }

    /// How the device reaches servers at these ports.
    pub fn access(&self, ports: &[u16]) -> Access {
        let address = |port: &u16| format!("{}:{port}", self.host);
        let Some(identity) = &self.identity else {
            return Access {
                urls: self.urls(ports),
                plain: ports.iter().map(address).collect(),
                ..Access::default()
            };
        };
        let seed_file = &identity.seed_file;
        Access {
            urls: self.urls(ports),
            credentials: format!("{{ type = \"nkey\", seed_file = {seed_file:?} }}"),
            ca: Some(identity.certificates.ca.clone()),
            ..Access::default()
        }
    }

    fn urls(&self, ports: &[u16]) -> Vec<String> {
        let scheme = match self.by {
            By::Key => "tls",
            By::Password => "nats",
        };
        let url = |port| format!("{scheme}://{}:{port}", self.host);
        ports.iter().map(url).collect()
    }

    /// The platform, connected to servers at these ports.
    pub async fn platform(&self, ports: &[u16], replicas: usize) -> Platform {
        let urls = self.urls(ports);
        let Some(identity) = &self.identity else {
            return Platform::connect(&urls, replicas).await;
        };
        let options = ConnectOptions::with_nkey(identity.platform.seed().unwrap())
            .require_tls(true)
            .add_root_certificates(identity.certificates.ca.clone());
        let platform = Platform::connect_with(options, &urls, replicas).await;
        platform.of_device(identity.device.clone())
    }
}

impl Identity {
    fn make(dir: &Path, host: &str) -> Self {
        let device = KeyPair::new_user();
        let seed_file = dir.join("device.nk");
        let mut options = std::fs::File::options();
        let file = options.create_new(true).write(true).mode(0o600);
        let mut file = file.open(&seed_file).unwrap();
        file.write_all(device.seed().unwrap().as_bytes()).unwrap();
        Self {
            platform: KeyPair::new_user(),
            device: device.public_key().parse().unwrap(),
            seed_file,
            certificates: Certificates::make(dir, host),
        }
    }
}
