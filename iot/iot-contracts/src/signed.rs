//! A desired state, or its removal, as an operator signs it.
//!
//! What is signed are these lines, and after the last one the score's bytes as they are; nothing has to be written in a
//! canonical form. No name has a line break in it.
//!
//! ```text
//!   harmony desired state 1
//!   DEVICE
//!   DEPLOYMENT
//!   COUNTER
//!   run | remove
//!   SCORE
//! ```

use serde::{Deserialize, Serialize};

use crate::name::{DeploymentName, DeviceId};
use crate::operator::{OperatorConfig, OperatorKey};
use crate::signature::Signature;

/// What is signed begins with this line: a signature for anything else is none for a desired state.
const DOMAIN: &str = "harmony desired state 1";

/// A value of the desired-state bucket that is signed: `{"type": "Signed", "data": {…}}`, beside
/// [`IotScore`](crate::IotScore). An agent that knows no signatures refuses the type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", content = "data", deny_unknown_fields)]
pub enum SignedValue {
    /// It is signed.
    Signed(SignedOrder),
}

/// What an operator orders of one deployment of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignedOrder {
    /// Which device is meant.
    pub device_id: DeviceId,
    /// Which deployment is meant.
    pub deployment: DeploymentName,
    /// The operators' own counter. It rises with each order for a deployment, whoever of them signs it.
    pub counter: u64,
    /// The JSON of the [`IotScore`](crate::IotScore) that shall run; absent where the deployment is to be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// Whose signature it is.
    pub key: OperatorKey,
    /// The signature.
    pub signature: Signature,
}

/// Why a device does not obey an entry of its desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// It is a plain value.
    #[error("it is not signed (expected an operator's signature)")]
    Unsigned,
    /// It is a delete or purge marker, which carries no signature.
    #[error("its removal is not signed (expected a signed value without a score)")]
    UnsignedRemoval,
    /// It is no signed value that can be read.
    #[error(
        "it is no whole signed value (expected type, device, deployment, counter, key and signature)"
    )]
    Malformed,
    /// Nobody here knows the key.
    #[error("it is signed with {key}, which is not in operator.keys of the device")]
    UnknownKey {
        /// The key.
        key: OperatorKey,
    },
    /// The key is not obeyed any more.
    #[error("it is signed with {key}, which is revoked on the device")]
    RevokedKey {
        /// The key.
        key: OperatorKey,
    },
    /// The key has not signed this.
    #[error("its signature is not one of {key} for what it says")]
    BadSignature {
        /// The key.
        key: OperatorKey,
    },
    /// It is meant for another device.
    #[error("it is signed for device {named}")]
    OtherDevice {
        /// For which.
        named: DeviceId,
    },
    /// It is meant for another deployment.
    #[error("it is signed for deployment {named}")]
    OtherDeployment {
        /// For which.
        named: DeploymentName,
    },
    /// It is as old as what was obeyed already, or older.
    #[error("its counter is {counter}, and {highest} was obeyed already (expected a higher one)")]
    CounterNotAbove {
        /// Its counter.
        counter: u64,
        /// The highest that was obeyed.
        highest: u64,
    },
    /// A newer agent's word.
    #[error("the device has a reason that this version does not know")]
    #[serde(other)]
    Unknown,
}

impl SignedOrder {
    /// An order that `sign` signs with `key`; `score` is the JSON of what shall run, or `None` for a removal.
    ///
    /// # Errors
    ///
    /// Whatever keeps `sign` from signing.
    pub fn sign<E>(
        device_id: &DeviceId,
        deployment: &DeploymentName,
        counter: u64,
        score: Option<String>,
        key: &OperatorKey,
        sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>,
    ) -> Result<Self, E> {
        let input = signing_input(device_id, deployment, counter, score.as_deref());
        let signature = sign(&input)?.into();
        Ok(Self {
            device_id: device_id.clone(),
            deployment: deployment.clone(),
            counter,
            score,
            key: key.clone(),
            signature,
        })
    }

    /// Whether `operator` has signed this for that deployment of that device. The counter is for the device to judge.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the key is not obeyed, has not signed this, or has signed it for something else.
    pub fn check(
        &self,
        operator: &OperatorConfig,
        device_id: &DeviceId,
        deployment: &DeploymentName,
    ) -> Result<(), Refusal> {
        let key = self.key.clone();
        if operator.is_revoked(&key) {
            return Err(Refusal::RevokedKey { key });
        }
        if !operator.obeyed().any(|obeyed| *obeyed == key) {
            return Err(Refusal::UnknownKey { key });
        }
        let input = signing_input(
            &self.device_id,
            &self.deployment,
            self.counter,
            self.score.as_deref(),
        );
        if !self.signature.is_of(&key, &input) {
            return Err(Refusal::BadSignature { key });
        }
        if self.device_id != *device_id {
            let named = self.device_id.clone();
            return Err(Refusal::OtherDevice { named });
        }
        if self.deployment != *deployment {
            let named = self.deployment.clone();
            return Err(Refusal::OtherDeployment { named });
        }
        Ok(())
    }
}

fn signing_input(
    device_id: &DeviceId,
    deployment: &DeploymentName,
    counter: u64,
    score: Option<&str>,
) -> Vec<u8> {
    let (order, score) = match score {
        Some(score) => ("run", score),
        None => ("remove", ""),
    };
    format!("{DOMAIN}\n{device_id}\n{deployment}\n{counter}\n{order}\n{score}").into_bytes()
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
