//! The release of the agent that a device shall run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::hex::Hex;
use crate::name::DeviceId;
use crate::nats::host_and_port;
use crate::operator::OperatorKey;
use crate::signature::Signature;

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

/// Where a program is fetched: `https://HOST[:PORT]/PATH`, without a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseUrl(String);

impl ReleaseUrl {
    /// The URL's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ReleaseUrl {
    type Error = ContractError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let rest = text.strip_prefix("https://");
        let is_url = |rest: &str| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let is_odd = |c: char| c == '@' || !c.is_ascii_graphic();
            host_and_port(authority).is_some() && !rest.contains(is_odd)
        };
        if text.len() > MAX_URL_CHARS || !rest.is_some_and(is_url) {
            return Err(ContractError::Release {
                what: "url",
                expected: "https://HOST[:PORT]/PATH without a user",
            });
        }
        Ok(Self(text))
    }
}

impl FromStr for ReleaseUrl {
    type Err = ContractError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<ReleaseUrl> for String {
    fn from(url: ReleaseUrl) -> Self {
        url.0
    }
}

impl fmt::Display for ReleaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A program of the agent's, and where it is fetched: what is signed to be a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedProgram {
    architecture: String,
    sha256: Hex<32>,
    size: u64,
    url: ReleaseUrl,
}

impl ReleasedProgram {
    /// A program of `size` bytes for an instruction set as `uname -m` names it.
    ///
    /// # Errors
    ///
    /// [`ContractError::Release`] for an instruction set of another form, and for a size that no device takes.
    pub fn new(
        architecture: &str,
        sha256: Hex<32>,
        size: u64,
        url: ReleaseUrl,
    ) -> Result<Self, ContractError> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !(1..=16).contains(&architecture.len()) || !architecture.chars().all(is_word) {
            return Err(ContractError::Release {
                what: "architecture",
                expected: "as uname -m names it",
            });
        }
        if !(1..=MAX_BYTES).contains(&size) {
            return Err(ContractError::Release {
                what: "size",
                expected: "1 to 33554432 bytes",
            });
        }
        Ok(Self {
            architecture: architecture.to_owned(),
            sha256,
            size,
            url,
        })
    }
}

/// A program of the agent's, signed by who releases it. The value of [`agent_release_key`], as JSON.
///
/// ```
/// let release: iot_contracts::AgentRelease = serde_json::from_str(
///     r#"{"type":"AgentReleaseV0","serial":7,"architecture":"aarch64","sha256":
///     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":5000000,
///     "url":"https://releases.example/iot-agent-v0","signature":
///     "g+ES8Fi0t76IZaMDnlVdPcF7Oxmp31Q0UaujwJe0SOE3i4zyY27hqHMfuebKjjta9HVI3cLX4GPdRLKGwk96Ag=="}"#,
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
pub struct AgentRelease {
    serial: u64,
    program: ReleasedProgram,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum WireRelease {
    AgentReleaseV0(ReleaseV0),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseV0 {
    serial: u64,
    architecture: String,
    sha256: Hex<32>,
    size: u64,
    url: ReleaseUrl,
    signature: Signature,
}

impl AgentRelease {
    /// A release that `sign` signs.
    ///
    /// # Errors
    ///
    /// Whatever keeps `sign` from signing.
    pub fn sign<E>(
        serial: u64,
        program: ReleasedProgram,
        sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>,
    ) -> Result<Self, E> {
        let signature = sign(signed_text(serial, &program).as_bytes())?.into();
        Ok(Self {
            serial,
            program,
            signature,
        })
    }

    /// Counts the releases: a device takes none with a lower one than it has taken, so that an old one that was signed
    /// once cannot be put in the place of a newer one. To go back to an older program, sign it with a new serial.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The instruction set that it is for, as `uname -m` names it.
    pub fn architecture(&self) -> &str {
        &self.program.architecture
    }

    /// The digest of the program.
    pub fn sha256(&self) -> Hex<32> {
        self.program.sha256
    }

    /// The program's size, in bytes.
    pub fn size(&self) -> u64 {
        self.program.size
    }

    /// Where it is fetched.
    pub fn url(&self) -> &ReleaseUrl {
        &self.program.url
    }

    /// What is signed: a line each of a fixed text, serial, architecture, size and digest. Where it is fetched is not.
    pub fn signed_text(&self) -> String {
        signed_text(self.serial, &self.program)
    }

    /// Whether `key` has signed it.
    pub fn is_signed_by(&self, key: &OperatorKey) -> bool {
        self.signature.is_of(key, self.signed_text().as_bytes())
    }
}

fn signed_text(serial: u64, program: &ReleasedProgram) -> String {
    let ReleasedProgram {
        architecture,
        sha256,
        size,
        url: _,
    } = program;
    format!("{SIGNED}\n{serial}\n{architecture}\n{size}\n{sha256}\n")
}

impl TryFrom<WireRelease> for AgentRelease {
    type Error = ContractError;

    fn try_from(WireRelease::AgentReleaseV0(wire): WireRelease) -> Result<Self, Self::Error> {
        Ok(Self {
            serial: wire.serial,
            program: ReleasedProgram::new(&wire.architecture, wire.sha256, wire.size, wire.url)?,
            signature: wire.signature,
        })
    }
}

impl From<AgentRelease> for WireRelease {
    fn from(release: AgentRelease) -> Self {
        let program = release.program;
        Self::AgentReleaseV0(ReleaseV0 {
            serial: release.serial,
            architecture: program.architecture,
            sha256: program.sha256,
            size: program.size,
            url: program.url,
            signature: release.signature,
        })
    }
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
