//! Ports that a device publishes.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::score::PortMapping;

/// A port of the device that leads to one of the container: `[ADDRESS:]HOST:CONTAINER[/tcp|/udp]`, an IPv6 address in
/// brackets. Without an address it is one on all of the device's addresses, and TCP without a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^(.+:)?[0-9]+:[0-9]+(/(tcp|udp))?$")))]
#[serde(try_from = "String", into = "String")]
pub struct PublishedPort {
    address: Option<IpAddr>,
    host: NonZeroU16,
    container: NonZeroU16,
    protocol: Protocol,
}

/// What is spoken over IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name in Podman's interface and in the score.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl PublishedPort {
    /// The address of the device that it is published on; `None` for all of them.
    pub fn address(self) -> Option<IpAddr> {
        self.address
    }

    /// The device's port.
    pub fn host(self) -> u16 {
        self.host.get()
    }

    /// The container's port.
    pub fn container(self) -> u16 {
        self.container.get()
    }

    /// What is spoken there.
    pub fn protocol(self) -> Protocol {
        self.protocol
    }

    /// Whether a device cannot publish both.
    pub fn collides_with(&self, other: &Self) -> bool {
        let everywhere = |address: Option<IpAddr>| address.is_none_or(|a| a.is_unspecified());
        let (one, two) = (self.address, other.address);
        let addresses = one == two || everywhere(one) || everywhere(two);
        addresses && (self.host, self.protocol) == (other.host, other.protocol)
    }
}

impl From<PortMapping> for PublishedPort {
    fn from(port: PortMapping) -> Self {
        let (host, container) = port.numbers();
        Self {
            address: None,
            host,
            container,
            protocol: Protocol::Tcp,
        }
    }
}

fn port(text: &str) -> Option<NonZeroU16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn read(value: &str) -> Option<PublishedPort> {
    let (ports, protocol) = match value.split_once('/') {
        None | Some((_, "tcp")) => (value.split('/').next()?, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return None,
    };
    let (before, container) = ports.rsplit_once(':')?;
    let (address, host) = match before.rsplit_once(':') {
        None => (None, before),
        Some((address, host)) => {
            let bare = address.strip_prefix('[');
            let address: IpAddr = match bare {
                Some(address) => IpAddr::V6(address.strip_suffix(']')?.parse().ok()?),
                None => IpAddr::V4(address.parse().ok()?),
            };
            (Some(address), host)
        }
    };
    Some(PublishedPort {
        address,
        host: port(host)?,
        container: port(container)?,
        protocol,
    })
}

impl FromStr for PublishedPort {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, ContractError> {
        read(value).ok_or_else(|| ContractError::PublishedPort {
            value: value.to_owned(),
        })
    }
}

impl TryFrom<String> for PublishedPort {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, ContractError> {
        value.parse()
    }
}

impl From<PublishedPort> for String {
    fn from(port: PublishedPort) -> Self {
        port.to_string()
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}:{}", self.host, self.container)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}
