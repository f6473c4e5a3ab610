//! The first sector and both partition tables, each judged by itself.
//!
//! A crate that opens a disk by its table takes the first valid one or fails; here the verdict on each is the
//! result. Layout: UEFI specification 2.4 A, sections 5.2 and 5.3.

use crc::{CRC_32_ISO_HDLC, Crc};
use uuid::Uuid;

use super::disk::Disk;
use super::error::InspectError;
use super::facts::{GptHeader, GptProblem, GptVerdict, MbrFacts, PartitionFacts};
use super::limits::Limits;

/// What firmware takes a sector for on the virtio disks of these machines, in bytes.
pub(super) const SECTOR_BYTES: u64 = 512;
const LARGE_SECTOR_BYTES: u32 = 4096;
const SECTOR: usize = 512;
const HEADER_BYTES: usize = 92;
const REVISION: u32 = 0x0001_0000;
const MIN_ENTRY_BYTES: u32 = 128;
const BOOT_CODE_BYTES: usize = 440;
const PROTECTIVE: u8 = 0xee;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// What the disk's beginning and end say of partitions.
pub(super) struct Tables {
    pub(super) mbr: MbrFacts,
    pub(super) primary: GptVerdict,
    pub(super) backup: GptVerdict,
    pub(super) partitions: Vec<PartitionFacts>,
}

/// Reads the first sector and both tables.
pub(super) fn read_tables(disk: &mut Disk, limits: &Limits) -> Result<Tables, InspectError> {
    let mbr = match disk.size() / SECTOR_BYTES {
        0 => MbrFacts::default(),
        _ => read_mbr(disk)?,
    };
    let mut reader = Reader {
        last_lba: (disk.size() / SECTOR_BYTES).saturating_sub(1),
        disk,
        limits,
    };
    let primary = reader.table(1)?;
    // Without a primary that tells, the backup is in the last sector.
    let backup_lba = primary
        .as_ref()
        .map_or(reader.last_lba, |(header, _)| header.alternate_lba);
    let backup = match backup_lba {
        0 | 1 => Err(GptProblem::Field {
            field: "alternate_lba".to_owned(),
            found: backup_lba,
            expected: "the last sector".to_owned(),
        }),
        lba => reader.table(lba)?,
    };
    let partitions = [&primary, &backup]
        .into_iter()
        .find_map(|table| {
            table
                .as_ref()
                .ok()
                .map(|(_, partitions)| partitions.clone())
        })
        .unwrap_or_default();
    Ok(Tables {
        mbr,
        primary: verdict(primary),
        backup: verdict(backup),
        partitions,
    })
}

type Table = Result<(GptHeader, Vec<PartitionFacts>), GptProblem>;

fn verdict(table: Table) -> GptVerdict {
    match table {
        Ok((header, _)) => GptVerdict::Valid { header },
        Err(problem) => GptVerdict::Invalid { problem },
    }
}

fn read_mbr(disk: &mut Disk) -> Result<MbrFacts, InspectError> {
    let mut sector = [0; SECTOR];
    disk.read(&mut sector, 0, "the first sector")?;
    let records = || sector[446..510].chunks_exact(16).filter(|r| r[4] != 0);
    Ok(MbrFacts {
        signature: sector[510..] == [0x55, 0xaa],
        partition_types: records().map(|record| record[4]).collect(),
        protective: records().any(|record| record[4] == PROTECTIVE && le32(record, 8) == 1),
        boot_code: sector[..BOOT_CODE_BYTES].iter().any(|byte| *byte != 0),
    })
}

struct Reader<'a> {
    disk: &'a mut Disk,
    limits: &'a Limits,
    last_lba: u64,
}

impl Reader<'_> {
    fn table(&mut self, lba: u64) -> Result<Table, InspectError> {
        let sector = match self.header_sector(lba)? {
            Ok(sector) => sector,
            Err(problem) => return Ok(Err(problem)),
        };
        let header = match sealed_header(&sector) {
            Ok(header) => header,
            Err(problem) => return Ok(Err(problem)),
        };
        if let Err(problem) = check_header(&header, lba, self.last_lba, self.limits) {
            return Ok(Err(problem));
        }
        // Bounded by the check of the header.
        let bytes = u64::from(header.entry_count) * u64::from(header.entry_bytes);
        let mut entries = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let offset = header.entries_lba.saturating_mul(SECTOR_BYTES);
        self.disk
            .read(&mut entries, offset, "the partition entries")?;
        let computed = CRC.checksum(&entries);
        if computed != header.entries_crc32 {
            return Ok(Err(GptProblem::EntriesCrc {
                found: header.entries_crc32,
                computed,
            }));
        }
        let partitions = partitions(&entries, header.entry_bytes);
        Ok(Ok((header, partitions)))
    }

    fn header_sector(
        &mut self,
        lba: u64,
    ) -> Result<Result<[u8; SECTOR], GptProblem>, InspectError> {
        const PART: &str = "a partition table";
        let last_lba = self.last_lba;
        if lba > last_lba {
            return Ok(Err(GptProblem::BehindTheDisk { lba, last_lba }));
        }
        let mut sector = [0; SECTOR];
        let offset = lba.saturating_mul(SECTOR_BYTES);
        self.disk.read(&mut sector, offset, PART)?;
        if sector.starts_with(SIGNATURE) {
            return Ok(Ok(sector));
        }
        let mut large = [0; SIGNATURE.len()];
        let offset = u64::from(LARGE_SECTOR_BYTES);
        if lba == 1 && self.disk.size() > offset + SECTOR_BYTES {
            self.disk.read(&mut large, offset, PART)?;
        }
        Ok(Err(if &large == SIGNATURE {
            GptProblem::SectorSize {
                sector_bytes: LARGE_SECTOR_BYTES,
            }
        } else {
            GptProblem::NoSignature { lba }
        }))
    }
}

/// A rule that a field of the header breaks.
fn rule(
    holds: bool,
    name: &str,
    found: u64,
    expected: impl Into<String>,
) -> Result<(), GptProblem> {
    match holds {
        true => Ok(()),
        false => Err(GptProblem::Field {
            field: name.to_owned(),
            found,
            expected: expected.into(),
        }),
    }
}

/// The header in a sector, when its CRC is right.
fn sealed_header(sector: &[u8; SECTOR]) -> Result<GptHeader, GptProblem> {
    let revision = le32(sector, 8);
    rule(
        revision == REVISION,
        "revision",
        revision.into(),
        REVISION.to_string(),
    )?;
    let length = le32(sector, 12) as usize;
    let fits = (HEADER_BYTES..=SECTOR).contains(&length);
    rule(fits, "header size", length as u64, "92 to 512")?;
    let found = le32(sector, 16);
    let mut unsigned = *sector;
    unsigned[16..20].fill(0);
    let computed = CRC.checksum(&unsigned[..length]);
    if found != computed {
        return Err(GptProblem::HeaderCrc { found, computed });
    }
    Ok(GptHeader {
        my_lba: le64(sector, 24),
        alternate_lba: le64(sector, 32),
        first_usable_lba: le64(sector, 40),
        last_usable_lba: le64(sector, 48),
        disk_guid: guid(sector, 56),
        entries_lba: le64(sector, 72),
        entry_count: le32(sector, 80),
        entry_bytes: le32(sector, 84),
        entries_crc32: le32(sector, 88),
    })
}

/// Checks that a header from sector `lba` speaks of this disk, and of no more than may be read.
fn check_header(
    header: &GptHeader,
    lba: u64,
    last_lba: u64,
    limits: &Limits,
) -> Result<(), GptProblem> {
    rule(
        header.my_lba == lba,
        "my_lba",
        header.my_lba,
        lba.to_string(),
    )?;
    let (first, last) = (header.first_usable_lba, header.last_usable_lba);
    rule(
        first <= last,
        "first_usable_lba",
        first,
        format!("at most {last}"),
    )?;
    rule(
        last <= last_lba,
        "last_usable_lba",
        last,
        format!("at most {last_lba}"),
    )?;
    let each = header.entry_bytes;
    let fits = each >= MIN_ENTRY_BYTES && each.is_power_of_two();
    rule(fits, "entry size", each.into(), "128, 256, 512 …")?;
    let bytes = u64::from(header.entry_count) * u64::from(each);
    let bound = limits.partition_array_bytes;
    let what = "bytes of partition entries";
    rule(bytes <= bound, what, bytes, format!("at most {bound}"))?;
    let start = header.entries_lba;
    let end = start.checked_add(bytes.div_ceil(SECTOR_BYTES));
    let fits = start > 1 && end.is_some_and(|end| end <= last_lba.saturating_add(1));
    let expected = format!("2 to {last_lba}, with room for {bytes} bytes");
    rule(fits, "entries_lba", start, expected)
}

fn partitions(entries: &[u8], entry_bytes: u32) -> Vec<PartitionFacts> {
    (1..)
        .zip(entries.chunks_exact(entry_bytes as usize))
        .map(|(number, entry)| PartitionFacts {
            number,
            type_guid: guid(entry, 0),
            first_lba: le64(entry, 32),
            last_lba: le64(entry, 40),
        })
        .filter(|partition| !partition.type_guid.is_nil())
        .collect()
}

pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u16::from_le_bytes)
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn guid(bytes: &[u8], at: usize) -> Uuid {
    bytes
        .get(at..at + 16)
        .and_then(|b| b.try_into().ok())
        .map_or(Uuid::nil(), Uuid::from_bytes_le)
}
