//! The devices that a nats-server knows by their keys, as a directory beside its configuration.
//!
//! ```text
//! devices.json     who has which key; harmony reads and writes it
//! accounts.json    what becomes of that; the server's configuration has: include "accounts.json"
//! platform.nk      the platform's own key; it never leaves this machine
//! nats.pid         the server's process id; its configuration names this file as pid_file
//! nats-*.pem       certificates, where the server speaks TLS, see [`DeviceRegistry::certify`]
//! lock             held while they change
//! ```
//! The lists have public keys only, and nobody but their owner reads them: a device's inbox and its consumer are called after
//! its key, which other devices are not told.

mod certificates;
mod error;
mod served;
mod server;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use iot_contracts::{DeviceId, NatsCredentials, ServerAccounts, UserKey};
use nkeys::KeyPair;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tracing::info;

pub use error::RegistryError;

use super::super::own_files;

const DEVICES: &str = "devices.json";
const ACCOUNTS: &str = "accounts.json";
const LOCK: &str = "lock";
const PLATFORM_KEY: &str = "platform.nk";
const PID: &str = "nats.pid";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    platform: Vec<UserKey>,
    devices: BTreeMap<DeviceId, UserKey>,
    /// What the server is called by those who connect to it, its own machine's names aside.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    server_names: BTreeSet<String>,
}

/// Which devices a nats-server knows. A device that is added is one more user in its configuration, which it is told to
/// read again; connections of all others go on.
#[derive(Debug, Clone)]
pub struct DeviceRegistry {
    dir: PathBuf,
}

impl DeviceRegistry {
    /// In `dir`, which has to exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// What a server's configuration has to `include`.
    pub fn accounts_file(&self) -> PathBuf {
        self.dir.join(ACCOUNTS)
    }

    /// What the server's configuration has to write its process id to.
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join(PID)
    }

    /// What the platform connects with: a key of its own, which is made when there is none, and which the server knows
    /// when it is started.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn platform_credentials(&self) -> Result<NatsCredentials, RegistryError> {
        let seed_file = self.dir.join(PLATFORM_KEY);
        let key = ensure_key(&seed_file).map_err(|source| RegistryError::File {
            action: "make or read",
            path: seed_file.clone(),
            source,
        })?;
        self.change(|known| {
            if !known.platform.contains(&key) {
                known.platform.push(key);
            }
        })?;
        Ok(NatsCredentials::Nkey {
            seed_file,
            jwt_file: None,
        })
    }

    /// Which devices there are.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn devices(&self) -> Result<BTreeMap<DeviceId, UserKey>, RegistryError> {
        Ok(self.read()?.devices)
    }

    /// Makes the server know a device by that key, and by no other one, and returns whether that is new.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing is changed when another device has the key.
    pub fn add(&self, device_id: &DeviceId, key: &UserKey) -> Result<bool, RegistryError> {
        let is_new = self.change(|known| {
            known.devices.insert(device_id.clone(), key.clone());
        })?;
        if is_new {
            info!(device = %device_id, %key, "the server is to know the device");
        }
        // It may not have been told the last time.
        self.tell_server()?;
        Ok(is_new)
    }

    /// Makes the server forget a device, whose connection it ends, and returns its key.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn remove(&self, device_id: &DeviceId) -> Result<Option<UserKey>, RegistryError> {
        let mut key = None;
        self.change(|known| key = known.devices.remove(device_id))?;
        // It may not have been told the last time, and then the device is still let in.
        self.tell_server()?;
        Ok(key)
    }

    /// Changes both files, and returns whether there was anything to change.
    fn change(&self, change: impl FnOnce(&mut Known)) -> Result<bool, RegistryError> {
        let _lock = self.lock()?;
        let before = self.read()?;
        let mut known = before.clone();
        change(&mut known);
        let accounts = json(&ServerAccounts::new(&known.platform, &known.devices)?);
        let is_served = |text: &Vec<u8>| fs::read(self.accounts_file()).is_ok_and(|is| is == *text);
        if known == before && accounts.as_ref().is_ok_and(is_served) {
            return Ok(false);
        }
        // Who is known comes first: what the server is told is made of it, by whoever comes next if it has to be.
        self.write(DEVICES, json(&known))?;
        self.write(ACCOUNTS, accounts)?;
        Ok(true)
    }

    /// Keeps all others from changing anything while it is held.
    fn lock(&self) -> Result<File, RegistryError> {
        let path = self.dir.join(LOCK);
        let failed = |source| RegistryError::File {
            action: "lock",
            path: path.clone(),
            source,
        };
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).map_err(failed)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        Ok(lock)
    }

    fn read(&self) -> Result<Known, RegistryError> {
        let path = self.dir.join(DEVICES);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| RegistryError::Content { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Known::default()),
            Err(source) => Err(RegistryError::File {
                action: "read",
                path,
                source,
            }),
        }
    }

    /// Takes the file's place as a whole.
    fn write(&self, name: &str, text: io::Result<Vec<u8>>) -> Result<(), RegistryError> {
        let path = self.dir.join(name);
        let written = text.and_then(|text| own_files::replace(&path, &text));
        written.map_err(|source| RegistryError::File {
            action: "write",
            path,
            source,
        })
    }

    fn tell_server(&self) -> Result<(), RegistryError> {
        server::reload(&self.pid_file())
    }
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

/// The public half of the key in a file that nobody else can read.
fn ensure_key(path: &Path) -> io::Result<UserKey> {
    own_files::make_once(path, || {
        let seed = KeyPair::new_user().seed().map_err(io::Error::other)?;
        Ok(format!("{seed}\n"))
    })?;
    let seed = own_files::read_secret(path)?;
    let key = KeyPair::from_seed(seed.trim()).map_err(io::Error::other)?;
    key.public_key().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use iot_contracts::{ContractError, NatsCredentials, UserKey};
    use serde_json::Value;

    use super::{DeviceRegistry, RegistryError};

    fn key(letter: char) -> UserKey {
        let key = format!("U{}", letter.to_string().repeat(55));
        key.parse().expect("valid")
    }

    fn users(registry: &DeviceRegistry) -> Vec<String> {
        let text = std::fs::read(registry.accounts_file()).expect("written");
        let accounts: Value = serde_json::from_slice(&text).expect("JSON");
        let users = accounts["accounts"]["DEVICES"]["users"]
            .as_array()
            .expect("users");
        let users = users.iter().map(|user| user["nkey"].to_string());
        users.map(|key| key[2..3].to_owned()).collect()
    }

    /// A registry whose server is a process that does not end by being told to read again.
    fn registry(dir: &Path) -> (DeviceRegistry, Ignoring) {
        let registry = DeviceRegistry::new(dir);
        let program = dir.join("nats-server");
        std::os::unix::fs::symlink("/bin/sh", &program).expect("made");
        let server = Ignoring::start(&program);
        std::fs::write(registry.pid_file(), server.0.id().to_string()).expect("written");
        (registry, server)
    }

    struct Ignoring(Child);

    impl Ignoring {
        fn start(server: &Path) -> Self {
            let mut command = Command::new(server);
            command.args(["-c", "trap '' HUP; echo ready; read -r end"]);
            let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let mut child = child.expect("a shell");
            let mut ready = [0; 6];
            let output = child.stdout.as_mut().expect("piped");
            output.read_exact(&mut ready).expect("it is ready");
            Self(child)
        }
    }

    impl Drop for Ignoring {
        fn drop(&mut self) {
            // It ends when nobody can write to it any more.
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_device_has_one_key_and_a_key_one_device() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (registry, _server) = registry(dir.path());
        let [pi_1, pi_2] = ["pi-1", "pi-2"].map(|id| id.parse().expect("valid"));
        assert!(registry.add(&pi_1, &key('A')).expect("written"));
        assert!(!registry.add(&pi_1, &key('A')).expect("there"));
        assert!(registry.add(&pi_2, &key('B')).expect("written"));
        assert_eq!(users(&registry), ["A", "B"]);
        let error = registry.add(&pi_2, &key('A')).expect_err("shared");
        assert!(
            matches!(error, RegistryError::Keys(ContractError::SharedKey { .. })),
            "{error:?}"
        );
        assert!(registry.add(&pi_1, &key('C')).expect("written"));
        assert_eq!(users(&registry), ["C", "B"]);
        assert_eq!(registry.remove(&pi_2).expect("written"), Some(key('B')));
        assert_eq!(registry.remove(&pi_2).expect("gone"), None);
        assert_eq!(users(&registry), ["C"]);
        let mode = std::fs::metadata(registry.accounts_file())
            .expect("there")
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_platform_keeps_its_key_and_no_device_gets_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (registry, _server) = registry(dir.path());
        let credentials = registry.platform_credentials().expect("made");
        assert_eq!(registry.platform_credentials().expect("there"), credentials);
        let NatsCredentials::Nkey { seed_file, .. } = credentials else {
            panic!("{credentials:?}");
        };
        let mode = std::fs::metadata(&seed_file).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        let own = super::ensure_key(&seed_file).expect("there");
        let error = registry.add(&"pi-1".parse().expect("valid"), &own);
        let error = error.expect_err("the platform's");
        assert!(matches!(error, RegistryError::Keys(_)), "{error:?}");
    }

    #[test]
    fn what_was_not_told_or_written_the_last_time_is_now() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (registry, server) = registry(dir.path());
        let [pi_1, pi_2] = ["pi-1", "pi-2"].map(|id| id.parse().expect("valid"));
        for (id, letter) in [(&pi_1, 'A'), (&pi_2, 'B')] {
            registry.add(id, &key(letter)).expect("written");
        }
        // The server cannot be told that a device is to go, and neither is that a success the next time.
        std::fs::write(registry.pid_file(), "").expect("written");
        for _ in 0..2 {
            let error = registry.remove(&pi_1).expect_err("not told");
            assert!(matches!(error, RegistryError::Server { .. }), "{error:?}");
        }
        // A process that ended between the two files has not brought it back.
        std::fs::write(registry.pid_file(), server.0.id().to_string()).expect("written");
        let before = std::fs::read(registry.accounts_file()).expect("written");
        registry.remove(&pi_2).expect("told");
        std::fs::write(registry.accounts_file(), before).expect("written");
        assert_eq!(users(&registry), ["B"]);
        assert_eq!(registry.remove(&pi_2).expect("told"), None);
        assert!(users(&registry).is_empty());
    }

    #[test]
    fn another_program_that_has_the_servers_number_is_told_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let registry = DeviceRegistry::new(dir.path());
        let mut other = Command::new("sleep").arg("60").spawn().expect("sleep");
        std::fs::write(registry.pid_file(), other.id().to_string()).expect("written");
        let error = registry.add(&"pi-1".parse().expect("valid"), &key('A'));
        let error = error.expect_err("no server");
        assert!(
            matches!(&error, RegistryError::Another { name, .. } if name == "sleep"),
            "{error:?}"
        );
        assert!(other.try_wait().expect("its state").is_none());
        other.kill().expect("runs");
        other.wait().expect("ended");
    }

    #[test]
    fn who_cannot_be_told_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let registry = DeviceRegistry::new(dir.path());
        let id = "pi-1".parse().expect("valid");
        for text in ["", "x", "0", "-1"] {
            std::fs::write(registry.pid_file(), text).expect("written");
            let error = registry.add(&id, &key('A')).expect_err("nobody");
            assert!(
                matches!(error, RegistryError::Server { .. }),
                "{text}: {error:?}"
            );
        }
    }
}
