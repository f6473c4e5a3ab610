//! The names of the catalog's images. Pure.

use std::fmt;
use std::str::FromStr;

/// An image of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CatalogName {
    /// Ubuntu 24.04 server, as Canonical publishes it for clouds.
    Ubuntu2404,
    /// Ubuntu 24.04 minimal: the same without what people at a terminal want.
    Ubuntu2404Minimal,
    /// Debian 12, the `genericcloud` image.
    Debian12,
    /// Debian 13, the `genericcloud` image.
    Debian13,
}

/// A name that the catalog does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown image '{value}' (expected {})", expected_sources())]
pub struct UnknownImage {
    /// What was given.
    pub value: String,
}

impl CatalogName {
    /// Every image, in a fixed order.
    pub const ALL: [Self; 4] = [
        Self::Ubuntu2404,
        Self::Ubuntu2404Minimal,
        Self::Debian12,
        Self::Debian13,
    ];

    /// The name that users give it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ubuntu2404 => "ubuntu-24.04",
            Self::Ubuntu2404Minimal => "ubuntu-24.04-minimal",
            Self::Debian12 => "debian-12",
            Self::Debian13 => "debian-13",
        }
    }
}

impl fmt::Display for CatalogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CatalogName {
    type Err = UnknownImage;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == value)
            .ok_or_else(|| UnknownImage {
                value: value.to_owned(),
            })
    }
}

/// What an image may be named by.
pub(super) fn expected_sources() -> String {
    let names = CatalogName::ALL.map(CatalogName::as_str).join(", ");
    format!("auto, {names}, a path, or URL#sha256=DIGEST")
}
