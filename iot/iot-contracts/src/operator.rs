//! The keys that a device's operators sign with, and those by which its agent's releases are signed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;

/// The most keys that a device takes, of each kind.
const MAX_KEYS: usize = 16;

/// The first byte of a public operator key, which makes its text begin with `O`.
const OPERATOR: u8 = 14 << 3;

/// The public key of an operator, or of who releases the agent: an ed25519 key as NATS writes those of operators, 56
/// characters that begin with `O`. It has a checksum, is told from its private half, which begins with `SO`, by its first
/// letter, and is its own name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^O[A-Z2-7]{55}$")))]
#[serde(try_from = "String", into = "String")]
pub struct OperatorKey {
    text: String,
    bytes: [u8; 32],
}

impl OperatorKey {
    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key itself.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl TryFrom<String> for OperatorKey {
    type Error = ContractError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match nkeys::from_public_key(&text) {
            Ok((OPERATOR, bytes)) => Ok(Self { text, bytes }),
            _ => Err(ContractError::OperatorKey),
        }
    }
}

impl FromStr for OperatorKey {
    type Err = ContractError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<OperatorKey> for String {
    fn from(key: OperatorKey) -> Self {
        key.text
    }
}

impl fmt::Display for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whose desired state a device obeys. Where the agent's configuration has this, a value that none of `keys` has signed
/// changes nothing on the device, and is reported.
///
/// A key is rotated by adding the new one, signing with it, and removing the old one; a key that may be in other hands
/// moves to `revoked`, so that what it signed is told from what nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "OperatorConfigWire")]
pub struct OperatorConfig {
    keys: Vec<OperatorKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<OperatorKey>,
}

impl OperatorConfig {
    /// A device that obeys `keys`, but for those that are `revoked` as well.
    ///
    /// # Errors
    ///
    /// [`ContractError::OperatorKeys`] for none or more than 16 `keys`, or more than 16 `revoked` ones.
    pub fn new(keys: Vec<OperatorKey>, revoked: Vec<OperatorKey>) -> Result<Self, ContractError> {
        let most = keys.len().max(revoked.len());
        if keys.is_empty() || most > MAX_KEYS {
            return Err(ContractError::OperatorKeys {
                keys: keys.len(),
                revoked: revoked.len(),
                max: MAX_KEYS,
            });
        }
        Ok(Self { keys, revoked })
    }

    /// The keys that are obeyed.
    pub fn obeyed(&self) -> impl Iterator<Item = &OperatorKey> {
        self.keys.iter().filter(|key| !self.is_revoked(key))
    }

    /// Whether `key` is not to be obeyed any more.
    pub fn is_revoked(&self, key: &OperatorKey) -> bool {
        self.revoked.contains(key)
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct OperatorConfigWire {
    #[cfg_attr(test, schemars(length(min = 1, max = MAX_KEYS)))]
    keys: Vec<OperatorKey>,
    #[cfg_attr(test, schemars(length(max = MAX_KEYS)))]
    #[serde(default)]
    revoked: Vec<OperatorKey>,
}

impl TryFrom<OperatorConfigWire> for OperatorConfig {
    type Error = ContractError;

    fn try_from(wire: OperatorConfigWire) -> Result<Self, Self::Error> {
        let OperatorConfigWire { keys, revoked } = wire;
        Self::new(keys, revoked)
    }
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::{OperatorConfig, OperatorKey};
    use crate::error::ContractError;

    #[test]
    fn only_an_operators_public_key_is_one() {
        let pair = KeyPair::new_operator();
        let text = pair.public_key();
        assert_eq!(text.parse::<OperatorKey>().unwrap().to_string(), text);
        let mut flipped = text.clone().into_bytes();
        flipped[20] = if flipped[20] == b'A' { b'B' } else { b'A' };
        let seed = pair.seed().unwrap();
        let others = [
            KeyPair::new_user().public_key(),
            String::from_utf8(flipped).unwrap(),
            text[..55].to_owned(),
            text.to_lowercase(),
            "Ö".repeat(28),
            String::new(),
            seed.clone(),
        ];
        for other in others {
            let error = other.parse::<OperatorKey>().unwrap_err();
            assert_eq!(error, ContractError::OperatorKey, "{other}");
            assert!(!error.to_string().contains(&seed));
        }
    }

    #[test]
    fn a_device_obeys_some_keys_and_not_too_many() {
        let keys = |n: usize| -> Vec<OperatorKey> {
            let key = |_| KeyPair::new_operator().public_key().parse().unwrap();
            (0..n).map(key).collect()
        };
        for (obeyed, revoked) in [(0, 0), (0, 1), (17, 0), (1, 17)] {
            let refused = OperatorConfig::new(keys(obeyed), keys(revoked));
            let expected = ContractError::OperatorKeys {
                keys: obeyed,
                revoked,
                max: 16,
            };
            assert_eq!(refused, Err(expected));
        }
        let two = keys(2);
        let config = OperatorConfig::new(two.clone(), vec![two[0].clone()]).unwrap();
        assert_eq!(config.obeyed().collect::<Vec<_>>(), [&two[1]]);
    }

    #[test]
    fn the_configuration_names_them() {
        let key = KeyPair::new_operator().public_key();
        let config: OperatorConfig = toml::from_str(&format!("keys = [\"{key}\"]")).unwrap();
        assert_eq!(
            toml::to_string(&config).unwrap(),
            format!("keys = [\"{key}\"]\n")
        );
        for (toml, part) in [
            ("keys = []".to_owned(), "operator.keys has 0 keys"),
            (format!("keys = [\"{key}\"]\nx = 1"), "unknown field `x`"),
            ("revoked = []".to_owned(), "missing field `keys`"),
        ] {
            let error = toml::from_str::<OperatorConfig>(&toml).unwrap_err();
            assert!(error.message().contains(part), "{}", error.message());
        }
    }
}
