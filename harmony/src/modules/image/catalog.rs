//! The images that are known by name, each pinned to releases whose digests were checked.
//!
//! A publisher removes dated releases after some months. An image is therefore pinned to more than one,
//! newest first; a removed one is passed over for the next pin, and never for an unverified file. The pins are
//! in `catalog/pins.rs`, which `harmony-image refresh --write` renews from the publishers' signed sums.

mod pins;

use super::digest::{ImageDigest, Sha256Digest, Sha512Digest};
use super::error::ImageError;
use super::format::DiskFormat;
use super::source::PinnedUrl;
use crate::domain::topology::virtualization::VmArchitecture;

pub use super::catalog_name::{CatalogName, UnknownImage};

/// A release of a catalog image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogPin {
    /// Where it is published.
    pub url: &'static str,
    /// What it must hash to.
    pub digest: ImageDigest,
    /// Its size in bytes, where it is known.
    pub size: Option<u64>,
}

/// An image of the catalog for one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogImage {
    /// Which image.
    pub name: CatalogName,
    /// Of which distribution.
    pub distribution: &'static str,
    /// Which release of it: version and code name.
    pub release: (&'static str, &'static str),
    /// For which guests.
    pub architecture: VmArchitecture,
    /// Its pinned releases, newest first. None when no digest was ever checked.
    pub pins: &'static [CatalogPin],
    /// What disk image it is.
    pub format: DiskFormat,
    /// The user that the publisher's cloud-init configuration makes.
    pub login_user: &'static str,
    /// The serial console that its kernel is told to use.
    pub console: &'static str,
}

/// The newest pinned Ubuntu 24.04 for arm64.
pub const UBUNTU_2404_ARM64_URL: &str = pins::UBUNTU_24_04_ARM64[0].url;
/// What [`UBUNTU_2404_ARM64_URL`] hashes to.
pub const UBUNTU_2404_ARM64_SHA256: &str = pins::UBUNTU_24_04_ARM64[0].digest;
/// The newest pinned Ubuntu 24.04 for amd64.
pub const UBUNTU_2404_AMD64_URL: &str = pins::UBUNTU_24_04_AMD64[0].url;
/// What [`UBUNTU_2404_AMD64_URL`] hashes to.
pub const UBUNTU_2404_AMD64_SHA256: &str = pins::UBUNTU_24_04_AMD64[0].digest;

/// A pin as it is written down: URL, digest, size.
struct WrittenPin {
    url: &'static str,
    digest: &'static str,
    size: Option<u64>,
}

/// Pins that are written down, checked by the compiler: a digest of a wrong length does not compile.
const fn checked<const N: usize>(written: &[WrittenPin; N]) -> [CatalogPin; N] {
    let first = CatalogPin {
        url: "",
        digest: ImageDigest::Sha256(Sha256Digest::ZERO),
        size: None,
    };
    let mut pins = [first; N];
    let mut at = 0;
    while at < N {
        let pin = &written[at];
        pins[at] = CatalogPin {
            url: pin.url,
            digest: match pin.digest.len() {
                64 => ImageDigest::Sha256(Sha256Digest::pinned(pin.digest)),
                _ => ImageDigest::Sha512(Sha512Digest::pinned(pin.digest)),
            },
            size: pin.size,
        };
        at += 1;
    }
    pins
}

impl CatalogName {
    /// The image for one architecture.
    pub fn image(self, architecture: VmArchitecture) -> CatalogImage {
        let (distribution, release, login_user) = match self {
            Self::Ubuntu2404 | Self::Ubuntu2404Minimal => ("Ubuntu", ("24.04", "noble"), "ubuntu"),
            Self::Debian12 => ("Debian", ("12", "bookworm"), "debian"),
            Self::Debian13 => ("Debian", ("13", "trixie"), "debian"),
        };
        CatalogImage {
            name: self,
            distribution,
            release,
            architecture,
            pins: self.pins(architecture),
            format: DiskFormat::Qcow2,
            login_user,
            console: serial_console(architecture),
        }
    }

    fn pins(self, architecture: VmArchitecture) -> &'static [CatalogPin] {
        use VmArchitecture::{Aarch64, X86_64};
        match (self, architecture) {
            (Self::Ubuntu2404, X86_64) => const { &checked(&pins::UBUNTU_24_04_AMD64) },
            (Self::Ubuntu2404, Aarch64) => const { &checked(&pins::UBUNTU_24_04_ARM64) },
            (Self::Ubuntu2404Minimal, X86_64) => {
                const { &checked(&pins::UBUNTU_24_04_MINIMAL_AMD64) }
            }
            (Self::Ubuntu2404Minimal, Aarch64) => {
                const { &checked(&pins::UBUNTU_24_04_MINIMAL_ARM64) }
            }
            (Self::Debian12, X86_64) => const { &checked(&pins::DEBIAN_12_AMD64) },
            (Self::Debian12, Aarch64) => const { &checked(&pins::DEBIAN_12_ARM64) },
            (Self::Debian13, X86_64) => const { &checked(&pins::DEBIAN_13_AMD64) },
            (Self::Debian13, Aarch64) => const { &checked(&pins::DEBIAN_13_ARM64) },
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
    /// [`ImageError::NotPinned`] when there are none.
    pub fn pinned_urls(&self) -> Result<Vec<PinnedUrl>, ImageError> {
        if self.pins.is_empty() {
            return Err(ImageError::NotPinned {
                name: self.name,
                architecture: self.architecture,
            });
        }
        let pinned = self.pins.iter().map(|pin| {
            let url = PinnedUrl::new(pin.url, pin.digest)?;
            Ok(match pin.size {
                Some(size) => url.with_size(size),
                None => url,
            })
        });
        pinned.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::CatalogName;
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::error::ImageError;

    #[test]
    fn every_pin_is_a_dated_https_release_of_its_architecture_with_its_own_digest() {
        let mut digests = HashSet::new();
        for name in CatalogName::ALL {
            assert_eq!(name.as_str().parse::<CatalogName>().ok(), Some(name));
            for architecture in VmArchitecture::ALL {
                let image = name.image(architecture);
                for pin in image.pins {
                    assert!(pin.url.starts_with("https://"), "{}", pin.url);
                    assert!(pin.url.contains(architecture.debian_name()), "{}", pin.url);
                    assert!(pin.url.contains(image.release.1), "{}", pin.url);
                    assert!(pin.url.contains("/release-20") || pin.url.contains("/20"));
                    assert!(digests.insert(pin.digest), "{} repeats a digest", pin.url);
                }
                match image.pinned_urls() {
                    Ok(urls) => assert_eq!(urls.len(), image.pins.len()),
                    // No digest of it has been checked.
                    Err(error) => {
                        assert!(matches!(error, ImageError::NotPinned { .. }), "{error:?}");
                        assert_eq!(name, CatalogName::Ubuntu2404Minimal);
                    }
                }
            }
        }
        assert!(digests.len() >= 8);
    }
}
