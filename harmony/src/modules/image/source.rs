//! What a user may name as an image.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use super::catalog_name::CatalogName;
use super::digest::ImageDigest;
use super::error::ImageError;
use super::published_name::{image_extension, published_name};

/// A URL together with the digest of what it must give, and where else the same file is published.
///
/// Displays without user name, password and query, which may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct PinnedUrl {
    url: Url,
    mirrors: Vec<Url>,
    digest: ImageDigest,
    size: Option<u64>,
    verbatim: bool,
}

impl PinnedUrl {
    /// `url` pinned to `digest`.
    ///
    /// # Errors
    /// [`ImageError::InvalidUrl`], or [`ImageError::UnsupportedScheme`] unless it is `http`, `https` or
    /// `file`.
    pub fn new(url: &str, digest: ImageDigest) -> Result<Self, ImageError> {
        Ok(Self {
            url: supported(url)?,
            mirrors: Vec::new(),
            digest,
            size: None,
            verbatim: false,
        })
    }

    /// The same file at another URL, which is tried after those before it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_mirror(mut self, url: &str) -> Result<Self, ImageError> {
        self.mirrors.push(supported(url)?);
        Ok(self)
    }

    /// The file's published size in bytes: an answer of another length is refused before it is read.
    #[must_use]
    pub fn with_size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// The file is kept as it is published, also when it is compressed.
    #[must_use]
    pub fn verbatim(mut self) -> Self {
        self.verbatim = true;
        self
    }

    /// The first URL.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The URLs, in the order in which they are tried.
    pub(super) fn urls(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.url).chain(&self.mirrors)
    }

    /// The published size in bytes, where it is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether the file is kept as it is published.
    pub(super) fn is_verbatim(&self) -> bool {
        self.verbatim
    }

    /// What the file must hash to.
    pub fn digest(&self) -> &ImageDigest {
        &self.digest
    }

    /// The name of the verified file as it is published: `<algorithm>-<digest>.<extension of the URL>`.
    pub fn file_name(&self) -> String {
        self.digest
            .file_name(&image_extension(published_name(&self.url)))
    }
}

fn supported(text: &str) -> Result<Url, ImageError> {
    let mut url = if text.starts_with('/') {
        Url::from_file_path(text).map_err(|()| ImageError::UnsupportedScheme {
            url: text.to_owned(),
        })?
    } else {
        Url::parse(text).map_err(|error| ImageError::InvalidUrl {
            value: text.to_owned(),
            source: Box::new(error),
        })?
    };
    url.set_fragment(None);
    let supported = match url.scheme() {
        "http" | "https" => url.has_host(),
        "file" => url.to_file_path().is_ok(),
        _ => false,
    };
    if supported {
        Ok(url)
    } else {
        Err(ImageError::UnsupportedScheme {
            url: public_form(&url),
        })
    }
}

/// A URL without what may be secret in it.
pub(super) fn public_form(url: &Url) -> String {
    let mut public = url.clone();
    // These fail only for URLs that cannot carry the part.
    let _ = public.set_username("");
    let _ = public.set_password(None);
    if public.query().is_some() {
        public.set_query(Some("..."));
    }
    public.to_string()
}

impl fmt::Display for PinnedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&public_form(&self.url))
    }
}

impl fmt::Debug for PinnedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}#{}", self.digest)
    }
}

impl FromStr for PinnedUrl {
    type Err = ImageError;

    /// Parses `URL#sha256=…` or `URL#sha512=…`.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let Some((url, digest)) = value.split_once('#') else {
            return Err(ImageError::MissingDigest {
                url: Url::parse(value).map_or_else(|_| value.to_owned(), |url| public_form(&url)),
            });
        };
        Self::new(url, digest.parse()?)
    }
}

/// Where a VM's image comes from. Parses from `auto`, a catalog name, `URL#sha256=…`, or a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ImageSource {
    /// Ubuntu 24.04; where its host cannot be reached at all, Debian 12 built from packages.
    #[default]
    Auto,
    /// An image of the catalog.
    Catalog(CatalogName),
    /// A file on this host, used as it is. With `#sha256=…` behind it the path is a [`Self::Url`].
    Path(PathBuf),
    /// A file to fetch and verify.
    Url(PinnedUrl),
}

impl FromStr for ImageSource {
    type Err = ImageError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        if value.is_empty() {
            return Err(ImageError::UnknownName {
                value: String::new(),
            });
        }
        if value == "auto" {
            return Ok(Self::Auto);
        }
        if let Ok(name) = value.parse() {
            return Ok(Self::Catalog(name));
        }
        if value.contains("://") {
            return value.parse().map(Self::Url);
        }
        if let Some((path, digest)) = value.split_once('#')
            && (digest.starts_with("sha256=") || digest.starts_with("sha512="))
        {
            return pinned_file(path, digest.parse()?).map(Self::Url);
        }
        Ok(Self::Path(PathBuf::from(value)))
    }
}

/// A file of this host that is copied and verified.
fn pinned_file(path: &str, digest: ImageDigest) -> Result<PinnedUrl, ImageError> {
    let absolute = std::path::absolute(path).map_err(|source| ImageError::Io {
        action: "resolve",
        path: path.into(),
        source,
    })?;
    PinnedUrl::new(&absolute.to_string_lossy(), digest)
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Catalog(name) => name.fmt(f),
            Self::Path(path) => path.display().fmt(f),
            Self::Url(pinned) => fmt::Debug::fmt(pinned, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{ImageSource, PinnedUrl};
    use crate::modules::image::catalog::CatalogName;
    use crate::modules::image::error::ImageError;

    const DIGEST: &str = "sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn sources_parse_and_display() {
        let url = format!("https://example.org/a/disk.qcow2#{DIGEST}");
        let table = [
            ("auto", ImageSource::Auto),
            (
                "ubuntu-24.04",
                ImageSource::Catalog(CatalogName::Ubuntu2404),
            ),
            ("debian-12", ImageSource::Catalog(CatalogName::Debian12)),
            (
                "./my disk.img",
                ImageSource::Path(PathBuf::from("./my disk.img")),
            ),
            ("/a#b", ImageSource::Path(PathBuf::from("/a#b"))),
            (&url, ImageSource::Url(url.parse().expect("a pinned URL"))),
        ];
        for (text, expected) in table {
            let source: ImageSource = text.parse().expect(text);
            assert_eq!(source, expected, "{text}");
            assert_eq!(source.to_string(), text);
        }
    }

    #[test]
    fn urls_without_a_usable_pin_are_refused() {
        let refused = |text: &str| text.parse::<ImageSource>().expect_err(text);
        assert!(matches!(
            refused("https://example.org/disk.img"),
            ImageError::MissingDigest { url } if url == "https://example.org/disk.img"
        ));
        assert!(matches!(
            refused("https://example.org/disk.img#sha256=12"),
            ImageError::InvalidDigest { value, .. } if value == "12"
        ));
        assert!(matches!(
            refused(&format!("ftp://example.org/disk.img#{DIGEST}")),
            ImageError::UnsupportedScheme { url } if url == "ftp://example.org/disk.img"
        ));
        assert!(matches!(
            refused(&format!("http://[::1/disk.img#{DIGEST}")),
            ImageError::InvalidUrl { .. }
        ));
        assert!(matches!(refused(""), ImageError::UnknownName { .. }));
    }

    #[test]
    fn names_are_content_addressed_and_secrets_are_not_shown() {
        let table = [
            ("https://e.org/x/Disk.QCOW2", "qcow2"),
            ("https://e.org/disk.img?token=x.y", "img"),
            ("https://e.org/disk.a%2fb", "img"),
            ("https://e.org/", "img"),
            ("file:///srv/disk.raw", "raw"),
        ];
        for (url, extension) in table {
            let pinned: PinnedUrl = format!("{url}#{DIGEST}").parse().expect(url);
            assert_eq!(
                pinned.file_name(),
                format!("{}.{extension}", DIGEST.replace('=', "-")),
                "{url}"
            );
        }
        let pinned: PinnedUrl = format!("https://me:hunter2@e.org/d.img?sig=hunter2#{DIGEST}")
            .parse()
            .expect("a pinned URL");
        assert_eq!(pinned.to_string(), "https://e.org/d.img?...");
        assert!(!format!("{pinned:?}").contains("hunter2"));
    }
}
