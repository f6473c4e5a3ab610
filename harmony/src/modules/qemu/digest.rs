//! The digest that names an object, and its computation while the object is read.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use harmony_base::digest::Sha256Digest;
use harmony_base::sparse::read_block;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::malformed::Malformed;

/// How much is read at once, in bytes.
pub(super) const BLOCK: usize = 128 * 1024;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits: as a file name it has one form only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectDigest(Sha256Digest);

impl ObjectDigest {
    /// The digest of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256Digest::of(data))
    }
}

impl FromStr for ObjectDigest {
    type Err = Malformed;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let digest = value.parse().ok().map(Self);
        let one_form = digest.filter(|digest| digest.to_string() == value);
        one_form.ok_or_else(|| Malformed::new("digest", value, "64 lower-case hexadecimal digits"))
    }
}

impl TryFrom<String> for ObjectDigest {
    type Error = Malformed;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<ObjectDigest> for String {
    fn from(digest: ObjectDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for ObjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ObjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What one reading of a file's content has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub digest: ObjectDigest,
    /// In bytes.
    pub size: u64,
    /// The mode that a file of this content has.
    pub mode: u32,
}

impl Content {
    /// Reads to the end, and gives every block to `sink` as well.
    pub(super) fn read(
        mut source: impl Read,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut block = vec![0; BLOCK];
        let mut size = 0;
        let mut mode = READ_ONLY;
        loop {
            let length = read_block(&mut source, &mut block)?;
            if length == 0 {
                break;
            }
            let data = &block[..length];
            if size == 0 {
                mode = mode_of(data);
            }
            hasher.update(data);
            sink(data)?;
            size += length as u64;
        }
        Ok(Self {
            digest: ObjectDigest(<[u8; 32]>::from(hasher.finalize()).into()),
            size,
            mode,
        })
    }
}

const READ_ONLY: u32 = 0o444;
const EXECUTABLE: u32 = 0o555;

/// The mode follows from the content: what the kernel can start (an ELF file, a script with `#!`) is
/// executable. Two files of one content share an inode, so the path must have no say.
fn mode_of(start: &[u8]) -> u32 {
    match start.starts_with(b"\x7fELF") || start.starts_with(b"#!") {
        true => EXECUTABLE,
        false => READ_ONLY,
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Content, ObjectDigest};
    use crate::modules::qemu::malformed::Malformed;

    #[test]
    fn digests_have_one_form() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ObjectDigest::of(b"abc").to_string(), abc);
        let parsed: ObjectDigest = abc.parse().expect("well formed");
        assert_eq!(parsed, ObjectDigest::of(b"abc"));
        let malformed = [
            String::new(),
            abc.to_uppercase(),
            abc[..63].to_owned(),
            format!("{abc}0"),
            format!("{}g", &abc[..63]),
            "é".repeat(32),
        ];
        for text in malformed {
            let error = text.parse::<ObjectDigest>().expect_err("malformed");
            assert!(
                matches!(&error, Malformed { what: "digest", value, .. } if *value == text),
                "{error:?}"
            );
        }
    }

    #[test]
    fn content_is_read_whole_and_decides_the_mode() {
        let mut long = vec![7; 2 * BLOCK + 1];
        let mut program = long.clone();
        program[..4].copy_from_slice(b"\x7fELF");
        long[BLOCK..BLOCK + 4].copy_from_slice(b"\x7fELF");
        let table: [(&[u8], u32); 7] = [
            (b"", 0o444),
            (b"\x7fELF\x02", 0o555),
            (b"#!/bin/sh\n", 0o555),
            (b"\x7fEL", 0o444),
            (b" #!/bin/sh\n", 0o444),
            (&long, 0o444),
            (&program, 0o555),
        ];
        for (data, mode) in table {
            let mut copied = Vec::new();
            let content = Content::read(data, |block| {
                copied.extend_from_slice(block);
                Ok(())
            })
            .expect("read");
            assert_eq!(copied, data);
            assert_eq!(content.digest, ObjectDigest::of(data));
            assert_eq!((content.size, content.mode), (data.len() as u64, mode));
        }
    }
}
