//! libvirt's version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A version of libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LibvirtVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub release: u32,
}

impl LibvirtVersion {
    /// A version by its first two numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            release: 0,
        }
    }

    /// From libvirt's own number: major * 1 000 000 + minor * 1000 + release.
    pub fn from_number(number: u32) -> Self {
        Self {
            major: number / 1_000_000,
            minor: number / 1000 % 1000,
            release: number % 1000,
        }
    }
}

impl fmt::Display for LibvirtVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.release)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is no version (expected {expected})")]
pub struct NotAVersion {
    /// What was given.
    pub value: String,
    /// What a version looks like.
    pub expected: &'static str,
}

/// The numbers of a version, all of them and no more.
pub(super) fn numbers<const N: usize>(
    value: &str,
    expected: &'static str,
) -> Result<[u32; N], NotAVersion> {
    let numbers: Option<Vec<u32>> = value.split('.').map(|n| n.parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| NotAVersion {
            value: value.to_owned(),
            expected,
        })
}

impl FromStr for LibvirtVersion {
    type Err = NotAVersion;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let [major, minor, release] = numbers(value, "MAJOR.MINOR.RELEASE")?;
        Ok(Self {
            major,
            minor,
            release,
        })
    }
}

impl TryFrom<String> for LibvirtVersion {
    type Error = NotAVersion;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<LibvirtVersion> for String {
    fn from(version: LibvirtVersion) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::LibvirtVersion;

    #[test]
    fn versions() {
        let version = LibvirtVersion::from_number(11_003_000);
        assert_eq!(version, LibvirtVersion::new(11, 3));
        assert_eq!(version.to_string(), "11.3.0");
        assert_eq!("11.3.0".parse(), Ok(version));
        assert!(version > LibvirtVersion::new(9, 10));
        for bad in ["", "11", "11.3", "11.3.0.1", "11.x.0"] {
            let error = bad.parse::<LibvirtVersion>().expect_err(bad);
            assert_eq!(error.value, bad);
        }
    }
}
