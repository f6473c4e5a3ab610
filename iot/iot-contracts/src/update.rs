//! Updates of the agent: whose are taken, and how they went.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::hex::Hex;
use crate::operator::OperatorKey;

/// Whose updates of the agent are taken, and how.
///
/// ```toml
/// [update]
/// keys = ["ODVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCZAW4"]
/// ca = "/etc/iot-agent/releases-ca.pem"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateConfig {
    /// A release is taken when it is signed by one of these. A program whose key is no longer here is not started any
    /// more, and the one that was installed runs instead.
    pub keys: Vec<OperatorKey>,
    /// The certificates of the authorities by which the servers of releases are verified (PEM); absent for the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Within what time a new program has to have a report stored, else the one before comes back.
    #[serde(default)]
    pub prove_within_seconds: ProveWithin,
}

/// A time of 5 to 3600 seconds; 600 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("minimum" = 5)))]
#[cfg_attr(test, schemars(extend("maximum" = 3600)))]
#[serde(try_from = "i64", into = "u16")]
pub struct ProveWithin(u16);

impl ProveWithin {
    const MIN: u16 = 5;
    const MAX: u16 = 3600;

    /// The time.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl Default for ProveWithin {
    fn default() -> Self {
        Self(600)
    }
}

impl TryFrom<i64> for ProveWithin {
    type Error = ContractError;

    fn try_from(value: i64) -> Result<Self, Self::Error> {
        let seconds = u16::try_from(value).ok();
        let seconds = seconds.filter(|seconds| (Self::MIN..=Self::MAX).contains(seconds));
        seconds.map(Self).ok_or(ContractError::ProveWithin {
            value,
            min: Self::MIN,
            max: Self::MAX,
        })
    }
}

impl From<ProveWithin> for u16 {
    fn from(time: ProveWithin) -> Self {
        time.0
    }
}

/// Which program of the agent's runs, and how its last update went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UpdateStatus {
    /// Which one runs.
    pub program: AgentProgram,
    /// The update that was asked for last; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastUpdate>,
}

/// Where a program of the agent's lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AgentProgram {
    /// Where it was installed.
    Installed,
    /// In the first slot for updates.
    A,
    /// In the second slot for updates.
    B,
    /// A newer agent's word.
    #[serde(other)]
    Unknown,
}

/// How an update went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastUpdate {
    /// The revision of the key that asked for it.
    pub revision: u64,
    /// The program's digest; absent where what was asked for cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Hex<32>>,
    /// Where it stands.
    pub phase: UpdatePhase,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Where an update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum UpdatePhase {
    /// It is being fetched; a failure to do so is tried again.
    Fetching,
    /// It runs, and has to prove itself.
    Trying,
    /// It proved itself.
    Proven,
    /// It is not taken until its key is written anew.
    Refused,
    /// It did not prove itself, or ended again and again later, and the program before is back. It is not tried again until
    /// its key is written anew.
    Failed,
    /// A newer agent's word.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::{AgentProgram, LastUpdate, ProveWithin, UpdateConfig, UpdatePhase, UpdateStatus};
    use crate::error::ContractError;

    #[test]
    fn golden() {
        let status = UpdateStatus {
            program: AgentProgram::B,
            last: Some(LastUpdate {
                revision: 9,
                sha256: Some([0; 32].into()),
                phase: UpdatePhase::Proven,
                detail: None,
            }),
        };
        let zeros = "0".repeat(64);
        let golden = format!(
            r#"{{"program":"b","last":{{"revision":9,"sha256":"{zeros}","phase":"Proven"}}}}"#
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), golden);
        assert_eq!(
            serde_json::from_str::<UpdateStatus>(&golden).unwrap(),
            status
        );
        let newer = r#"{"program":"c","last":{"revision":9,"phase":"Dreaming"},"more":1}"#;
        let newer: UpdateStatus = serde_json::from_str(newer).unwrap();
        assert_eq!(newer.program, AgentProgram::Unknown);
        assert_eq!(newer.last.unwrap().phase, UpdatePhase::Unknown);
    }

    #[test]
    fn times_and_keys_are_checked() {
        let config: UpdateConfig = toml::from_str("keys = []").unwrap();
        assert_eq!(config.prove_within_seconds.duration().as_secs(), 600);
        for value in [-1, 0, 4, 3601, 65536 + 600] {
            let error = ProveWithin::try_from(value).unwrap_err();
            assert!(matches!(error, ContractError::ProveWithin { value: v, .. } if v == value));
        }
        let digits = format!("keys = [\"{}\"]", "ab".repeat(32));
        for text in ["", "keys = [\"O\"]", &digits, "keys = []\nx = 1"] {
            toml::from_str::<UpdateConfig>(text).expect_err(text);
        }
        let pair = nkeys::KeyPair::new_operator();
        let key = pair.public_key();
        let config: UpdateConfig = toml::from_str(&format!("keys = [\"{key}\"]")).unwrap();
        assert_eq!(config.keys[0].as_str(), key);
        // The private half does not belong there, and is not quoted.
        let seed = pair.seed().unwrap();
        let error = toml::from_str::<UpdateConfig>(&format!("keys = [\"{seed}\"]")).unwrap_err();
        assert!(!error.message().contains(&seed), "{}", error.message());
    }
}
