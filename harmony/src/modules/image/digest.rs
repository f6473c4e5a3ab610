//! Digests that pin images: checked when they are parsed, compared when a file has been read.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use harmony_base::digest::read_file;
pub use harmony_base::digest::{NotADigest, Sha256Digest, Sha512Digest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

/// A digest with its algorithm. Displays as `sha256=…` or `sha512=…`, and is that text in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageDigest {
    /// SHA-256.
    Sha256(Sha256Digest),
    /// SHA-512.
    Sha512(Sha512Digest),
}

impl TryFrom<String> for ImageDigest {
    type Error = NotADigest;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.to_string()
    }
}

impl ImageDigest {
    /// The algorithm's name in digests and file names.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// A hasher of this digest's algorithm.
    pub(super) fn hasher(&self) -> ImageHasher {
        match self {
            Self::Sha256(_) => ImageHasher::Sha256(Sha256::new()),
            Self::Sha512(_) => ImageHasher::Sha512(Sha512::new()),
        }
    }

    /// The digest of a file, by this digest's algorithm. Blocks while it is read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_same_kind(&self, path: &Path) -> std::io::Result<Self> {
        let mut hasher = self.hasher();
        read_file(path, |block| hasher.update(block))?;
        Ok(hasher.finish())
    }

    /// The digest that a content-addressed file name says: `<algorithm>-<digest>.<extension>`.
    pub(super) fn of_file_name(name: &str) -> Option<Self> {
        let (algorithm, rest) = name.split_once('-')?;
        let (digest, _) = rest.split_once('.')?;
        format!("{algorithm}={digest}").parse().ok()
    }

    /// The content-addressed file name: `<algorithm>-<digest>.<extension>`.
    pub fn file_name(&self, extension: &str) -> String {
        match self {
            Self::Sha256(digest) => format!("sha256-{digest}.{extension}"),
            Self::Sha512(digest) => format!("sha512-{digest}.{extension}"),
        }
    }
}

/// A digest that is being computed.
#[derive(Debug)]
pub(super) enum ImageHasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl ImageHasher {
    pub(super) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(data),
            Self::Sha512(hasher) => hasher.update(data),
        }
    }

    pub(super) fn finish(self) -> ImageDigest {
        match self {
            Self::Sha256(hasher) => ImageDigest::Sha256(<[u8; 32]>::from(hasher.finalize()).into()),
            Self::Sha512(hasher) => ImageDigest::Sha512(<[u8; 64]>::from(hasher.finalize()).into()),
        }
    }
}

impl FromStr for ImageDigest {
    type Err = NotADigest;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.split_once('=') {
            Some(("sha256", hex)) => hex.parse().map(Self::Sha256),
            Some(("sha512", hex)) => hex.parse().map(Self::Sha512),
            _ => Err(NotADigest {
                value: value.to_owned(),
                expected: "sha256=DIGEST or sha512=DIGEST",
            }),
        }
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "sha256={digest}"),
            Self::Sha512(digest) => write!(f, "sha512={digest}"),
        }
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageDigest, NotADigest, Sha256Digest, Sha512Digest};

    #[test]
    fn digests_round_trip_and_compute_the_standard_test_vectors() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256Digest::of(b"abc").to_string(), abc);
        let digest: ImageDigest = format!("sha256={}", abc.to_uppercase())
            .parse()
            .expect("upper case is hexadecimal too");
        assert_eq!(digest.to_string(), format!("sha256={abc}"));
        assert_eq!(digest.file_name("img"), format!("sha256-{abc}.img"));

        let empty = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                     47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let digest: ImageDigest = format!("sha512={empty}").parse().expect("well formed");
        assert_eq!(digest.hasher().finish(), digest);
        assert_eq!(digest.file_name("qcow2"), format!("sha512-{empty}.qcow2"));
        let parsed: Sha512Digest = empty.parse().expect("well formed");
        assert_eq!(parsed, Sha512Digest::pinned(empty));
    }

    #[test]
    fn malformed_digests_are_refused_with_what_was_expected() {
        let short = "a".repeat(63);
        let letter = format!("{}g", "a".repeat(63));
        let table = [
            (String::new(), "sha256=DIGEST or sha512=DIGEST"),
            ("md5=00".to_owned(), "sha256=DIGEST or sha512=DIGEST"),
            ("a".repeat(64), "sha256=DIGEST or sha512=DIGEST"),
            (
                format!("sha256={short}"),
                "64 hexadecimal digits for sha256",
            ),
            (
                format!("sha256={letter}"),
                "64 hexadecimal digits for sha256",
            ),
            (
                format!("sha512={}", "a".repeat(64)),
                "128 hexadecimal digits for sha512",
            ),
            // 64 bytes, but not 64 digits.
            (
                format!("sha256={}", "é".repeat(32)),
                "64 hexadecimal digits for sha256",
            ),
        ];
        for (text, wanted) in table {
            match text.parse::<ImageDigest>() {
                Err(NotADigest { expected, .. }) => {
                    assert_eq!(expected, wanted, "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
