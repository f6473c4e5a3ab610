//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::modules::kvm::violation::Violation;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// What an address looks like.
    pub const EXPECTED: &'static str = "six colon-separated pairs of hexadecimal digits of a unicast, locally administered address, for example 52:54:00:12:34:56";

    /// The addresses of a VM's cards. Each card without one of its own gets QEMU's locally administered
    /// prefix 52:54:00 and three bytes of the VM's UUID, or of a UUID derived from it and the card's place:
    /// the same as long as the VM's UUID is. No two are equal.
    pub fn for_cards(uuid: Uuid, given: &[Option<Self>]) -> Vec<Self> {
        let mut taken: Vec<Self> = given.iter().flatten().copied().collect();
        let cards = given.iter().enumerate();
        cards
            .map(|(place, given)| {
                given.unwrap_or_else(|| {
                    let address = Self::derived(uuid, place, &taken);
                    taken.push(address);
                    address
                })
            })
            .collect()
    }

    /// The address of the card at this place, which is none of those taken.
    pub fn derived(uuid: Uuid, place: usize, taken: &[Self]) -> Self {
        let source = match place {
            0 => uuid,
            _ => Uuid::new_v5(&uuid, format!("network card {place}").as_bytes()),
        };
        let [.., a, b, c] = *source.as_bytes();
        let mut address = Self([0x52, 0x54, 0x00, a, b, c]);
        while taken.contains(&address) {
            let [.., a, b, c] = address.0;
            let [_, a, b, c] = (u32::from_be_bytes([0, a, b, c]) + 1).to_be_bytes();
            address = Self([0x52, 0x54, 0x00, a, b, c]);
        }
        address
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
        let mut text = String::with_capacity(17);
        for (place, byte) in self.0.into_iter().enumerate() {
            if place > 0 {
                text.push(':');
            }
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        f.write_str(&text)
    }
}

impl FromStr for MacAddress {
    type Err = Violation;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let bad = || Violation::new("mac", value, Self::EXPECTED);
        let parts: Vec<&str> = value.split(':').collect();
        let mut bytes = [0_u8; 6];
        if parts.len() != bytes.len() {
            return Err(bad());
        }
        for (byte, part) in bytes.iter_mut().zip(parts) {
            if part.len() != 2 || !part.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        // Bit 0 of the first byte tells multicast, bit 1 a locally administered address (IEEE 802).
        if bytes[0] & 0b11 != 0b10 {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Violation;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}
