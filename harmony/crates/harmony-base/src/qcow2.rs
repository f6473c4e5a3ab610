//! The header of a qcow2 image, as far as it says what the image is: offsets and rules are those of QEMU's
//! `docs/interop/qcow2.rst`.
//!
//! What else is in an image, and whether it can be trusted, is not looked at here.

/// What a qcow2 image begins with.
pub const MAGIC: &[u8; 4] = b"QFI\xfb";

/// How much of a file tells its header, in bytes. One of version 2 may be as short as [`V2_BYTES`].
pub const HEADER_BYTES: usize = 104;

/// The length of a header of version 2, in bytes.
pub const V2_BYTES: usize = 72;

/// The longest name that a backing file can have, in bytes.
pub const MAX_BACKING_NAME_BYTES: u32 = 1023;

/// The fields of a header that say what the image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The length of the disk in it, in bytes.
    pub virtual_bytes: u64,
    /// Where the name of its backing file is; none where it stands alone.
    pub backing: Option<BackingName>,
    /// The features that a reader has to know, a bit each.
    pub incompatible: u64,
}

/// Where the name of a backing file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackingName {
    /// From the beginning of the file, in bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u32,
}

/// The beginning of a file that is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Of a file that is something else.
    #[error("is not qcow2")]
    NotQcow2,
    /// Of a file that ends within it.
    #[error("is not qcow2: too short for a header")]
    CutOff,
    /// Of a version that nobody knows.
    #[error("is qcow2 of version {version} (expected 2 or 3)")]
    Version {
        /// What it says.
        version: u32,
    },
}

impl Header {
    /// The header in the first [`HEADER_BYTES`] of a file, or in all of a shorter one.
    ///
    /// # Errors
    /// [`HeaderError`], each of its kinds.
    pub fn parse(start: &[u8]) -> Result<Self, HeaderError> {
        if !start.starts_with(MAGIC) {
            return Err(HeaderError::NotQcow2);
        }
        let version = be32(start, 4)?;
        let incompatible = match version {
            2 => 0,
            3 => be64(start, 72)?,
            version => return Err(HeaderError::Version { version }),
        };
        let needed = if version == 2 { V2_BYTES } else { HEADER_BYTES };
        if start.len() < needed {
            return Err(HeaderError::CutOff);
        }
        let offset = be64(start, 8)?;
        let length = be32(start, 16)?;
        Ok(Self {
            version,
            virtual_bytes: be64(start, 24)?,
            backing: (offset != 0).then_some(BackingName { offset, length }),
            incompatible,
        })
    }
}

/// The number of 4 bytes at `at`, as all numbers of the format are written.
fn be32(bytes: &[u8], at: usize) -> Result<u32, HeaderError> {
    let number = bytes.get(at..).and_then(<[u8]>::first_chunk);
    number
        .map(|number| u32::from_be_bytes(*number))
        .ok_or(HeaderError::CutOff)
}

/// The number of 8 bytes at `at`.
fn be64(bytes: &[u8], at: usize) -> Result<u64, HeaderError> {
    let number = bytes.get(at..).and_then(<[u8]>::first_chunk);
    number
        .map(|number| u64::from_be_bytes(*number))
        .ok_or(HeaderError::CutOff)
}

#[cfg(test)]
mod tests {
    use super::{BackingName, HEADER_BYTES, Header, HeaderError, V2_BYTES};

    fn header(version: u32) -> Vec<u8> {
        let mut bytes = b"QFI\xfb".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend(0x120_u64.to_be_bytes());
        bytes.extend(11_u32.to_be_bytes());
        bytes.extend(16_u32.to_be_bytes());
        bytes.extend((5_u64 << 30).to_be_bytes());
        bytes.resize(72, 0xff);
        bytes.extend(4_u64.to_be_bytes());
        bytes.resize(HEADER_BYTES, 0xff);
        bytes
    }

    #[test]
    fn the_fields_are_those_of_the_format() {
        let backing = BackingName {
            offset: 0x120,
            length: 11,
        };
        let expected = Header {
            version: 3,
            virtual_bytes: 5 << 30,
            backing: Some(backing),
            incompatible: 4,
        };
        assert_eq!(Header::parse(&header(3)), Ok(expected));
        let old = Header {
            version: 2,
            incompatible: 0,
            ..expected
        };
        assert_eq!(Header::parse(&header(2)[..V2_BYTES]), Ok(old));
        let mut alone = header(3);
        alone[8..16].fill(0);
        let alone = Header::parse(&alone).map(|header| header.backing);
        assert_eq!(alone, Ok(None));
    }

    #[test]
    fn what_is_no_header_is_told_from_one_that_is_cut_off() {
        let cut = |version, length| Header::parse(&header(version)[..length]);
        for length in 4..HEADER_BYTES {
            assert_eq!(cut(3, length), Err(HeaderError::CutOff), "{length}");
        }
        assert_eq!(cut(2, V2_BYTES - 1), Err(HeaderError::CutOff));
        for start in [&b""[..], b"QFI", b"QFI\xfa....", &[0; 512]] {
            assert_eq!(Header::parse(start), Err(HeaderError::NotQcow2));
        }
        for version in [0, 1, 4] {
            let unknown = Err(HeaderError::Version { version });
            assert_eq!(Header::parse(&header(version)), unknown);
        }
    }
}
