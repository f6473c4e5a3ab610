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
    /// The public half of a key.
    #[error("'{value}' is no user's public key (expected U and 55 of A-Z and 2-7)")]
    UserKey {
        /// What was given; of a private half only that it is one.
        value: String,
    },
    /// Two users are known by one key.
    #[error(
        "the key {key} is more than one's (expected one for each device and each of the platform's users)"
    )]
    SharedKey {
        /// The public half.
        key: crate::UserKey,
    },
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
    /// Bytes that are not written as hexadecimal digits.
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
    /// The public key of an operator, or of who releases the agent. The value is withheld: it may be the private half.
    #[error(
        "an operator key is not valid (expected the public key of an operator, 56 characters from 'O')"
    )]
    OperatorKey,
    /// How many operator keys there are.
    #[error(
        "operator.keys has {keys} keys and operator.revoked has {revoked} (expected 1 to {max}, and at most {max})"
    )]
    OperatorKeys {
        /// How many are obeyed.
        keys: usize,
        /// How many are not any more.
        revoked: usize,
        /// The most of each.
        max: usize,
    },
    /// The signature of such a key.
    #[error("a signature is not valid (expected 64 bytes in Base64)")]
    Signature,
    /// A number of a service.
    #[error("{what} is {value} (expected {min} to {max})")]
    OutOfRange {
        /// What the number is of.
        what: &'static str,
        /// What was given.
        value: i64,
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// A published port of the second version.
    #[error(
        "port '{value}' is not valid (expected [ADDRESS:]HOST:CONTAINER[/udp], ports 1 to 65535)"
    )]
    PublishedPort {
        /// What was given.
        value: String,
    },
    /// Two services, or one, publish one port of the device.
    #[error(
        "port {port} is published more than once (expected each port of the device once per deployment)"
    )]
    PortTwice {
        /// The second one.
        port: crate::PublishedPort,
    },
    /// A path in a container.
    #[error(
        "path '{value}' is not valid (expected /…, at most {max_chars} characters, without '.', '..', ':' and ',')"
    )]
    MountPath {
        /// What was given.
        value: String,
        /// The longest that is accepted, in characters.
        max_chars: usize,
    },
    /// Two things are mounted at one place.
    #[error("{path} is mounted more than once (expected each path once per service)")]
    PathTwice {
        /// Where.
        path: crate::MountPath,
    },
    /// A service mounts a volume that its deployment does not have.
    #[error(
        "service '{service}' mounts volume '{name}' (expected each volume that is mounted in 'volumes' of the deployment)"
    )]
    UnknownVolume {
        /// The volume.
        name: crate::VolumeName,
        /// The service.
        service: crate::ServiceName,
    },
    /// What is in a file is there twice, not at all, or no base64; it may be a secret, and is withheld.
    #[error(
        "the content of a file is not valid (expected text in 'content' or base64 in 'base64')"
    )]
    FileContent,
    /// A file is empty or too large.
    #[error("a file has {bytes} bytes (expected 1 to {max_bytes})")]
    FileSize {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max_bytes: usize,
    },
    /// A file's mode.
    #[error("file mode '{value}' is not valid (expected \"0000\" to \"0777\")")]
    FileMode {
        /// What was given.
        value: String,
    },
    /// Who a program runs as.
    #[error(
        "user '{value}' is not valid (expected USER[:GROUP], names or numbers of at most {max_chars} characters)"
    )]
    ProcessUser {
        /// What was given.
        value: String,
        /// The longest that is accepted, in characters.
        max_chars: usize,
    },
    /// A device for a container.
    #[error("device '{value}' is not valid (expected /dev/HOST[:/dev/CONTAINER][:rwm])")]
    Device {
        /// What was given.
        value: String,
    },
    /// A capability that Linux does not have.
    #[error("capability '{value}' is not known (expected one of capabilities(7), or ALL)")]
    Capability {
        /// What was given.
        value: String,
    },
    /// A health check without a program.
    #[error("the command of a health check is not valid (expected a program and its arguments)")]
    HealthCommand,
}
