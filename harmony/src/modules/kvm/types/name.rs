//! Names: of domains, of what is plugged into them, and the serial numbers that guests see.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::modules::kvm::violation::Violation;

/// The name of a domain: also a file name, a host name and a part of paths, so it is strict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// What a name looks like.
    pub const EXPECTED: &'static str =
        "1 to 63 letters, digits, '-', '_' or '.', beginning with a letter or digit";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a host name: lower case, with `-` for what a host name must not contain.
    pub fn hostname(&self) -> String {
        let text: String = self
            .0
            .to_ascii_lowercase()
            .chars()
            .map(|c| if matches!(c, '_' | '.') { '-' } else { c })
            .collect();
        text.trim_end_matches('-').to_owned()
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VmName {
    type Err = Violation;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let good_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good_first = value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if good_first && value.len() <= 63 && value.chars().all(good_char) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Violation::new("name", value, Self::EXPECTED))
        }
    }
}

impl TryFrom<String> for VmName {
    type Error = Violation;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

/// The name of a data disk or of a shared directory within a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceTag(String);

impl DeviceTag {
    /// What a tag looks like.
    pub const EXPECTED: &'static str =
        "1 to 20 lower-case letters, digits or '-', beginning with a letter";

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeviceTag {
    type Err = Violation;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let good_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good_first = value.starts_with(|c: char| c.is_ascii_lowercase());
        if good_first && value.len() <= 20 && value.chars().all(good_char) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Violation::new("tag", value, Self::EXPECTED))
        }
    }
}

/// The serial number of a machine, as its guest reads it from SMBIOS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SerialNumber(String);

impl SerialNumber {
    /// What a serial number looks like.
    pub const EXPECTED: &'static str = "1 to 64 letters, digits, '-', '_' or '.'";

    /// The serial number of a machine that was given none: 16 hexadecimal digits of its UUID, in the
    /// form of a Raspberry Pi's.
    pub fn derived(uuid: uuid::Uuid) -> Self {
        let (_, low) = uuid.as_u64_pair();
        Self(format!("{low:016x}"))
    }

    /// The serial number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SerialNumber {
    type Err = Violation;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        if is_plain(value) && value.len() <= 64 {
            Ok(Self(value.to_owned()))
        } else {
            Err(Violation::new("serial", value, Self::EXPECTED))
        }
    }
}

impl TryFrom<String> for SerialNumber {
    type Error = Violation;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<SerialNumber> for String {
    fn from(serial: SerialNumber) -> Self {
        serial.0
    }
}

/// Whether a text is one or more letters, digits, `-`, `_` and `.`.
pub(super) fn is_plain(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(good)
}
