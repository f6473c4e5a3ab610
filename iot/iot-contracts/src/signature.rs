//! Signatures, and the one place where they are verified.

use std::fmt;

use data_encoding::BASE64;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::operator::OperatorKey;

/// An ed25519 signature; 64 bytes, in Base64 on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^[A-Za-z0-9+/]{86}==$")))]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 64]);

impl Signature {
    /// Whether `key` has signed `text` with it.
    pub fn is_of(&self, key: &OperatorKey, text: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ED25519, key.bytes());
        public.verify(text, &self.0).is_ok()
    }
}

#[cfg(test)]
impl Signature {
    /// The same but for one bit.
    pub(crate) fn flipped(mut self) -> Self {
        self.0[63] ^= 1;
        self
    }
}

impl From<[u8; 64]> for Signature {
    fn from(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Signature {
    type Error = ContractError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        bytes.map(Self).ok_or(ContractError::Signature)
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        BASE64.encode(&signature.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::Signature;
    use crate::error::ContractError;

    #[test]
    fn a_signature_is_of_one_key_for_one_text() {
        let [one, other] = [KeyPair::new_operator(), KeyPair::new_operator()];
        let key = |pair: &KeyPair| pair.public_key().parse().unwrap();
        let bytes: [u8; 64] = one.sign(b"text").unwrap().try_into().unwrap();
        let signature = Signature::from(bytes);
        assert!(signature.is_of(&key(&one), b"text"));
        assert!(!signature.is_of(&key(&one), b"texts"));
        assert!(!signature.is_of(&key(&other), b"text"));
        assert!(!signature.flipped().is_of(&key(&one), b"text"));
        let text = String::from(signature);
        assert_eq!(Signature::try_from(text.clone()), Ok(signature));
        for bad in [&text[..87], "", &"0".repeat(128)] {
            let refused = Signature::try_from(bad.to_owned());
            assert_eq!(refused, Err(ContractError::Signature), "{bad}");
        }
    }
}
