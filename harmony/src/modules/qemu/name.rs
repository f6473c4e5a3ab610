//! The small checked texts of a manifest: a build's name, QEMU's version, a point in time, a host's name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::malformed::Malformed;
use crate::modules::host::QemuVersion;

/// `FromStr`, `Display` and serde's conversions of a newtype around a text, by its `checked`.
macro_rules! checked_text {
    ($name:ident, $what:literal, $expected:literal) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::checked(value).ok_or_else(|| Malformed::new($what, value, $expected))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(value: String) -> Result<Self, Self::Error> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(checked: $name) -> Self {
                checked.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// The name of a build in the store: 1 to 64 letters, digits, `-`, `_`, `+` or `.`, beginning with a letter
/// or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildName(String);

checked_text!(
    BuildName,
    "build name",
    "1 to 64 letters, digits, '-', '_', '+' or '.', beginning with a letter or digit"
);

impl BuildName {
    fn checked(value: &str) -> Option<Self> {
        let valid = value.len() <= 64
            && value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && consists_of(value, "-_+.");
        valid.then(|| Self(value.to_owned()))
    }
}

/// QEMU's version as it says it, such as `10.0.2` or `9.1.0-rc2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildVersion(String, QemuVersion);

checked_text!(
    BuildVersion,
    "QEMU version",
    "MAJOR.MINOR and what follows, such as 10.0.2, in at most 64 letters, digits, '-', '+', '~' or '.'"
);

impl BuildVersion {
    fn checked(value: &str) -> Option<Self> {
        let valid = value.len() <= 64
            && value.starts_with(|c: char| c.is_ascii_digit())
            && consists_of(value, "-+~.");
        let version = QemuVersion::parse(&format!("version {value}"))?;
        valid.then(|| Self(value.to_owned(), version))
    }

    /// The two numbers that features depend on.
    pub fn qemu_version(&self) -> QemuVersion {
        self.1
    }

    /// The version in the first line of `qemu-… --version`.
    pub fn from_output(said: &str) -> Option<Self> {
        let line = said.lines().next()?;
        let version = line.split_once("version ")?.1.split_whitespace().next()?;
        version.parse().ok()
    }
}

fn consists_of(value: &str, besides: &str) -> bool {
    value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || besides.contains(c))
}

/// The name of the host that a build was made on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildHost(String);

checked_text!(
    BuildHost,
    "build host",
    "1 to 253 letters, digits, '-', '_', ':' or '.'"
);

impl BuildHost {
    fn checked(value: &str) -> Option<Self> {
        let valid = (1..=253).contains(&value.len()) && consists_of(value, "-_:.");
        valid.then(|| Self(value.to_owned()))
    }
}

/// A point in time, in RFC 3339 and UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Now.
    pub fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }

    /// The time `seconds` after 1970 began.
    ///
    /// # Errors
    /// [`Malformed`] before the year 0 and after the year 9999, for which RFC 3339 has no form.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, Malformed> {
        match OffsetDateTime::from_unix_timestamp(seconds) {
            Ok(time) if (0..=9999).contains(&time.year()) => Ok(Self(time)),
            _ => Err(Malformed::new(
                "time",
                &seconds.to_string(),
                "seconds since 1970 in the years 0 to 9999",
            )),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Malformed;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match OffsetDateTime::parse(value, &Rfc3339) {
            Ok(time) if time.offset() == UtcOffset::UTC => Ok(Self(time)),
            _ => Err(Malformed::new(
                "time",
                value,
                "RFC 3339 in UTC, such as 2026-01-31T23:59:59Z",
            )),
        }
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Malformed;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years without such a form cannot be in it.
        let text = self.0.format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::{BuildHost, BuildName, BuildVersion, Timestamp};
    use crate::modules::host::QemuVersion;

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for good in ["a", "qemu-10.0.2+deb12_1", "7", &long] {
            let name: BuildName = good.parse().expect(good);
            assert_eq!(name.as_str(), good);
        }
        let too_long = "a".repeat(65);
        for bad in [
            "", ".", "..", "-a", ".a", "a/b", "a b", "a\n", "ä", &too_long,
        ] {
            assert!(bad.parse::<BuildName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions() {
        let table = [
            ("10.0.2", Some((10, 0))),
            ("9.1.0-rc2", Some((9, 1))),
            ("8.2", Some((8, 2))),
            ("10", None),
            ("", None),
            ("v10.0", None),
            ("10.0 (Debian)", None),
            ("10.x", None),
        ];
        for (text, expected) in table {
            let found = text.parse::<BuildVersion>().ok().map(|v| v.qemu_version());
            let expected = expected.map(|(major, minor)| QemuVersion { major, minor });
            assert_eq!(found, expected, "{text}");
        }
        let said = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        let version = BuildVersion::from_output(said).expect("a version");
        assert_eq!(version.as_str(), "10.0.2");
        assert_eq!(BuildVersion::from_output("error while loading"), None);
    }

    #[test]
    fn hosts() {
        assert!("build-7.example.org".parse::<BuildHost>().is_ok());
        for bad in ["", "a b", "a\n", &"a".repeat(254)] {
            assert!(bad.parse::<BuildHost>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_utc_and_ordered() {
        let at = |text: &str| text.parse::<Timestamp>();
        let earlier = at("2026-01-31T23:59:59Z").expect("well formed");
        let later = at("2026-01-31T23:59:59.5Z").expect("well formed");
        assert!(earlier < later, "by time, and not by letter");
        assert_eq!(earlier.to_string(), "2026-01-31T23:59:59Z");
        for bad in [
            "",
            "2026-01-31",
            "2026-01-31T23:59:59",
            "2026-01-31T23:59:59+01:00",
            "2026-02-30T00:00:00Z",
        ] {
            assert!(at(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Timestamp::from_unix_seconds(1)
                .expect("in range")
                .to_string(),
            "1970-01-01T00:00:01Z"
        );
        for seconds in [i64::MIN, -99_999_999_999, 253_402_300_800, i64::MAX] {
            assert!(Timestamp::from_unix_seconds(seconds).is_err(), "{seconds}");
        }
        let now = Timestamp::now();
        assert_eq!(at(&now.to_string()).ok(), Some(now));
    }
}
