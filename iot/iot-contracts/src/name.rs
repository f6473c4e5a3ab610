//! Names which are parts of NATS subjects, KV keys and container names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;

/// The longest name, in characters: that of a DNS label.
const MAX_CHARS: usize = 63;

fn check(what: &'static str, value: &str) -> Result<(), ContractError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=MAX_CHARS).contains(&value.len()) && value.chars().all(allowed) {
        return Ok(());
    }
    Err(ContractError::Name {
        what,
        value: value.to_owned(),
        max_chars: MAX_CHARS,
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[cfg_attr(test, schemars(extend("pattern" = "^[a-z0-9-]{1,63}$")))]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = ContractError;

            fn try_from(value: String) -> Result<Self, Self::Error> {
                check($what, &value)?;
                Ok(Self(value))
            }
        }

        impl FromStr for $type {
            type Err = ContractError;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a device: 1 to 63 of `a-z`, `0-9` and `-`, so that it is one token of a NATS
    /// subject and one part of a KV key.
    DeviceId,
    "device id"
);
name!(
    /// The name of a deployment on a device; the same alphabet as [`DeviceId`].
    DeploymentName,
    "deployment name"
);
name!(
    /// The name of a service within a deployment; the same alphabet as [`DeviceId`].
    ServiceName,
    "service name"
);
name!(
    /// The name of a volume within a deployment; the same alphabet as [`DeviceId`].
    VolumeName,
    "volume name"
);

name!(
    /// The name of a desired-state bucket, see [`BucketMarker`](crate::BucketMarker); the same alphabet as
    /// [`DeviceId`].
    BucketId,
    "bucket id"
);

#[cfg(test)]
mod tests {
    use super::{DeploymentName, DeviceId};
    use crate::error::ContractError;

    #[test]
    fn accepts_one_to_63_of_the_alphabet() {
        for name in ["a", "0", "device-07", &"x".repeat(63)] {
            assert_eq!(name.parse::<DeviceId>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_everything_else_with_the_value() {
        for name in [
            "",
            &"x".repeat(64),
            "a.b",
            "A",
            "a b",
            "a*",
            ">",
            "ä",
            "a\n",
        ] {
            assert_eq!(
                name.parse::<DeploymentName>(),
                Err(ContractError::Name {
                    what: "deployment name",
                    value: name.to_owned(),
                    max_chars: 63
                })
            );
        }
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json::from_str::<DeviceId>("\"a.b\"").is_err());
        let id: DeviceId = serde_json::from_str("\"pi-1\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"pi-1\"");
    }
}
