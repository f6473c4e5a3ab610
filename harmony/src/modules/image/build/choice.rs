//! Which builder the caller wants.

use std::fmt;
use std::str::FromStr;

use super::BuilderKind;

/// Which builder the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuilderChoice {
    /// In a guest where the base can be had, else from packages.
    #[default]
    Auto,
    /// That one.
    Only(BuilderKind),
}

/// A text that names no builder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown builder '{value}' (expected auto, guest or packages)")]
pub struct UnknownBuilder {
    /// What was given.
    pub value: String,
}

impl FromStr for BuilderChoice {
    type Err = UnknownBuilder;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "auto" => Ok(Self::Auto),
            "guest" => Ok(Self::Only(BuilderKind::InGuest)),
            "packages" => Ok(Self::Only(BuilderKind::FromPackages)),
            _ => Err(UnknownBuilder {
                value: value.to_owned(),
            }),
        }
    }
}

impl fmt::Display for BuilderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Only(BuilderKind::InGuest) => "guest",
            Self::Only(BuilderKind::FromPackages) => "packages",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::BuilderChoice;

    #[test]
    fn every_choice_survives_its_own_text() {
        for text in ["auto", "guest", "packages"] {
            let choice: BuilderChoice = text.parse().expect(text);
            assert_eq!(choice.to_string(), text);
        }
        let error = "docker".parse::<BuilderChoice>().expect_err("unknown");
        let expected = "unknown builder 'docker' (expected auto, guest or packages)";
        assert_eq!(error.to_string(), expected);
    }
}
