//! How NATS is reached, in the agent's configuration.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::secret::SecretString;

/// The port of a server that none is given of.
const DEFAULT_PORT: u16 = 4222;

/// How NATS is reached. It is checked when it is read, see [`NatsConfig::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "NatsConfigWire")]
pub struct NatsConfig {
    /// The servers of one cluster; the agent connects to any of them, and to no other one.
    pub urls: NatsUrls,
    /// The servers that may be spoken to in plain text although they are on other hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_plaintext: Vec<HostPort>,
    /// How the agent authenticates; absent for a server that asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<NatsCredentials>,
    /// What `tls://` is spoken with; absent for the system's own certificate authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<NatsTls>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct NatsConfigWire {
    urls: NatsUrls,
    #[serde(default)]
    allow_plaintext: Vec<HostPort>,
    credentials: Option<NatsCredentials>,
    tls: Option<NatsTls>,
}

impl TryFrom<NatsConfigWire> for NatsConfig {
    type Error = ContractError;

    fn try_from(wire: NatsConfigWire) -> Result<Self, Self::Error> {
        let NatsConfigWire {
            urls,
            allow_plaintext,
            credentials,
            tls,
        } = wire;
        let config = Self {
            urls,
            allow_plaintext,
            credentials,
            tls,
        };
        config.check().map(|()| config)
    }
}

impl NatsConfig {
    /// These servers, with nothing else said.
    pub fn new(urls: NatsUrls) -> Self {
        Self {
            urls,
            allow_plaintext: Vec::new(),
            credentials: None,
            tls: None,
        }
    }

    /// Whether what is sent is as safe as it can be asked for.
    ///
    /// # Errors
    ///
    /// [`ContractError::Plaintext`] for a `nats://` server on another host which is not in `allow_plaintext`;
    /// [`ContractError::TlsUnused`] for `tls` without a `tls://` server; [`ContractError::TlsKeyPair`] for a
    /// certificate without a key, or a key without a certificate.
    pub fn check(&self) -> Result<(), ContractError> {
        if let Some(url) = self.plain_to_others().next() {
            return Err(ContractError::Plaintext {
                url: url.to_string(),
                host: url.host_and_port(),
            });
        }
        let Some(tls) = &self.tls else { return Ok(()) };
        if !self.urls.are_tls() {
            return Err(ContractError::TlsUnused);
        }
        if tls.certificate.is_some() != tls.key.is_some() {
            return Err(ContractError::TlsKeyPair);
        }
        Ok(())
    }

    /// The servers on other hosts that would be spoken to in plain text although nothing allows that.
    pub fn plain_to_others(&self) -> impl Iterator<Item = &NatsUrl> {
        let urls = self.urls.as_slice().iter();
        urls.filter(|url| {
            !url.is_tls() && !url.is_loopback() && !self.allow_plaintext.iter().any(|a| a.is(url))
        })
    }
}

/// What `tls://` is spoken with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NatsTls {
    /// A file with the certificates of the authorities that servers are believed by (PEM), and by no other one; absent
    /// for the system's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A file with the certificate that the agent shows (PEM), with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// A file with its private key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// One or more server URLs: all `nats://` or all `tls://`. A mix would be as safe as its worst.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("minItems" = 1)))]
#[serde(try_from = "Vec<NatsUrl>", into = "Vec<NatsUrl>")]
pub struct NatsUrls(Vec<NatsUrl>);

impl NatsUrls {
    /// The URLs; never empty.
    pub fn as_slice(&self) -> &[NatsUrl] {
        &self.0
    }

    /// Whether they require TLS.
    pub fn are_tls(&self) -> bool {
        self.0.iter().any(NatsUrl::is_tls)
    }
}

impl TryFrom<Vec<NatsUrl>> for NatsUrls {
    type Error = ContractError;

    fn try_from(urls: Vec<NatsUrl>) -> Result<Self, Self::Error> {
        if urls.is_empty() {
            return Err(ContractError::NoNatsUrl);
        }
        if urls.iter().any(|url| url.is_tls() != urls[0].is_tls()) {
            return Err(ContractError::MixedNatsUrls);
        }
        Ok(Self(urls))
    }
}

impl From<NatsUrl> for NatsUrls {
    fn from(url: NatsUrl) -> Self {
        Self(vec![url])
    }
}

impl From<NatsUrls> for Vec<NatsUrl> {
    fn from(urls: NatsUrls) -> Self {
        urls.0
    }
}

/// A NATS server: `nats://HOST[:PORT]`, or `tls://HOST[:PORT]` where TLS is required. Without a
/// port it is 4222. An IPv6 address stands in brackets. Credentials in the URL are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^(nats|tls)://[^/@\\s]+$")))]
#[serde(try_from = "String", into = "String")]
pub struct NatsUrl(String);

impl NatsUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether TLS is required.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("tls://")
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.parts().0
    }

    /// `HOST:PORT`, as [`HostPort`] has it.
    pub fn host_and_port(&self) -> String {
        match self.parts() {
            (host, port) if host.contains(':') => format!("[{host}]:{port}"),
            (host, port) => format!("{host}:{port}"),
        }
    }

    /// Whether nothing that is sent there leaves the machine, whatever a resolver says.
    pub fn is_loopback(&self) -> bool {
        match self.host().parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host().eq_ignore_ascii_case("localhost"),
        }
    }

    fn parts(&self) -> (&str, u16) {
        let (_, authority) = self.0.split_once("://").unwrap_or_default();
        host_and_port(authority).unwrap_or_default()
    }
}

impl TryFrom<String> for NatsUrl {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        if value.contains('@') {
            return Err(ContractError::NatsUrlUserinfo);
        }
        let authority = value
            .strip_prefix("nats://")
            .or_else(|| value.strip_prefix("tls://"));
        match authority {
            Some(authority) if host_and_port(authority).is_some() => Ok(Self(value)),
            _ => Err(ContractError::NatsUrl { value }),
        }
    }
}

/// The parts of `HOST[:PORT]`, an IPv6 address without its brackets.
pub(crate) fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            match port {
                "" => (address, None),
                port => (address, Some(port.strip_prefix(':')?)),
            }
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            let host_char = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if host.is_empty() || !host.chars().all(host_char) {
                return None;
            }
            (host, port)
        }
    };
    let Some(port) = port else {
        return Some((host, DEFAULT_PORT));
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port
        .parse::<std::num::NonZeroU16>()
        .ok()
        .filter(|_| digits)?;
    Some((host, port.get()))
}

/// A server by its name: `HOST[:PORT]`. Without a port it is 4222. An IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct HostPort(String);

impl HostPort {
    /// Whether this is the server of a URL, by its name: two names of one host are two.
    fn is(&self, url: &NatsUrl) -> bool {
        let (host, port) = host_and_port(&self.0).unwrap_or_default();
        let (other, other_port) = url.parts();
        host.eq_ignore_ascii_case(other) && port == other_port
    }
}

impl TryFrom<String> for HostPort {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        match host_and_port(&value) {
            Some(_) => Ok(Self(value)),
            None => Err(ContractError::HostPort { value }),
        }
    }
}

impl FromStr for HostPort {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::try_from(value.to_owned())
    }
}

impl From<HostPort> for String {
    fn from(host: HostPort) -> Self {
        host.0
    }
}

impl FromStr for NatsUrl {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::try_from(value.to_owned())
    }
}

impl From<NatsUrl> for String {
    fn from(url: NatsUrl) -> Self {
        url.0
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the agent authenticates to NATS, by its field `type`. An unknown type is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NatsCredentials {
    /// A user and a password.
    UserPassword {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A token.
    Token {
        /// The token.
        token: SecretString,
    },
    /// A credentials file (user JWT and NKey seed) on the device.
    CredsFile {
        /// Where it is.
        path: PathBuf,
    },
    /// A key of the device's own, which the agent makes when there is none. With it the device has an identity of its
    /// own: it uses the subjects of [`DevicePermissions`](crate::DevicePermissions) and no other, and the consumer
    /// that the platform made for it.
    Nkey {
        /// The file with the private half, which nobody but the agent reads. Its directory has to exist.
        seed_file: PathBuf,
        /// A file with the token (JWT) that an account's signing key made for the public half; absent for a server that
        /// knows the public half itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwt_file: Option<PathBuf>,
    },
}
