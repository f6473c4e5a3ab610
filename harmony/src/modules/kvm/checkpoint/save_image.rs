//! libvirt's file of a guest's memory, as `virDomainSave` writes it.
//!
//! ```text
//! offset  0  "LibvirtQemudSave"
//!        16  version, data length, was running, format, cookie's offset   each a little-endian u32
//!        36  56 reserved bytes
//!        92  the domain's document and a NUL; from the cookie's offset on, the cookie and a NUL
//!         ?  QEMU's stream, `data length` bytes behind offset 92
//! ```
//! From libvirt's `src/qemu/qemu_saveimage.h`. Only version 2 with an uncompressed stream is known here;
//! another one is an error, and whoever wanted to restore it boots the guest instead.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 16] = *b"LibvirtQemudSave";
const HEADER_BYTES: u64 = 92;
const VERSION: u32 = 2;
const RAW_STREAM: u32 = 0;

/// The bound on the document and the cookie; libvirt's are some 20 KiB.
const DATA_LIMIT: u32 = 1 << 20;

/// A memory image that is not what this version of harmony knows.
#[derive(Debug, thiserror::Error)]
pub enum SaveImageError {
    /// It cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not begin as libvirt's files do, or one of its fields cannot be.
    #[error("{path} is no memory image of libvirt's: {what} is {found} (expected {expected})")]
    Field {
        /// Which file.
        path: PathBuf,
        /// Which field.
        what: &'static str,
        /// Its value.
        found: String,
        /// What is known here.
        expected: String,
    },
}

/// A memory image on disk, its header read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SaveImage {
    path: PathBuf,
    header: [u8; HEADER_BYTES as usize],
    /// The document of the domain that was saved.
    pub(super) document: String,
    cookie: Vec<u8>,
    stream_offset: u64,
    /// The bytes of QEMU's stream.
    stream_bytes: u64,
}

impl SaveImage {
    /// Reads the header of a memory image; the stream is not looked at.
    pub(super) fn open(path: &Path) -> Result<Self, SaveImageError> {
        let failed = |source| SaveImageError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let field = |what, found: String, expected: &str| SaveImageError::Field {
            path: path.to_owned(),
            what,
            found,
            expected: expected.to_owned(),
        };
        let mut file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut header = [0_u8; HEADER_BYTES as usize];
        if bytes < HEADER_BYTES {
            let expected = format!("at least {HEADER_BYTES}");
            return Err(field("its size", format!("{bytes} bytes"), &expected));
        }
        file.read_exact(&mut header).map_err(failed)?;
        if !header.starts_with(&MAGIC) {
            let found = String::from_utf8_lossy(&header[..MAGIC.len()]).into_owned();
            return Err(field("the magic", found, "LibvirtQemudSave"));
        }
        let [version, data_bytes, _was_running, format, cookie_offset] = numbers(&header);
        for (what, found, expected) in [
            ("the version", version, VERSION),
            ("the stream's format", format, RAW_STREAM),
        ] {
            if found != expected {
                return Err(field(what, found.to_string(), &expected.to_string()));
            }
        }
        let stream_offset = HEADER_BYTES + u64::from(data_bytes);
        if data_bytes > DATA_LIMIT || stream_offset >= bytes {
            let most = (bytes - HEADER_BYTES).min(u64::from(DATA_LIMIT));
            let found = data_bytes.to_string();
            return Err(field(
                "the data's length",
                found,
                &format!("at most {most}"),
            ));
        }
        let mut data = vec![0_u8; data_bytes as usize];
        file.read_exact(&mut data).map_err(failed)?;
        let (document, cookie) = split(&data, cookie_offset).ok_or_else(|| {
            let expected = "an offset behind the document, inside the data";
            field("the cookie's offset", cookie_offset.to_string(), expected)
        })?;
        let document = String::from_utf8(document.to_vec())
            .map_err(|error| field("the document", error.to_string(), "UTF-8"))?;
        Ok(Self {
            path: path.to_owned(),
            header,
            document,
            cookie: cookie.to_vec(),
            stream_offset,
            stream_bytes: bytes - stream_offset,
        })
    }

    /// Writes the same memory as another domain's, readable by its owner alone. `target` must not be there.
    pub(super) fn write_as(&self, document: &str, target: &Path) -> Result<(), SaveImageError> {
        let failed = |action| {
            move |source| SaveImageError::Io {
                action,
                path: target.to_owned(),
                source,
            }
        };
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(target)
            .map_err(failed("make"))?;
        out.write_all(&self.head(document)?)
            .map_err(failed("write"))?;
        let mut source = File::open(&self.path).map_err(failed("read the memory for"))?;
        source
            .seek(SeekFrom::Start(self.stream_offset))
            .map_err(failed("read the memory for"))?;
        // Within a file system the kernel copies, and shares the blocks where it can.
        let copied = io::copy(&mut source, &mut out).map_err(failed("write"))?;
        if copied == self.stream_bytes {
            return Ok(());
        }
        Err(SaveImageError::Field {
            path: self.path.clone(),
            what: "the stream's length",
            found: copied.to_string(),
            expected: self.stream_bytes.to_string(),
        })
    }

    /// Everything before the stream, with this document.
    fn head(&self, document: &str) -> Result<Vec<u8>, SaveImageError> {
        let cookie_offset = if self.cookie.is_empty() {
            0
        } else {
            document.len() + 1
        };
        let data_bytes = document.len() + 1 + self.cookie.len();
        let number = |what, value: usize| {
            u32::try_from(value)
                .ok()
                .filter(|value| *value <= DATA_LIMIT)
                .ok_or_else(|| SaveImageError::Field {
                    path: self.path.clone(),
                    what,
                    found: value.to_string(),
                    expected: format!("at most {DATA_LIMIT}"),
                })
        };
        let mut head = self.header.to_vec();
        head[20..24].copy_from_slice(&number("the new data's length", data_bytes)?.to_le_bytes());
        head[32..36].copy_from_slice(&number("the cookie's offset", cookie_offset)?.to_le_bytes());
        head.extend_from_slice(document.as_bytes());
        head.push(0);
        head.extend_from_slice(&self.cookie);
        Ok(head)
    }
}

/// The five numbers of a header.
fn numbers(header: &[u8; HEADER_BYTES as usize]) -> [u32; 5] {
    let mut numbers = [0_u32; 5];
    for (number, bytes) in numbers.iter_mut().zip(header[16..36].chunks_exact(4)) {
        *number = bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u32::from(*byte));
    }
    numbers
}

/// The document without its NUL, and the cookie with its own; none is empty.
fn split(data: &[u8], cookie_offset: u32) -> Option<(&[u8], &[u8])> {
    let (document, cookie) = match cookie_offset {
        0 => (data, &[][..]),
        offset => data.split_at_checked(usize::try_from(offset).ok()?)?,
    };
    let end = document.iter().position(|byte| *byte == 0)?;
    Some((&document[..end], cookie))
}

#[cfg(test)]
mod tests;
