//! Bytes of a fixed number, written as hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;

/// `N` bytes, such as a digest. Written as `2 * N` hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>([u8; N]);

impl<const N: usize> Hex<N> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> From<[u8; N]> for Hex<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = ContractError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ContractError::Hex { digits: 2 * N };
        if text.len() != 2 * N {
            return Err(invalid());
        }
        let mut bytes = [0; N];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let high = digit(digits[0]).ok_or_else(invalid)?;
            let low = digit(digits[1]).ok_or_else(invalid)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = ContractError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(hex: Hex<N>) -> Self {
        hex.to_string()
    }
}

#[cfg(test)]
impl<const N: usize> schemars::JsonSchema for Hex<N> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Hex{N}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pattern = format!("^[0-9a-f]{{{}}}$", 2 * N);
        schemars::json_schema!({ "type": "string", "pattern": pattern })
    }
}

#[cfg(test)]
mod tests {
    use super::Hex;
    use crate::error::ContractError;

    #[test]
    fn only_as_many_digits_in_lower_case() {
        let hex: Hex<2> = "0aff".parse().unwrap();
        assert_eq!(
            (hex.bytes(), hex.to_string()),
            (&[10, 255], "0aff".to_owned())
        );
        for text in ["", "0af", "0aff0", "0AFF", "0x0a", "-aff", "äaf"] {
            let error = text.parse::<Hex<2>>();
            assert_eq!(error, Err(ContractError::Hex { digits: 4 }), "{text}");
        }
    }
}
