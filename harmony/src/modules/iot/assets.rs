//! What a virtual device is made from, and where it is kept on this host.
//!
//! Everything that belongs to devices is below [`data_dir`]. The image that is built from packages is
//! costly and depends on nothing of them: it lives in the user's cache, `$XDG_CACHE_HOME/harmony/images`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::catalog::{self, CatalogName};
use crate::modules::image::debian::{build_debian_12, built_debian_12};
use crate::modules::image::error::ImageError;
use crate::modules::image::fetch::{Fetcher, fetch, stored_path};
use crate::modules::image::format::sniff_file;
use crate::modules::image::progress::{Logged, Progress};
use crate::modules::image::source::ImageSource;
use crate::modules::kvm::SYSTEM_POOL;

/// The pinned Ubuntu 24.04 cloud image for arm64.
pub const UBUNTU_2404_CLOUDIMG_ARM64_URL: &str = catalog::UBUNTU_2404_ARM64_URL;
/// The SHA-256 digest of [`UBUNTU_2404_CLOUDIMG_ARM64_URL`].
pub const UBUNTU_2404_CLOUDIMG_ARM64_SHA256: &str = catalog::UBUNTU_2404_ARM64_SHA256;
/// The pinned Ubuntu 24.04 cloud image for x86_64.
pub const UBUNTU_2404_CLOUDIMG_X86_64_URL: &str = catalog::UBUNTU_2404_AMD64_URL;
/// The SHA-256 digest of [`UBUNTU_2404_CLOUDIMG_X86_64_URL`].
pub const UBUNTU_2404_CLOUDIMG_X86_64_SHA256: &str = catalog::UBUNTU_2404_AMD64_SHA256;

/// A directory of the user that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {purpose} directory: none of {variables} is set to an absolute path")]
pub struct NoUserDirectory {
    /// What it is for.
    pub purpose: &'static str,
    /// The environment variables that were looked at.
    pub variables: &'static str,
}

impl HintedError for NoUserDirectory {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    fn hint(&self) -> Option<String> {
        Some("set HOME, or HARMONY_DATA_DIR and XDG_CACHE_HOME".to_owned())
    }
}

/// An image on this host, ready to back a VM's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The file. It is never written to.
    pub path: PathBuf,
    /// How it came here.
    pub origin: ImageOrigin,
}

/// How an image came to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageOrigin {
    /// Fetched from the catalog's publisher and verified.
    Catalog(CatalogName),
    /// Built on this host from the distribution's packages.
    BuiltFromPackages(CatalogName),
    /// Fetched from the caller's URL and verified.
    Url,
    /// The caller's own file, as it is.
    Local,
    /// What an existing VM was made from.
    Recorded,
}

impl fmt::Display for ImageOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalog(name) => write!(f, "{name}, fetched and verified"),
            Self::BuiltFromPackages(name) => write!(f, "{name}, built from packages"),
            Self::Url => f.write_str("fetched and verified"),
            Self::Local => f.write_str("a file of this host"),
            Self::Recorded => f.write_str("what the VM was made from"),
        }
    }
}

/// `$HARMONY_DATA_DIR/iot`, or else `$XDG_DATA_HOME/harmony/iot`, or else
/// `$HOME/.local/share/harmony/iot`. It is not made.
///
/// # Errors
/// [`NoUserDirectory`] when none of the variables is set.
pub fn data_dir() -> Result<PathBuf, ExecutorError> {
    let variable = |name| std::env::var_os(name);
    Ok(data_dir_from(
        variable("HARMONY_DATA_DIR"),
        variable("XDG_DATA_HOME"),
        variable("HOME"),
    )?)
}

/// Where fetched images are: `images` in [`data_dir`].
///
/// # Errors
/// As [`data_dir`].
pub fn images_dir() -> Result<PathBuf, ExecutorError> {
    Ok(data_dir()?.join("images"))
}

/// Where the disks of VMs are: the system lane's pool, and the session lane's in `data_dir`.
pub fn pool_dirs(data_dir: &Path) -> [PathBuf; 2] {
    [PathBuf::from(SYSTEM_POOL), data_dir.join("pool")]
}

/// Where the image built from packages is: `$XDG_CACHE_HOME/harmony/images`, or else
/// `$HOME/.cache/harmony/images`.
///
/// # Errors
/// [`NoUserDirectory`] when neither variable is set.
pub fn built_images_dir() -> Result<PathBuf, ExecutorError> {
    let variable = |name| std::env::var_os(name);
    Ok(cache_dir_from(
        variable("XDG_CACHE_HOME"),
        variable("HOME"),
    )?)
}

fn data_dir_from(
    harmony_data_dir: Option<OsString>,
    xdg_data_home: Option<OsString>,
    home: Option<OsString>,
) -> Result<PathBuf, NoUserDirectory> {
    // What the user said of this program counts also when it is relative to the working directory.
    let given = harmony_data_dir.filter(|dir| !dir.is_empty());
    given
        .map(|dir| std::path::absolute(&dir).unwrap_or_else(|_| dir.into()))
        .map(|dir| dir.join("iot"))
        .or_else(|| absolute(xdg_data_home).map(|dir| dir.join("harmony/iot")))
        .or_else(|| absolute(home).map(|dir| dir.join(".local/share/harmony/iot")))
        .ok_or(NoUserDirectory {
            purpose: "data",
            variables: "HARMONY_DATA_DIR, XDG_DATA_HOME, HOME",
        })
}

fn cache_dir_from(
    xdg_cache_home: Option<OsString>,
    home: Option<OsString>,
) -> Result<PathBuf, NoUserDirectory> {
    absolute(xdg_cache_home)
        .or_else(|| absolute(home).map(|dir| dir.join(".cache")))
        .map(|dir| dir.join("harmony/images"))
        .ok_or(NoUserDirectory {
            purpose: "cache",
            variables: "XDG_CACHE_HOME, HOME",
        })
}

/// The XDG specification has relative paths ignored.
fn absolute(dir: Option<OsString>) -> Option<PathBuf> {
    dir.map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// Returns the verified Ubuntu 24.04 cloud image for x86_64: see
/// [`ensure_ubuntu_2404_cloud_image_for_arch`].
///
/// # Errors
/// As there.
pub async fn ensure_ubuntu_2404_cloud_image() -> Result<PathBuf, ExecutorError> {
    ensure_ubuntu_2404_cloud_image_for_arch(VmArchitecture::X86_64).await
}

/// Returns the verified Ubuntu 24.04 cloud image for `arch` in [`images_dir`], fetched when it is missing.
///
/// # Errors
/// [`NoUserDirectory`], or the [`ImageError`]s of [`fetch`].
pub async fn ensure_ubuntu_2404_cloud_image_for_arch(
    arch: VmArchitecture,
) -> Result<PathBuf, ExecutorError> {
    let pins = CatalogName::Ubuntu2404.image(arch).pinned_urls()?;
    Ok(fetch(&pins, &images_dir()?).await?)
}

/// Brings the image that `source` names to this host, for guests of architecture `arch`; fetched files are
/// kept in `images_dir`.
///
/// `auto` is the pinned Ubuntu 24.04. Where its host cannot be reached at all, one warning says so and a
/// Debian 12 image is built from packages instead; the same stands in for an unreachable `debian-12`. Any
/// other failure, a wrong digest above all, stops.
///
/// # Errors
/// An [`ImageError`], or [`NoUserDirectory`].
pub async fn ensure_image(
    source: &ImageSource,
    arch: VmArchitecture,
    images_dir: &Path,
) -> Result<ResolvedImage, ExecutorError> {
    ensure_image_with(source, arch, images_dir, &Logged::default()).await
}

/// As [`ensure_image`], and tells `progress` how far a transfer is.
///
/// # Errors
/// As there.
pub async fn ensure_image_with(
    source: &ImageSource,
    arch: VmArchitecture,
    images_dir: &Path,
    progress: &dyn Progress,
) -> Result<ResolvedImage, ExecutorError> {
    let debian_12 = CatalogName::Debian12;
    match source {
        ImageSource::Auto => {
            from_catalog(CatalogName::Ubuntu2404, true, arch, images_dir, progress).await
        }
        ImageSource::Catalog(name) => {
            from_catalog(*name, *name == debian_12, arch, images_dir, progress).await
        }
        ImageSource::Path(path) => {
            sniff_file(path)?;
            Ok(ResolvedImage {
                path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
                origin: ImageOrigin::Local,
            })
        }
        ImageSource::Url(pinned) => Ok(ResolvedImage {
            path: Fetcher::default()
                .fetch(std::slice::from_ref(pinned), images_dir, progress)
                .await?,
            origin: ImageOrigin::Url,
        }),
    }
}

/// Where the image that `source` names is, or would be: what [`ensure_image`] returns, as far as that can be
/// told without touching anything.
///
/// # Errors
/// [`NoUserDirectory`], or an [`ImageError`] for a pin that is none.
pub fn planned_image_path(
    source: &ImageSource,
    arch: VmArchitecture,
    images_dir: &Path,
) -> Result<PathBuf, ExecutorError> {
    let name = match source {
        ImageSource::Path(path) => {
            return Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        }
        ImageSource::Url(pinned) => {
            let stored = stored_path(pinned, images_dir)?;
            return Ok(stored.unwrap_or_else(|| images_dir.join(pinned.file_name())));
        }
        ImageSource::Auto => CatalogName::Ubuntu2404,
        ImageSource::Catalog(name) => *name,
    };
    let fetched: Vec<PathBuf> = name
        .image(arch)
        .pinned_urls()?
        .iter()
        .map(|pin| images_dir.join(pin.file_name()))
        .collect();
    let may_build = *source == ImageSource::Auto || name == CatalogName::Debian12;
    let built = if may_build {
        built_debian_12(arch, &built_images_dir()?)
    } else {
        None
    };
    let present = fetched.iter().find(|path| path.is_file()).cloned();
    Ok(present
        .or(built)
        .or_else(|| fetched.into_iter().next())
        .unwrap_or_default())
}

async fn from_catalog(
    name: CatalogName,
    may_build: bool,
    arch: VmArchitecture,
    images_dir: &Path,
    progress: &dyn Progress,
) -> Result<ResolvedImage, ExecutorError> {
    let pins = name.image(arch).pinned_urls()?;
    let fetched = Fetcher::default().fetch(&pins, images_dir, progress).await;
    match fetched {
        Ok(path) => Ok(ResolvedImage {
            path,
            origin: ImageOrigin::Catalog(name),
        }),
        Err(error @ ImageError::Unreachable { .. }) if may_build => {
            tracing::warn!(
                %error,
                "image '{name}' cannot be fetched, using Debian 12 built from packages"
            );
            Ok(ResolvedImage {
                path: build_debian_12(arch, &built_images_dir()?).await?,
                origin: ImageOrigin::BuiltFromPackages(CatalogName::Debian12),
            })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use super::{
        CatalogName, ImageOrigin, NoUserDirectory, cache_dir_from, data_dir_from, ensure_image,
    };
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::error::ImageError;
    use crate::modules::image::source::ImageSource;

    fn env(value: &str) -> Option<OsString> {
        (value != "-").then(|| OsString::from(value))
    }

    #[test]
    #[cfg(feature = "kvm")]
    fn the_pools_are_those_of_the_lanes() {
        use crate::modules::kvm::connection::ConnectionUri;
        let data_dir = std::path::Path::new("/d");
        let lanes = [ConnectionUri::System, ConnectionUri::Session];
        assert_eq!(
            super::pool_dirs(data_dir),
            lanes.map(|uri| uri.pool(data_dir))
        );
    }

    #[test]
    fn directories_follow_the_environment() {
        let table = [
            ("/d", "/x", "/h", Some("/d/iot")),
            ("-", "/x", "/h", Some("/x/harmony/iot")),
            ("", "/x", "/h", Some("/x/harmony/iot")),
            ("-", "-", "/h", Some("/h/.local/share/harmony/iot")),
            ("-", "relative", "/h", Some("/h/.local/share/harmony/iot")),
            ("-", "", "", None),
            ("-", "-", "-", None),
        ];
        for (data, xdg, home, expected) in table {
            let got = data_dir_from(env(data), env(xdg), env(home));
            let expected = expected.map(PathBuf::from).ok_or(NoUserDirectory {
                purpose: "data",
                variables: "HARMONY_DATA_DIR, XDG_DATA_HOME, HOME",
            });
            assert_eq!(got, expected, "{data} {xdg} {home}");
        }
        let table = [
            ("/c", "/h", Some("/c/harmony/images")),
            ("c", "/h", Some("/h/.cache/harmony/images")),
            ("-", "/h", Some("/h/.cache/harmony/images")),
            ("-", "-", None),
        ];
        for (xdg, home, expected) in table {
            let got = cache_dir_from(env(xdg), env(home)).ok();
            assert_eq!(got, expected.map(PathBuf::from), "{xdg} {home}");
        }
    }

    #[tokio::test]
    async fn a_local_image_is_used_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let images = dir.path().join("images");
        let path = dir.path().join("disk.img");
        let source = ImageSource::Path(path.clone());
        let ensure = || ensure_image(&source, VmArchitecture::Aarch64, &images);

        let error = ensure().await.expect_err("missing");
        assert_eq!(error.exit_code(), 2);
        assert!(matches!(
            error.downcast_ref(),
            Some(ImageError::NoSuchFile { path: missing }) if *missing == path
        ));
        std::fs::write(&path, b"QFI\xfb....").expect("writable");
        let image = ensure().await.expect("an image");
        assert_eq!(image.path, path);
        assert_eq!(image.origin, ImageOrigin::Local);
        assert!(!images.exists(), "nothing was fetched");
    }

    #[tokio::test]
    async fn a_wrong_digest_stops() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("disk.img");
        std::fs::write(&path, b"QFI\xfb....").expect("writable");
        let url = format!("file://{}#sha256={}", path.display(), "0".repeat(64));
        let source: ImageSource = url.parse().expect("a pinned URL");
        let error = ensure_image(&source, VmArchitecture::Aarch64, dir.path())
            .await
            .expect_err("wrong");
        assert_eq!(error.exit_code(), 1);
        assert!(matches!(
            error.downcast_ref(),
            Some(ImageError::DigestMismatch { .. })
        ));
    }

    #[tokio::test]
    #[ignore = "needs image hosts out of reach (HTTPS_PROXY=http://127.0.0.1:1) and the image builder's \
                programs: falls back to the built image"]
    async fn where_no_image_host_can_be_reached_the_built_image_stands_in() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let arch = VmArchitecture::of_host().expect("a known host");
        let built = super::built_images_dir().expect("a cache");
        for name in ["auto", "debian-12"] {
            let source: ImageSource = name.parse().expect("a name");
            let image = ensure_image(&source, arch, dir.path())
                .await
                .expect("built");
            let origin = ImageOrigin::BuiltFromPackages(CatalogName::Debian12);
            assert_eq!(image.origin, origin);
            assert_eq!(image.path.parent(), Some(built.as_path()));
        }
        let source: ImageSource = "ubuntu-24.04".parse().expect("a name");
        let error = ensure_image(&source, arch, dir.path())
            .await
            .expect_err("Ubuntu is not built");
        assert!(matches!(
            error.downcast_ref(),
            Some(ImageError::Unreachable { urls, .. }) if urls.len() == 2
        ));
    }
}
