//! Reads the configuration file and what it points at.

use std::path::{Path, PathBuf};

use iot_contracts::{
    AgentConfig, ContractError, DeviceId, NatsCredentials, PODMAN_SOCKET_VARIABLE, podman_socket,
};

use crate::creds::{self, CredsError};
use crate::nkey::{DeviceKey, KeyError};
use crate::unquoted;

/// The names that a configuration may have.
const FIELDS: [&str; 24] = [
    "device_id",
    "heartbeat_seconds",
    "nats",
    "urls",
    "allow_plaintext",
    "credentials",
    "type",
    "username",
    "password",
    "token",
    "path",
    "seed_file",
    "jwt_file",
    "tls",
    "ca",
    "certificate",
    "key",
    "podman",
    "socket",
    "update",
    "keys",
    "prove_within_seconds",
    "operator",
    "revoked",
];

/// The errors whose texts have nothing of the configuration in them.
static TOLD: [ContractError; 6] = [
    ContractError::NoNatsUrl,
    ContractError::NatsUrlUserinfo,
    ContractError::MixedNatsUrls,
    ContractError::TlsUnused,
    ContractError::TlsKeyPair,
    ContractError::OperatorKey,
];

/// A configuration that cannot be used. No variant carries the file's text: it has secrets in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {what} '{path}'")]
    Read {
        /// What the file is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration is not what is expected.
    #[error("configuration '{path}', line {line}: {message}")]
    Invalid {
        /// Where it is.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong and what is expected.
        message: String,
    },
    /// The credentials file that it names is none.
    #[error(transparent)]
    Creds(#[from] CredsError),
    /// The key that it names is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A valid configuration. What it points at is read when it is needed: a file of credentials that a power cut has spoiled
/// keeps no container from running.
#[derive(Clone)]
pub struct Loaded {
    config: AgentConfig,
    path: Option<PathBuf>,
}

impl Loaded {
    /// Which device this is.
    pub fn device_id(&self) -> &DeviceId {
        &self.config.device_id
    }

    /// The file's content.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// Where it was read, if it was.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// As it is there now.
    ///
    /// # Errors
    ///
    /// As [`load`].
    pub fn again(&self) -> Result<Self, ConfigError> {
        self.path.as_deref().map_or_else(|| Ok(self.clone()), load)
    }

    /// The key that the configuration names, which is made when there is none; absent where it names none.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: there can be none.
    pub fn key(&self) -> Result<Option<DeviceKey>, KeyError> {
        match &self.config.nats.credentials {
            Some(NatsCredentials::Nkey { seed_file, .. }) => DeviceKey::ensure(seed_file).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether the credentials file or the key that it names can be used.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Creds`], [`ConfigError::Key`]: it cannot now.
    pub fn check(&self) -> Result<(), ConfigError> {
        match &self.config.nats.credentials {
            Some(NatsCredentials::CredsFile { path }) => drop(creds::auth(path, b"")?),
            Some(NatsCredentials::Nkey { seed_file, .. }) => drop(DeviceKey::read(seed_file)?),
            _ => {}
        }
        Ok(())
    }

    /// Where Podman listens.
    pub fn podman_socket(&self) -> PathBuf {
        let given = self.config.podman.socket.clone();
        given.unwrap_or_else(default_podman_socket)
    }

    #[cfg(test)]
    pub fn for_test(config: AgentConfig) -> Self {
        Self { config, path: None }
    }
}

/// Where Podman listens when no configuration says so.
pub fn default_podman_socket() -> PathBuf {
    let own = || podman_socket(rustix::process::getuid().as_raw());
    let units = std::env::var_os(PODMAN_SOCKET_VARIABLE);
    units.map_or_else(own, PathBuf::from)
}

/// Reads and checks the configuration at `path`.
///
/// # Errors
///
/// [`ConfigError`]: it cannot be read, or is not valid.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let config = parse(path, &read("configuration", path)?)?;
    let path = Some(path.to_owned());
    Ok(Loaded { config, path })
}

/// Checks the text of the configuration at `path`.
///
/// # Errors
///
/// [`ConfigError::Invalid`]: it is not valid.
pub fn parse(path: &Path, text: &str) -> Result<AgentConfig, ConfigError> {
    let invalid = |error: &toml::de::Error, message| ConfigError::Invalid {
        path: path.to_owned(),
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        message,
    };
    // toml's own Display quotes the line at fault, which may be the password's. An error of syntax has a fixed text.
    let toml = toml::Deserializer::parse(text);
    let toml = toml.map_err(|error| invalid(&error, error.message().to_owned()))?;
    serde_path_to_error::deserialize(toml).map_err(|error| {
        let kind = kind(error.inner().message());
        let message = match unquoted::path(error.path(), &FIELDS).as_str() {
            "" | ".?" => kind,
            place => format!("{place}: {kind}"),
        };
        invalid(error.inner(), message)
    })
}

/// What is wrong, with nothing quoted.
fn kind(message: &str) -> String {
    let told = TOLD.iter().find(|error| error.to_string() == message);
    told.map_or_else(|| unquoted::kind(message), ContractError::to_string)
}

fn read(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        what,
        path: path.to_owned(),
        source,
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{ConfigError, load};
    use crate::creds::CredsError;

    fn load_text(text: &str) -> Result<super::Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn says_line_and_cause_and_no_secret() {
        let cases = [
            (
                "device_id = \"a\"\nnats.urls = []\n",
                2,
                "nats.urls is empty",
            ),
            (
                "device_id = \"a\"\nx = 1\nnats.urls = [\"tls://h\"]\n",
                2,
                "unknown field, expected one of `device_id`, ",
            ),
            (
                "device_id = \"a\"\n[nats]\nurls = [\"tls://h\"]\ncredentials = { type = \"token\", token = \"hunter2 }\n",
                4,
                "unclosed inline table",
            ),
        ];
        for (text, expected_line, part) in cases {
            let error = load_text(text).err().unwrap();
            let ConfigError::Invalid { line, message, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(*line, expected_line, "{message}");
            assert!(message.contains(part), "{message}");
            assert!(!crate::error::chain(&error).contains("hunter2"));
        }
    }

    #[test]
    fn no_part_of_a_configuration_is_quoted() {
        let start = "device_id = \"a\"\n[nats]\nurls = [\"tls://h\"]\n";
        let texts = [
            "device_id = \"hunter2!\"\nnats.urls = [\"tls://h\"]\n".to_owned(),
            "device_id = \"a\"\nheartbeat_seconds = \"hunter2\"\nnats.urls = []\n".to_owned(),
            "device_id = \"a\"\nnats = \"hunter2\"\n".to_owned(),
            "device_id = \"a\"\nnats.urls = \"hunter2\"\n".to_owned(),
            "device_id = \"a\"\nnats.urls = [\"tls://u:hunter2\"]\n".to_owned(),
            "device_id = \"a\"\nnats.urls = [\"tls://u:hunter2@h\"]\n".to_owned(),
            "hunter2 = 1\n".to_owned(),
            "hunter2 = 1\nhunter2 = 2\n".to_owned(),
            "hunter2\n".to_owned(),
            "device_id = hunter2\n".to_owned(),
            format!("{start}credentials = \"hunter2\"\n"),
            format!("{start}credentials = [\"hunter2\"]\n"),
            format!("{start}credentials = {{ type = \"hunter2\" }}\n"),
            format!("{start}credentials = {{ type = \"token\", hunter2 = \"x\" }}\n"),
            format!("{start}credentials = {{ type = \"token\", token = [\"hunter2\"] }}\n"),
            format!("{start}credentials = {{ type = \"token\", token = {{ hunter2 = 1 }} }}\n"),
            format!("{start}credentials = {{ type = \"creds-file\", path = [\"hunter2\"] }}\n"),
            format!("{start}credentials.token = \"hunter2\"\ncredentials = \"hunter2\"\n"),
            format!("{start}allow_plaintext = [\"hunter2:x\"]\n"),
            format!("{start}tls = \"hunter2\"\n"),
            format!("{start}tls.key = [\"hunter2\"]\n"),
            format!("{start}[operator]\nkeys = [\"hunter2\"]\n"),
            format!("{start}[operator]\nkeys = \"hunter2\"\n"),
            format!("{start}[update]\nkeys = []\nprove_within_seconds = \"hunter2\"\n"),
            format!("{start}[podman]\nsocket = [\"hunter2\"]\n"),
            format!("{start}[hunter2]\n"),
        ];
        for text in texts {
            let error = load_text(&text).err().unwrap();
            let told = crate::error::chain(&error);
            assert!(!told.contains("hunter2"), "{text}: {told}");
            assert!(!format!("{error:?}").contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_place_and_kind() {
        let start = "device_id = \"a\"\n[nats]\nurls = [\"tls://h\"]\n";
        let cases = [
            (
                format!("{start}credentials = \"x\"\n"),
                "nats.credentials: invalid type, expected internally tagged enum NatsCredentials",
            ),
            (
                format!("{start}[operator]\nkeys = [\"x\"]\n"),
                "operator.keys[0]: an operator key is not valid (expected the public key of an operator, 56 characters from 'O')",
            ),
            (
                "device_id = \"A\"\n".to_owned(),
                "device_id: not valid (expected 1 to 63 of a-z, 0-9 and '-')",
            ),
            (
                "device_id = \"a\"\nnats.urls = [\"nats://h\"]\n".to_owned(),
                "nats: not valid (expected tls://, or \"h:4222\" in nats.allow_plaintext)",
            ),
        ];
        for (text, expected) in cases {
            let Some(ConfigError::Invalid { message, .. }) = load_text(&text).err() else {
                panic!("{text}");
            };
            assert_eq!(message, expected, "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_named_and_one_of_credentials_is_asked_for_later() {
        let missing = PathBuf::from("/nonexistent/config.toml");
        assert!(matches!(
            load(&missing),
            Err(ConfigError::Read { what: "configuration", path, .. }) if path == missing
        ));
        let creds = "device_id = \"a\"\n[nats]\nurls = [\"tls://h\"]\n\
            credentials = { type = \"creds-file\", path = \"/nonexistent/x.creds\" }\n";
        assert!(matches!(
            load_text(creds).unwrap().check(),
            Err(ConfigError::Creds(CredsError::Read { path, .. })) if path.ends_with("x.creds")
        ));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.nk"), "").unwrap();
        let key = format!(
            "device_id = \"a\"\n[nats]\nurls = [\"tls://h\"]\n\
             credentials = {{ type = \"nkey\", seed_file = {:?} }}\n",
            dir.path().join("x.nk")
        );
        let loaded = load_text(&key).unwrap();
        assert!(matches!(loaded.check(), Err(ConfigError::Key(_))));
    }

    #[test]
    fn the_socket_defaults_to_the_users_own() {
        let minimal = "device_id = \"a\"\nnats.urls = [\"tls://h\"]\n";
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(
            load_text(minimal).unwrap().podman_socket(),
            iot_contracts::podman_socket(uid)
        );
        let given = format!("{minimal}podman.socket = \"/x.sock\"\n");
        assert_eq!(
            load_text(&given).unwrap().podman_socket(),
            PathBuf::from("/x.sock")
        );
    }
}
