//! The images that are known by name, each pinned to releases whose digests were checked.
//!
//! A publisher removes dated releases after some months. An image is therefore pinned to more than one,
//! newest first; a removed one is passed over for the next pin, and never for an unverified file.

use std::fmt;
use std::str::FromStr;

use super::digest::{ImageDigest, Sha256Digest, Sha512Digest};
use super::error::ImageError;
use super::source::PinnedUrl;
use crate::domain::topology::virtualization::VmArchitecture;

/// An image of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CatalogName {
    /// Ubuntu 24.04 server, as Canonical publishes it for clouds.
    Ubuntu2404,
    /// Debian 12, the `genericcloud` image.
    Debian12,
}

/// A release of a catalog image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogPin {
    /// Where it is published.
    pub url: &'static str,
    /// What it must hash to.
    pub digest: ImageDigest,
}

/// An image of the catalog for one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogImage {
    /// Which image.
    pub name: CatalogName,
    /// For which guests.
    pub architecture: VmArchitecture,
    /// Its pinned releases, newest first.
    pub pins: &'static [CatalogPin],
    /// The user that the publisher's cloud-init configuration makes.
    pub login_user: &'static str,
    /// The serial console that its kernel is told to use.
    pub console: &'static str,
}

/// The newest pinned Ubuntu 24.04 for arm64.
pub const UBUNTU_2404_ARM64_URL: &str = "https://cloud-images.ubuntu.com/releases/noble/release-20260826/ubuntu-24.04-server-cloudimg-arm64.img";
/// What [`UBUNTU_2404_ARM64_URL`] hashes to.
pub const UBUNTU_2404_ARM64_SHA256: &str =
    "afa139bac6f2629c1e1f2f8f34215f3a9ad9779801bcb945521ba1a45016743f";
/// The newest pinned Ubuntu 24.04 for amd64.
pub const UBUNTU_2404_AMD64_URL: &str = "https://cloud-images.ubuntu.com/releases/noble/release-20260826/ubuntu-24.04-server-cloudimg-amd64.img";
/// What [`UBUNTU_2404_AMD64_URL`] hashes to.
pub const UBUNTU_2404_AMD64_SHA256: &str =
    "d0fe84bb5f80853425fa6be28e2c106f30104c3cfe8611933f2e65c9b63f0e30";

const UBUNTU_2404_ARM64: [CatalogPin; 2] = [
    sha256(UBUNTU_2404_ARM64_URL, UBUNTU_2404_ARM64_SHA256),
    sha256(
        "https://cloud-images.ubuntu.com/releases/noble/release-20260705/ubuntu-24.04-server-cloudimg-arm64.img",
        "7df0201546f75b8bcc1044594c806c35749421ad3c9bc1be2a3ab806cfae39cc",
    ),
];

const UBUNTU_2404_AMD64: [CatalogPin; 2] = [
    sha256(UBUNTU_2404_AMD64_URL, UBUNTU_2404_AMD64_SHA256),
    sha256(
        "https://cloud-images.ubuntu.com/releases/noble/release-20260705/ubuntu-24.04-server-cloudimg-amd64.img",
        "ffe6203da54deeb6db5d2a98a83f9ec8e55f149d3f7ba622e1abe5fa966ee3d6",
    ),
];

const DEBIAN_12_ARM64: [CatalogPin; 1] = [sha512(
    "https://cloud.debian.org/images/cloud/bookworm/20260712-2537/debian-12-genericcloud-arm64-20260712-2537.qcow2",
    "52eb678130e85a9bf9f3cf4f7181e060fa60a5db45373717474c5ff9305645c5e6cab8b05ca042bcfa7921d2ca29cf9fd2e815f75abe2d168557ad7207af127b",
)];

const DEBIAN_12_AMD64: [CatalogPin; 1] = [sha512(
    "https://cloud.debian.org/images/cloud/bookworm/20260712-2537/debian-12-genericcloud-amd64-20260712-2537.qcow2",
    "6c2607f1846ee86040830c87d0b723f0967da3e884ea4673d9db4aa8eee13a4b7c663524bfa42082c16fc6919f3aa1bf425c004d07ff06c53a319ad0c42647bb",
)];

const fn sha256(url: &'static str, hex: &str) -> CatalogPin {
    CatalogPin {
        url,
        digest: ImageDigest::Sha256(Sha256Digest::pinned(hex)),
    }
}

const fn sha512(url: &'static str, hex: &str) -> CatalogPin {
    CatalogPin {
        url,
        digest: ImageDigest::Sha512(Sha512Digest::pinned(hex)),
    }
}

impl CatalogName {
    /// Every image, in a fixed order.
    pub const ALL: [Self; 2] = [Self::Ubuntu2404, Self::Debian12];

    /// The name that users give it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ubuntu2404 => "ubuntu-24.04",
            Self::Debian12 => "debian-12",
        }
    }

    /// The image for one architecture.
    pub fn image(self, architecture: VmArchitecture) -> CatalogImage {
        let (pins, login_user): (&'static [CatalogPin], _) = match (self, architecture) {
            (Self::Ubuntu2404, VmArchitecture::X86_64) => (&UBUNTU_2404_AMD64, "ubuntu"),
            (Self::Ubuntu2404, VmArchitecture::Aarch64) => (&UBUNTU_2404_ARM64, "ubuntu"),
            (Self::Debian12, VmArchitecture::X86_64) => (&DEBIAN_12_AMD64, "debian"),
            (Self::Debian12, VmArchitecture::Aarch64) => (&DEBIAN_12_ARM64, "debian"),
        };
        CatalogImage {
            name: self,
            architecture,
            pins,
            login_user,
            console: serial_console(architecture),
        }
    }
}

/// The serial console of a guest on QEMU's `virt` or `q35` machine, as Linux names it.
pub fn serial_console(architecture: VmArchitecture) -> &'static str {
    match architecture {
        VmArchitecture::X86_64 => "ttyS0",
        VmArchitecture::Aarch64 => "ttyAMA0",
    }
}

impl CatalogImage {
    /// The pins as they are fetched, newest first.
    ///
    /// # Errors
    /// Never for the catalog's own entries, which a test parses.
    pub fn pinned_urls(&self) -> Result<Vec<PinnedUrl>, ImageError> {
        self.pins
            .iter()
            .map(|pin| PinnedUrl::new(pin.url, pin.digest))
            .collect()
    }
}

impl fmt::Display for CatalogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CatalogName {
    type Err = ImageError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == value)
            .ok_or_else(|| ImageError::UnknownName {
                value: value.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::CatalogName;
    use crate::domain::topology::virtualization::VmArchitecture;

    #[test]
    fn every_entry_is_a_dated_https_release_of_its_architecture_with_its_own_digest() {
        let mut digests = HashSet::new();
        for name in CatalogName::ALL {
            assert_eq!(name.as_str().parse::<CatalogName>().ok(), Some(name));
            for architecture in VmArchitecture::ALL {
                let image = name.image(architecture);
                let urls = image.pinned_urls().expect("the catalog is well formed");
                assert!(!urls.is_empty(), "{image:?}");
                for pin in image.pins {
                    assert!(pin.url.starts_with("https://"), "{}", pin.url);
                    assert!(pin.url.contains(architecture.debian_name()), "{}", pin.url);
                    assert!(pin.url.contains("/release-2026") || pin.url.contains("/2026"));
                    assert!(digests.insert(pin.digest), "{} repeats a digest", pin.url);
                }
            }
        }
        assert_eq!(digests.len(), 6);
    }
}
