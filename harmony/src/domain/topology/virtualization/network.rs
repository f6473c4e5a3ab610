//! How a guest is connected.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A transport protocol of a forwarded port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The name that libvirt uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the host's 127.0.0.1 that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortForward {
    /// The host's port, 1 to 65535.
    pub host: u16,
    /// The guest's port, 1 to 65535.
    pub guest: u16,
    /// TCP unless said otherwise.
    #[serde(default)]
    pub protocol: Protocol,
}

impl fmt::Display for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.guest)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

/// What a network card is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum VmNetwork {
    /// User networking through passt. Needs no root and no bridge; the guest reaches the host's loopback
    /// at its default gateway's address. On the first card, SSH gets a forwarded port of its own.
    User {
        /// Further ports of 127.0.0.1 that lead to the guest.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        forwards: Vec<PortForward>,
    },
    /// A NAT network of libvirt; the guest's address comes from its lease.
    Nat {
        /// The libvirt network's name, usually `default`.
        network: String,
    },
    /// An existing bridge of the host.
    Bridge {
        /// The bridge's interface name.
        name: String,
    },
}

impl VmNetwork {
    /// User networking with no further ports forwarded.
    pub const USER: Self = Self::User {
        forwards: Vec::new(),
    };

    /// The ports that are forwarded besides the first card's for SSH.
    pub fn forwards(&self) -> &[PortForward] {
        match self {
            Self::User { forwards } => forwards,
            Self::Nat { .. } | Self::Bridge { .. } => &[],
        }
    }
}

impl Default for VmNetwork {
    fn default() -> Self {
        Self::USER
    }
}

impl fmt::Display for VmNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { forwards } if forwards.is_empty() => f.write_str("user"),
            Self::User { forwards } => {
                let forwards: Vec<String> = forwards.iter().map(ToString::to_string).collect();
                write!(f, "user:{}", forwards.join(","))
            }
            Self::Nat { network } => write!(f, "nat:{network}"),
            Self::Bridge { name } => write!(f, "bridge:{name}"),
        }
    }
}

/// A text that names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown network '{value}' (expected user, user:HOSTPORT:GUESTPORT[/udp][,...], nat, nat:NETWORK or bridge:NAME)"
)]
pub struct UnknownNetwork {
    /// What was given.
    pub value: String,
}

impl FromStr for VmNetwork {
    type Err = UnknownNetwork;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownNetwork {
            value: value.to_owned(),
        };
        match value.split_once(':') {
            None if value == "user" => Ok(Self::USER),
            None if value == "nat" => Ok(Self::Nat {
                network: "default".to_owned(),
            }),
            Some(("user", forwards)) => {
                let forwards: Option<Vec<_>> = forwards.split(',').map(forward).collect();
                Ok(Self::User {
                    forwards: forwards.ok_or_else(unknown)?,
                })
            }
            Some(("nat", network)) if !network.is_empty() => Ok(Self::Nat {
                network: network.to_owned(),
            }),
            Some(("bridge", name)) if !name.is_empty() => Ok(Self::Bridge {
                name: name.to_owned(),
            }),
            _ => Err(unknown()),
        }
    }
}

fn forward(text: &str) -> Option<PortForward> {
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return None,
    };
    let (host, guest) = ports.split_once(':')?;
    let port = |text: &str| text.parse().ok().filter(|&port: &u16| port != 0);
    Some(PortForward {
        host: port(host)?,
        guest: port(guest)?,
        protocol,
    })
}

/// One network card of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkCard {
    /// What it is connected to.
    pub network: VmNetwork,
    /// Its Ethernet address: unicast and locally administered. Without one it is derived from the VM's
    /// UUID, and stays as long as the VM does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

impl From<VmNetwork> for NetworkCard {
    fn from(network: VmNetwork) -> Self {
        Self { network, mac: None }
    }
}

/// A network card of one VM, for unplugging it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkHandle(u32);

impl NetworkHandle {
    /// The handle of the card with this place among a VM's cards, counted from 0.
    pub fn of(place: u32) -> Self {
        Self(place)
    }

    /// The card's place among its VM's cards, counted from 0.
    pub fn place(&self) -> u32 {
        self.0
    }
}

impl fmt::Display for NetworkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network card {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{NetworkCard, VmNetwork};

    #[test]
    fn networks_survive_their_own_text() {
        for text in [
            "user",
            "user:8080:80",
            "user:8080:80,5353:53/udp",
            "nat:default",
            "nat:lab",
            "bridge:br0",
        ] {
            let network: VmNetwork = text.parse().expect(text);
            assert_eq!(network.to_string(), text);
            let json = serde_json::to_string(&network).expect("serialisable");
            assert_eq!(
                serde_json::from_str::<VmNetwork>(&json).expect("readable"),
                network
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused_whole() {
        for text in [
            "",
            "nat:",
            "bridge",
            "bridge:",
            "tap:x",
            "user:x",
            "user:",
            "user:80",
            "user:0:80",
            "user:80:0",
            "user:80:70000",
            "user:80:80/sctp",
            "user:80:80,",
        ] {
            let error = text.parse::<VmNetwork>().expect_err(text);
            assert_eq!(error.value, text);
        }
    }

    #[test]
    fn a_card_of_a_plain_network_says_no_more_than_that() {
        let json = serde_json::to_string(&NetworkCard::default()).expect("serialisable");
        assert_eq!(json, r#"{"network":{"type":"user"}}"#);
    }
}
