//! Operators for tests, and who releases the agent.

use std::convert::Infallible;

use iot_contracts::{OperatorKey, SignedOrder, SignedValue};
use nkeys::{KeyPair, KeyPairType};

/// A key that is the same in each run.
fn pair(n: u8) -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::Operator, [n; 32]).unwrap()
}

/// Its public half.
pub fn key(n: u8) -> OperatorKey {
    pair(n).public_key().parse().unwrap()
}

/// What key `n` signs a text with.
pub fn sign(n: u8, text: &[u8]) -> Result<[u8; 64], Infallible> {
    Ok(pair(n).sign(text).unwrap().try_into().unwrap())
}

/// A value that key `n` signed; without a score it is a removal.
pub fn signed(
    n: u8,
    device: &str,
    deployment: &str,
    counter: u64,
    score: Option<String>,
) -> Vec<u8> {
    let (device, deployment) = (device.parse().unwrap(), deployment.parse().unwrap());
    let order = SignedOrder::sign(&device, &deployment, counter, score, &key(n), |input| {
        sign(n, input)
    });
    serde_json::to_vec(&SignedValue::Signed(order.unwrap())).unwrap()
}
