//! SHA-256.

use iot_contracts::Hex;
use sha2::{Digest, Sha256};

/// The digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> Hex<32> {
    <[u8; 32]>::from(Sha256::digest(bytes)).into()
}
