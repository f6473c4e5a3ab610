//! A FAT volume, as far as finding a file by its path takes.
//!
//! `fatfs`, which writes the volumes here, is not used to read foreign ones: a chain that leads to cluster 1
//! makes it panic, one that leads back makes it read for ever, and closing a volume writes. Layout:
//! Microsoft's FAT specification 1.03.

use super::disk::Disk;
use super::error::InspectError;
use super::facts::FatKind;
use super::gpt::{le16, le32};

const ENTRY_BYTES: usize = 32;
/// The specification's bound: 65536 entries.
const MAX_DIRECTORY_BYTES: u64 = 2 << 20;
/// A file is walked to its end up to this length.
const MAX_FILE_BYTES: u64 = 64 << 20;
const MAX_FAT12_CLUSTERS: u64 = 4084;

const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const DELETED: u8 = 0xe5;

/// Why a volume is not read further.
#[derive(Debug)]
pub(super) enum FatError {
    /// The image cannot be read.
    Image(InspectError),
    /// The volume is damaged, or none.
    Volume(String),
}

impl From<InspectError> for FatError {
    fn from(error: InspectError) -> Self {
        Self::Image(error)
    }
}

fn damaged<T>(problem: String) -> Result<T, FatError> {
    Err(FatError::Volume(problem))
}

/// A FAT file system in a part of a disk.
#[derive(Debug)]
pub(super) struct Volume<'a> {
    disk: &'a mut Disk,
    start: u64,
    geometry: Geometry,
}

/// What a boot sector says. All lengths and offsets are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Geometry {
    kind: FatKind,
    cluster_bytes: u64,
    clusters: u64,
    fat_offset: u64,
    fat_bytes: u64,
    data_offset: u64,
    root: Extent,
}

/// Where a directory or a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// At a fixed place: the root directory of FAT12 and FAT16.
    Fixed { offset: u64, bytes: u64 },
    /// From a cluster on.
    Chain { first: u32 },
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The short name, for example `BOOTAA64.EFI`.
    pub(super) name: String,
    pub(super) is_directory: bool,
    pub(super) bytes: u32,
    first_cluster: u32,
}

impl Geometry {
    /// Reads it from a boot sector of a volume that has `length` bytes at most.
    fn of(boot: &[u8; 512], length: u64) -> Result<Self, FatError> {
        if boot[510..] != [0x55, 0xaa] {
            return damaged("no boot sector signature 55 aa".to_owned());
        }
        let sector = u64::from(le16(boot, 11));
        if !(sector.is_power_of_two() && (512..=4096).contains(&sector)) {
            return damaged(format!("{sector} bytes per sector (expected 512 to 4096)"));
        }
        let per_cluster = u64::from(boot[13]);
        if !per_cluster.is_power_of_two() {
            return damaged(format!(
                "{per_cluster} sectors per cluster (expected a power of two)"
            ));
        }
        let (reserved, fats) = (u64::from(le16(boot, 14)), u64::from(boot[16]));
        if reserved == 0 || fats == 0 {
            return damaged(format!(
                "{reserved} reserved sectors and {fats} FATs (expected some)"
            ));
        }
        let total = match le16(boot, 19) {
            0 => u64::from(le32(boot, 32)),
            sectors => sectors.into(),
        };
        if total * sector > length {
            let bytes = total * sector;
            return damaged(format!("{bytes} bytes in a partition of {length}"));
        }
        // As firmware tells: FAT32 by this field, the others by their clusters.
        let (wide, fat_sectors) = match le16(boot, 22) {
            0 => (true, u64::from(le32(boot, 36))),
            sectors => (false, sectors.into()),
        };
        let root_sector = reserved + fats * fat_sectors;
        let root_bytes = u64::from(le16(boot, 17)) * ENTRY_BYTES as u64;
        let data_sector = root_sector + root_bytes.div_ceil(sector);
        if fat_sectors == 0 || data_sector >= total {
            return damaged(format!("data from sector {data_sector} of {total} on"));
        }
        let clusters = (total - data_sector) / per_cluster;
        let kind = match (wide, clusters) {
            (true, _) => FatKind::Fat32,
            (false, ..=MAX_FAT12_CLUSTERS) => FatKind::Fat12,
            (false, _) => FatKind::Fat16,
        };
        let root = match wide {
            true => Extent::Chain {
                first: le32(boot, 44),
            },
            false => Extent::Fixed {
                offset: root_sector * sector,
                bytes: root_bytes,
            },
        };
        Ok(Self {
            kind,
            cluster_bytes: per_cluster * sector,
            clusters,
            fat_offset: reserved * sector,
            fat_bytes: fat_sectors * sector,
            data_offset: data_sector * sector,
            root,
        })
    }
}

impl<'a> Volume<'a> {
    /// Reads the boot sector of the volume in `length` bytes of the disk from `start` on.
    pub(super) fn open(disk: &'a mut Disk, start: u64, length: u64) -> Result<Self, FatError> {
        let mut boot = [0; 512];
        if length < boot.len() as u64 {
            return damaged(format!("a partition of {length} bytes"));
        }
        disk.read(&mut boot, start, "the EFI system partition")?;
        let geometry = Geometry::of(&boot, length)?;
        Ok(Self {
            disk,
            start,
            geometry,
        })
    }

    /// The width of its FAT's entries.
    pub(super) fn kind(&self) -> FatKind {
        self.geometry.kind
    }

    /// The entries of a directory, named from the root on, that `wanted` takes; none when there is no such
    /// directory.
    pub(super) fn directory(
        &mut self,
        path: &[&str],
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Entry>, FatError> {
        let mut extent = self.geometry.root;
        for name in path {
            let is_next = |e: &Entry| e.is_directory && e.name.eq_ignore_ascii_case(name);
            let Some(next) = self.entries(extent, is_next, 1)?.pop() else {
                return Ok(Vec::new());
            };
            extent = Extent::Chain {
                first: next.first_cluster,
            };
        }
        self.entries(extent, wanted, MAX_FOUND)
    }

    /// The entries that `wanted` takes, at most `bound`.
    fn entries(
        &mut self,
        extent: Extent,
        wanted: impl Fn(&Entry) -> bool,
        bound: usize,
    ) -> Result<Vec<Entry>, FatError> {
        let mut found = Vec::new();
        let mut read = 0;
        let mut part = match extent {
            Extent::Fixed { offset, bytes } => Some((offset, bytes, None)),
            Extent::Chain { first } => Some(self.cluster(first)?),
        };
        while let Some((offset, bytes, cluster)) = part {
            read += bytes;
            if read > MAX_DIRECTORY_BYTES {
                return damaged(format!(
                    "a directory of more than {MAX_DIRECTORY_BYTES} bytes"
                ));
            }
            let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
            self.read(&mut buffer, offset)?;
            for raw in buffer.chunks_exact(ENTRY_BYTES) {
                if raw[0] == 0 {
                    return Ok(found);
                }
                found.extend(entry(raw, self.geometry.kind).filter(&wanted));
                if found.len() >= bound {
                    return Ok(found);
                }
            }
            part = match cluster {
                Some(cluster) => match self.next(cluster)? {
                    Some(next) => Some(self.cluster(next)?),
                    None => None,
                },
                None => None,
            };
        }
        Ok(found)
    }

    /// The first bytes of a file, at most `bound`, after all of its clusters have been found.
    pub(super) fn head(&mut self, file: &Entry, bound: u64) -> Result<Vec<u8>, FatError> {
        let length = u64::from(file.bytes);
        if length > MAX_FILE_BYTES {
            return damaged(format!(
                "{length} bytes long (looked into up to {MAX_FILE_BYTES})"
            ));
        }
        let mut head = vec![0; usize::try_from(length.min(bound)).unwrap_or(0)];
        let mut filled = 0;
        let mut cluster = (length > 0).then_some(file.first_cluster);
        let needed = length.div_ceil(self.geometry.cluster_bytes);
        for walked in 0..needed {
            let Some(current) = cluster else {
                let bytes = walked * self.geometry.cluster_bytes;
                return damaged(format!("cut off after {bytes} of its {length} bytes"));
            };
            let (offset, bytes, _) = self.cluster(current)?;
            let count = usize::try_from(bytes).unwrap_or(0).min(head.len() - filled);
            self.read(&mut head[filled..filled + count], offset)?;
            filled += count;
            cluster = self.next(current)?;
        }
        match cluster {
            Some(next) => damaged(format!(
                "goes on at cluster {next} after its {length} bytes"
            )),
            None => Ok(head),
        }
    }

    /// Where a cluster's bytes are.
    fn cluster(&self, cluster: u32) -> Result<(u64, u64, Option<u32>), FatError> {
        let index = u64::from(cluster).checked_sub(2);
        match index.filter(|index| *index < self.geometry.clusters) {
            Some(index) => {
                let offset = self.geometry.data_offset + index * self.geometry.cluster_bytes;
                Ok((offset, self.geometry.cluster_bytes, Some(cluster)))
            }
            None => {
                let last = self.geometry.clusters + 1;
                damaged(format!(
                    "a chain that leads to cluster {cluster} (expected 2 to {last})"
                ))
            }
        }
    }

    /// The cluster after this one.
    fn next(&mut self, cluster: u32) -> Result<Option<u32>, FatError> {
        let index = u64::from(cluster);
        let (offset, bytes) = match self.geometry.kind {
            FatKind::Fat12 => (index + index / 2, 2),
            FatKind::Fat16 => (index * 2, 2),
            FatKind::Fat32 => (index * 4, 4),
        };
        if offset + bytes > self.geometry.fat_bytes {
            return damaged(format!("cluster {cluster}, which its FAT has no entry for"));
        }
        let mut raw = [0; 4];
        let bytes = usize::try_from(bytes).unwrap_or(0);
        self.read(&mut raw[..bytes], self.geometry.fat_offset + offset)?;
        let value = le32(&raw, 0);
        let (value, end) = match self.geometry.kind {
            FatKind::Fat12 if index.is_multiple_of(2) => (value & 0xfff, 0xff8),
            FatKind::Fat12 => (value >> 4, 0xff8),
            FatKind::Fat16 => (value, 0xfff8),
            FatKind::Fat32 => (value & 0x0fff_ffff, 0x0fff_fff8),
        };
        Ok((value < end).then_some(value))
    }

    fn read(&mut self, buffer: &mut [u8], offset: u64) -> Result<(), FatError> {
        let part = "the EFI system partition";
        Ok(self.disk.read(buffer, self.start + offset, part)?)
    }
}

/// How many entries of a directory are returned at most.
const MAX_FOUND: usize = 64;

/// A file or directory, from its 32 bytes; long names and labels are none.
fn entry(raw: &[u8], kind: FatKind) -> Option<Entry> {
    let attributes = raw[11];
    if raw[0] == DELETED || attributes & ATTRIBUTE_VOLUME != 0 {
        return None;
    }
    let text = |bytes: &[u8]| bytes.trim_ascii_end().escape_ascii().to_string();
    let (stem, extension) = (text(&raw[..8]), text(&raw[8..11]));
    let high = match kind {
        FatKind::Fat32 => u32::from(le16(raw, 20)) << 16,
        FatKind::Fat12 | FatKind::Fat16 => 0,
    };
    Some(Entry {
        name: match extension.as_str() {
            "" => stem,
            extension => format!("{stem}.{extension}"),
        },
        is_directory: attributes & ATTRIBUTE_DIRECTORY != 0,
        bytes: le32(raw, 28),
        first_cluster: high | u32::from(le16(raw, 26)),
    })
}
