//! Why a value was refused.

/// A value which is not valid on this wire. No variant ever carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// A device id, deployment or service name.
    #[error("{what} '{value}' is not valid (expected 1 to {max_chars} of a-z, 0-9 and '-')")]
    Name {
        /// What the name names.
        what: &'static str,
        /// What was given.
        value: String,
        /// The longest that is accepted, in characters.
        max_chars: usize,
    },
    /// A heartbeat interval.
    #[error("heartbeat_seconds is {value} (expected {min} to {max})")]
    Heartbeat {
        /// What was given, in seconds.
        value: i64,
        /// The shortest, in seconds.
        min: u16,
        /// The longest, in seconds.
        max: u16,
    },
    /// No NATS server was named.
    #[error("nats.urls is empty (expected one or more of nats://HOST[:PORT], tls://HOST[:PORT])")]
    NoNatsUrl,
    /// A NATS URL of another form.
    #[error("NATS URL '{value}' is not valid (expected nats://HOST[:PORT] or tls://HOST[:PORT])")]
    NatsUrl {
        /// What was given.
        value: String,
    },
    /// A NATS URL with a user or a password in it; the value is withheld since it is a secret.
    #[error("a NATS URL has credentials before its '@' (expected them in nats.credentials)")]
    NatsUrlUserinfo,
    /// Some servers would be spoken to with TLS, and some without.
    #[error("nats.urls has nats:// and tls:// in one list (expected one of them)")]
    MixedNatsUrls,
    /// Credentials would go over the network in plain text.
    #[error(
        "NATS URL '{url}' is plain text to another host (expected tls://, or \"{host}\" in nats.allow_plaintext)"
    )]
    Plaintext {
        /// The URL.
        url: String,
        /// Its host and port, as they could be allowed.
        host: String,
    },
    /// A server that may be spoken to in plain text, of another form.
    #[error("'{value}' is no server's name (expected HOST[:PORT])")]
    HostPort {
        /// What was given.
        value: String,
    },
    /// What TLS is spoken with, and nobody speaks it.
    #[error("nats.tls is there and no tls:// server is (expected both or none)")]
    TlsUnused,
    /// A certificate is of no use without its key.
    #[error("nats.tls has one of certificate and key (expected both or none)")]
    TlsKeyPair,
    /// A key of the desired-state bucket which does not name a deployment of this device.
    #[error("key '{key}' is not a desired state of {device_id} (expected {device_id}.DEPLOYMENT)")]
    DesiredStateKey {
        /// The key.
        key: String,
        /// Whose keys are expected.
        device_id: crate::DeviceId,
    },
    /// A container image.
    #[error(
        "image '{value}' is not valid (expected 1 to {max_chars} of a-z, A-Z, 0-9 and '._-/:@')"
    )]
    Image {
        /// What was given.
        value: String,
        /// The longest that is accepted, in characters.
        max_chars: usize,
    },
    /// A published port.
    #[error("port mapping '{value}' is not valid (expected HOST:CONTAINER, each 1 to 65535)")]
    Port {
        /// What was given.
        value: String,
    },
    /// The name of an environment variable.
    #[error("environment variable '{value}' is not valid (expected a name without '=' and NUL)")]
    EnvName {
        /// What was given.
        value: String,
    },
    /// Bytes that are not written as hexadecimal digits. The value is withheld: it may be a key.
    #[error("not {digits} hexadecimal digits (expected 0-9 and a-f)")]
    Hex {
        /// How many are expected.
        digits: usize,
    },
    /// A release of the agent.
    #[error("the release's {what} is not valid (expected {expected})")]
    Release {
        /// What of it.
        what: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// The time for an update to prove itself.
    #[error("update.prove_within_seconds is {value} (expected {min} to {max})")]
    ProveWithin {
        /// What was given, in seconds.
        value: i64,
        /// The shortest, in seconds.
        min: u16,
        /// The longest, in seconds.
        max: u16,
    },
    /// Two services of a deployment bear one name.
    #[error("service '{name}' is there more than once (expected each name once per deployment)")]
    DuplicateService {
        /// The name.
        name: crate::ServiceName,
    },
}
