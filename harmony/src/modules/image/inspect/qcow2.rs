//! The checks on a qcow2 header before imago parses it: sizes that it would allocate by, and names.
//!
//! Offsets and rules are those of QEMU's `docs/interop/qcow2.rst`.

use std::path::Path;

use harmony_base::qcow2::{
    self, HEADER_BYTES, Header, HeaderError, MAX_BACKING_NAME_BYTES, V2_BYTES,
};

use super::error::InspectError;
use super::limits::Limits;
use super::source::Source;

const MIN_CLUSTER_BITS: u32 = 9;
const MAX_CLUSTER_BITS: u32 = 21;
const MAX_REFCOUNT_ORDER: u32 = 6;
/// QEMU's own bound.
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
const L2_OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// The extensions lie in the first cluster; QEMU writes a few hundred bytes.
const MAX_HEADER_BYTES: u64 = 64 << 10;
const MAX_FORMAT_NAME_BYTES: usize = 64;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const FEATURE_NAME_BYTES: usize = 48;

const DATA_FILE_BIT: u64 = 1 << 2;

/// What a qcow2 header says that matters before the image is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Qcow2Header {
    pub(super) cluster_bytes: u64,
    /// How long the header with its extensions can be.
    pub(super) header_bytes: u64,
    pub(super) l1_bytes: u64,
    pub(super) backing: Option<BackingName>,
}

/// A backing file as the image names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BackingName {
    pub(super) name: Vec<u8>,
    pub(super) format: Option<Vec<u8>>,
}

struct Check<'a> {
    path: &'a Path,
    source: &'a Source,
}

/// Reads and checks the header.
pub(super) fn check_header(
    path: &Path,
    source: &Source,
    limits: &Limits,
) -> Result<Qcow2Header, InspectError> {
    let check = Check { path, source };
    let mut bytes = [0; HEADER_BYTES];
    check.read(&mut bytes, 0, "the qcow2 header")?;
    let header = check.header(&bytes)?;
    let version = header.version;
    let cluster_bits = be32(&bytes, 20);
    let bits = MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS;
    check.rule(
        "cluster_bits",
        cluster_bits.into(),
        "9 to 21",
        bits.contains(&cluster_bits),
    )?;
    let cluster_bytes = 1_u64 << cluster_bits;
    check.features(&bytes, &header)?;
    let l1_bytes = check.l1_table(&bytes, header.virtual_bytes, cluster_bytes, limits)?;
    check.refcount_table(&bytes, cluster_bytes)?;
    let header_bytes = match version {
        2 => V2_BYTES as u64,
        _ => u64::from(be32(&bytes, 100)),
    };
    let fits = version == 2
        || (header_bytes >= HEADER_BYTES as u64
            && header_bytes <= cluster_bytes.min(MAX_HEADER_BYTES)
            && header_bytes.is_multiple_of(8));
    check.rule(
        "header_length",
        header_bytes,
        "a multiple of 8 from 104 to a cluster",
        fits,
    )?;
    let format = match version {
        2 => None,
        _ => {
            let has_data_file = header.incompatible & DATA_FILE_BIT != 0;
            check.extensions(header_bytes, cluster_bytes, has_data_file)?
        }
    };
    let backing = check
        .backing_name(header.backing, cluster_bytes)?
        .map(|name| BackingName { name, format });
    Ok(Qcow2Header {
        cluster_bytes,
        header_bytes: cluster_bytes.min(MAX_HEADER_BYTES),
        l1_bytes,
        backing,
    })
}

impl Check<'_> {
    fn header(&self, bytes: &[u8; HEADER_BYTES]) -> Result<Header, InspectError> {
        Header::parse(bytes).map_err(|error| {
            // The beginning was looked at before, and is whole.
            let found = match error {
                HeaderError::Version { version } => version.to_string(),
                other => other.to_string(),
            };
            InspectError::Malformed {
                path: self.path.to_owned(),
                field: "version",
                found,
                expected: "2 or 3".to_owned(),
            }
        })
    }

    fn rule(
        &self,
        field: &'static str,
        found: u64,
        expected: &str,
        holds: bool,
    ) -> Result<(), InspectError> {
        if holds {
            return Ok(());
        }
        Err(InspectError::Malformed {
            path: self.path.to_owned(),
            field,
            found: found.to_string(),
            expected: expected.to_owned(),
        })
    }

    /// Reads what must be wholly within the file.
    fn read(&self, buffer: &mut [u8], offset: u64, what: &'static str) -> Result<(), InspectError> {
        self.within(offset, buffer.len() as u64, what)?;
        self.source.read(buffer, offset, self.path, what)
    }

    fn within(&self, offset: u64, bytes: u64, what: &'static str) -> Result<(), InspectError> {
        let file_bytes = self.source.length();
        match offset.checked_add(bytes) {
            Some(end) if end <= file_bytes => Ok(()),
            _ => Err(InspectError::Truncated {
                path: self.path.to_owned(),
                what,
                offset,
                file_bytes,
            }),
        }
    }

    fn features(&self, bytes: &[u8; HEADER_BYTES], header: &Header) -> Result<(), InspectError> {
        let unsupported = |feature: String| {
            Err(InspectError::Unsupported {
                path: self.path.to_owned(),
                feature,
            })
        };
        match be32(bytes, 32) {
            0 => {}
            1 => return unsupported("AES encryption".to_owned()),
            2 => return unsupported("LUKS encryption".to_owned()),
            method => return unsupported(format!("encryption method {method}")),
        }
        let unread = header.incompatible & !DATA_FILE_BIT;
        if unread == 0 {
            return Ok(());
        }
        let bit = unread.trailing_zeros();
        unsupported(match bit {
            0 => "the dirty bit (it was not closed)".to_owned(),
            1 => "the corrupt bit".to_owned(),
            3 => "a compression other than zlib".to_owned(),
            4 => "extended L2 entries".to_owned(),
            _ => format!("the unknown incompatible feature {bit}"),
        })
    }

    /// Checks the L1 table, whose size imago allocates, and that the tables that it points to are there.
    fn l1_table(
        &self,
        bytes: &[u8; HEADER_BYTES],
        size: u64,
        cluster_bytes: u64,
        limits: &Limits,
    ) -> Result<u64, InspectError> {
        let bound = limits.virtual_size_bytes;
        self.rule(
            "virtual size",
            size,
            &format!("at most {bound}"),
            size <= bound,
        )?;
        let entries = u64::from(be32(bytes, 36));
        // An L2 table fills a cluster with entries of 8 bytes, one a cluster.
        let needed = size.div_ceil(cluster_bytes * (cluster_bytes / 8));
        let bound = limits.l1_table_bytes / 8;
        let expected = format!("{needed} to {bound}");
        let fits = (needed..=bound).contains(&entries);
        self.rule("L1 entries", entries, &expected, fits)?;
        let offset = be64(bytes, 40);
        self.aligned("L1 table offset", offset, cluster_bytes)?;
        let l1_bytes = entries * 8;
        self.within(offset, l1_bytes, "the L1 table")?;
        let mut table = vec![0; usize::try_from(l1_bytes).unwrap_or(0)];
        self.read(&mut table, offset, "the L1 table")?;
        for entry in table.chunks_exact(8) {
            let l2_offset = be64(entry, 0) & L2_OFFSET_MASK;
            self.aligned("L2 table offset", l2_offset, cluster_bytes)?;
            if l2_offset != 0 {
                self.within(l2_offset, cluster_bytes, "an L2 table")?;
            }
        }
        Ok(l1_bytes)
    }

    fn refcount_table(
        &self,
        bytes: &[u8; HEADER_BYTES],
        cluster_bytes: u64,
    ) -> Result<(), InspectError> {
        let offset = be64(bytes, 48);
        self.aligned("refcount table offset", offset, cluster_bytes)?;
        let length = u64::from(be32(bytes, 56)) * cluster_bytes;
        let expected = format!("at most {MAX_REFCOUNT_TABLE_BYTES}");
        let fits = length <= MAX_REFCOUNT_TABLE_BYTES;
        self.rule("refcount table bytes", length, &expected, fits)?;
        self.within(offset, length, "the refcount table")?;
        if be32(bytes, 4) == 3 {
            let order = be32(bytes, 96);
            let fits = order <= MAX_REFCOUNT_ORDER;
            self.rule("refcount_order", order.into(), "at most 6", fits)?;
        }
        Ok(())
    }

    fn aligned(
        &self,
        field: &'static str,
        offset: u64,
        cluster_bytes: u64,
    ) -> Result<(), InspectError> {
        let expected = format!("a multiple of {cluster_bytes}");
        self.rule(
            field,
            offset,
            &expected,
            offset.is_multiple_of(cluster_bytes),
        )
    }

    /// Walks the header extensions and returns the backing file's format.
    fn extensions(
        &self,
        header_bytes: u64,
        cluster_bytes: u64,
        has_data_file: bool,
    ) -> Result<Option<Vec<u8>>, InspectError> {
        const WHAT: &str = "a header extension";
        let end = cluster_bytes.min(MAX_HEADER_BYTES);
        let mut at = header_bytes;
        let mut format = None;
        let mut data_file = String::from("(unnamed)");
        loop {
            let mut head = [0; 8];
            self.rule(
                "header extension at",
                at,
                "within the first cluster",
                at + 8 <= end,
            )?;
            self.read(&mut head, at, WHAT)?;
            at += 8;
            let (kind, length) = (be32(&head, 0), u64::from(be32(&head, 4)));
            let fits = at + length <= end;
            self.rule(
                "header extension of bytes",
                length,
                "within the first cluster",
                fits,
            )?;
            let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
            self.read(&mut data, at, WHAT)?;
            at += length.next_multiple_of(8);
            match kind {
                EXTENSION_END => break,
                EXTENSION_BACKING_FORMAT => {
                    let fits = data.len() <= MAX_FORMAT_NAME_BYTES;
                    self.rule("backing format of bytes", length, "at most 64", fits)?;
                    format = Some(data);
                }
                // imago takes whole entries for granted.
                EXTENSION_FEATURE_NAMES => {
                    let whole = data.len().is_multiple_of(FEATURE_NAME_BYTES);
                    self.rule("feature names of bytes", length, "a multiple of 48", whole)?;
                }
                EXTENSION_DATA_FILE => data_file = data.escape_ascii().to_string(),
                _ => {}
            }
        }
        if has_data_file {
            return Err(InspectError::ExternalData {
                path: self.path.to_owned(),
                data_file,
            });
        }
        Ok(format)
    }

    fn backing_name(
        &self,
        place: Option<qcow2::BackingName>,
        cluster_bytes: u64,
    ) -> Result<Option<Vec<u8>>, InspectError> {
        let Some(qcow2::BackingName { offset, length }) = place else {
            return Ok(None);
        };
        let fits = (1..=MAX_BACKING_NAME_BYTES).contains(&length);
        self.rule(
            "backing file name of bytes",
            length.into(),
            "1 to 1023",
            fits,
        )?;
        let end = offset.checked_add(length.into());
        let fits = end.is_some_and(|end| end < cluster_bytes);
        self.rule(
            "backing file name at",
            offset,
            "within the first cluster",
            fits,
        )?;
        let mut name = vec![0; length as usize];
        self.read(&mut name, offset, "the backing file's name")?;
        Ok(Some(name))
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}
