//! The release of the agent that a device shall run.

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::hex::Hex;
use crate::name::DeviceId;

/// The largest program that is fetched, in bytes.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// The longest URL, in characters.
const MAX_URL_CHARS: usize = 2048;
/// What the signed text begins with: a signature of something else is never one of a release.
const SIGNED: &str = "harmony agent release 1";

/// The key in the desired-state bucket with the release of the agent that a device shall run: `<device_id>._agent`. No
/// deployment has such a name.
pub fn agent_release_key(device_id: &DeviceId) -> String {
    format!("{device_id}._agent")
}

/// A program of the agent's, signed by who releases it. The value of [`agent_release_key`], as JSON.
///
/// ```
/// let release: iot_contracts::AgentRelease = serde_json::from_str(
///     r#"{"type":"AgentReleaseV0","serial":7,"architecture":"aarch64","sha256":
///     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":5000000,
///     "url":"https://releases.example/iot-agent-v0","signature":
///     "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"}"#,
/// )?;
/// assert_eq!(
///     release.signed_text(),
///     "harmony agent release 1\n7\naarch64\n5000000\n\
///      e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireRelease", into = "WireRelease")]
pub struct AgentRelease(ReleaseV0);

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum WireRelease {
    AgentReleaseV0(ReleaseV0),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseV0 {
    serial: u64,
    architecture: String,
    sha256: Hex<32>,
    size: u64,
    url: String,
    signature: Hex<64>,
}

impl AgentRelease {
    /// Counts the releases: a device takes none with a lower one than it has taken, so that an old one that was signed
    /// once cannot be put in the place of a newer one. To go back to an older program, sign it with a new serial.
    pub fn serial(&self) -> u64 {
        self.0.serial
    }

    /// The instruction set that it is for, as `uname -m` names it.
    pub fn architecture(&self) -> &str {
        &self.0.architecture
    }

    /// The digest of the program.
    pub fn sha256(&self) -> Hex<32> {
        self.0.sha256
    }

    /// The program's size, in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Where it is fetched; `https://…`.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The ed25519 signature of [`AgentRelease::signed_text`].
    pub fn signature(&self) -> Hex<64> {
        self.0.signature
    }

    /// What is signed: a line each of a fixed text, serial, architecture, size and digest. Where it is fetched is not.
    pub fn signed_text(&self) -> String {
        let ReleaseV0 {
            serial,
            architecture,
            size,
            sha256,
            ..
        } = &self.0;
        format!("{SIGNED}\n{serial}\n{architecture}\n{size}\n{sha256}\n")
    }
}

impl TryFrom<WireRelease> for AgentRelease {
    type Error = ContractError;

    fn try_from(WireRelease::AgentReleaseV0(wire): WireRelease) -> Result<Self, Self::Error> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let architecture = &wire.architecture;
        if !(1..=16).contains(&architecture.len()) || !architecture.chars().all(is_word) {
            return Err(ContractError::Release {
                what: "architecture",
                expected: "as uname -m names it",
            });
        }
        if !(1..=MAX_BYTES).contains(&wire.size) {
            return Err(ContractError::Release {
                what: "size",
                expected: "1 to 33554432 bytes",
            });
        }
        let rest = wire.url.strip_prefix("https://");
        let is_url = |rest: &str| {
            !rest.is_empty() && !rest.contains(|c: char| c == '@' || !c.is_ascii_graphic())
        };
        if wire.url.len() > MAX_URL_CHARS || !rest.is_some_and(is_url) {
            return Err(ContractError::Release {
                what: "url",
                expected: "https://HOST[:PORT]/PATH without a user",
            });
        }
        Ok(Self(wire))
    }
}

impl From<AgentRelease> for WireRelease {
    fn from(AgentRelease(wire): AgentRelease) -> Self {
        Self::AgentReleaseV0(wire)
    }
}

#[cfg(test)]
mod tests {
    use super::{AgentRelease, agent_release_key};
    use crate::desired_state_key_deployment;

    fn json(field: &str, value: serde_json::Value) -> serde_json::Value {
        let mut json = serde_json::json!({
            "type": "AgentReleaseV0", "serial": 1, "architecture": "aarch64", "sha256": "a".repeat(64), "size": 3,
            "url": "https://h/x", "signature": "b".repeat(128),
        });
        json[field] = value;
        json
    }

    #[test]
    fn what_is_no_release_is_refused() {
        let good = json("serial", 1.into());
        let release: AgentRelease = serde_json::from_value(good.clone()).unwrap();
        assert_eq!(serde_json::to_value(&release).unwrap(), good);
        let bad: [(&str, serde_json::Value); 13] = [
            ("type", "AgentReleaseV9".into()),
            ("serial", (-1).into()),
            ("architecture", "".into()),
            ("architecture", "a\nb".into()),
            ("sha256", "A".repeat(64).into()),
            ("size", 0.into()),
            ("size", 33_554_433.into()),
            ("url", "http://h/x".into()),
            ("url", "https://".into()),
            ("url", "https://user@h/x".into()),
            ("url", "https://h/ x".into()),
            ("signature", "b".repeat(64).into()),
            ("more", 1.into()),
        ];
        for (field, value) in bad {
            let json = json(field, value);
            serde_json::from_value::<AgentRelease>(json.clone()).expect_err(&json.to_string());
        }
    }

    #[test]
    fn its_key_is_no_deployments() {
        let device = "pi-1".parse().unwrap();
        let key = agent_release_key(&device);
        assert_eq!(key, "pi-1._agent");
        desired_state_key_deployment(&device, &key).unwrap_err();
    }
}
