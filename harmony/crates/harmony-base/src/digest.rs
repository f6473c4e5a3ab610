//! SHA-256 and SHA-512 digests: read from hexadecimal digits, written as them, computed of bytes and of files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How much of a file is read at once, in bytes.
const BLOCK_BYTES: usize = 1 << 20;

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest '{value}' (expected {expected})")]
pub struct NotADigest {
    /// What was given.
    pub value: String,
    /// The expected form.
    pub expected: &'static str,
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// A digest written in the source: a wrong one does not compile.
            ///
            /// # Panics
            /// When `hex` has another number of hexadecimal digits, or others.
            pub const fn pinned(hex: &str) -> Self {
                match decode(hex.as_bytes()) {
                    Some(bytes) => Self(bytes),
                    None => panic!("a pinned digest has two hexadecimal digits for each byte"),
                }
            }

            /// Its bytes.
            pub const fn bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl From<[u8; $bytes]> for $name {
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = NotADigest;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                decode(value.as_bytes()).map(Self).ok_or_else(|| NotADigest {
                    value: value.to_owned(),
                    expected: $expected,
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotADigest;

            fn try_from(value: String) -> Result<Self, Self::Error> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> Self {
                HEXLOWER.encode(&digest.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

digest! {
    /// A SHA-256 digest: 64 hexadecimal digits, read in either case and written in lower case.
    Sha256Digest, 32, "64 hexadecimal digits for sha256"
}

digest! {
    /// A SHA-512 digest: 128 hexadecimal digits, read in either case and written in lower case.
    Sha512Digest, 64, "128 hexadecimal digits for sha512"
}

impl Sha256Digest {
    /// All bits zero.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// The digest of a file. Blocks while it is read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        read_file(path, |block| hasher.update(block))?;
        Ok(Self(hasher.finalize().into()))
    }
}

/// Reads a file to its end, block by block.
///
/// # Errors
/// When the file cannot be read.
pub fn read_file(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![0_u8; BLOCK_BYTES];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => each(&block[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `data-encoding` cannot decode at compile time, which a pin in the source needs.
const fn decode<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    if hex.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        match (nibble(hex[2 * at]), nibble(hex[2 * at + 1])) {
            (Some(high), Some(low)) => bytes[at] = high << 4 | low,
            _ => return None,
        }
        at += 1;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, NotADigest, Sha256Digest, Sha512Digest};

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const EMPTY: &str = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                         47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    #[test]
    fn digests_round_trip_and_compute_the_standard_test_vectors() {
        assert_eq!(Sha256Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Sha256Digest::of(b"abc"), Sha256Digest::pinned(ABC));
        let upper: Sha256Digest = ABC.to_uppercase().parse().expect("hexadecimal as well");
        assert_eq!(String::from(upper), ABC);
        assert_eq!(upper.bytes()[..2], [0xba, 0x78]);
        let parsed: Sha512Digest = EMPTY.parse().expect("well formed");
        assert_eq!(parsed, Sha512Digest::pinned(EMPTY));
        assert_eq!(parsed.to_string(), EMPTY);
    }

    #[test]
    fn a_file_has_the_digest_of_all_its_blocks() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut content = vec![7; 2 * BLOCK_BYTES + 1];
        content[BLOCK_BYTES] = 8;
        std::fs::write(file.path(), &content).expect("written");
        let digest = Sha256Digest::of_file(file.path()).expect("read");
        assert_eq!(digest, Sha256Digest::of(&content));
        assert!(Sha256Digest::of_file("/proc/none".as_ref()).is_err());
    }

    #[test]
    fn malformed_digests_are_refused_with_what_was_expected() {
        let table = [
            String::new(),
            ABC[..63].to_owned(),
            format!("{ABC}0"),
            format!("{}g", &ABC[..63]),
            // 64 bytes, but not 64 digits.
            "é".repeat(32),
        ];
        for text in table {
            let expected = "64 hexadecimal digits for sha256";
            let value = text.clone();
            let refused = Err(NotADigest { value, expected });
            assert_eq!(text.parse::<Sha256Digest>(), refused);
        }
        let short = ABC.parse::<Sha512Digest>().expect_err("half of one");
        assert_eq!(short.expected, "128 hexadecimal digits for sha512");
    }
}
