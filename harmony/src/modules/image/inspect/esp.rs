//! What an EFI system partition offers to a machine's firmware.

use object::LittleEndian;
use object::pe::{
    IMAGE_NT_OPTIONAL_HDR64_MAGIC, ImageDosHeader, ImageNtHeaders32, ImageNtHeaders64,
};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, optional_header_magic};
use uuid::{Uuid, uuid};

use super::disk::Disk;
use super::error::InspectError;
use super::facts::{
    EspFacts, LoaderFacts, PartitionFacts, PeVerdict, RemovableLoader, VolumeVerdict,
};
use super::fat::{Entry, FatError, Volume};
use super::gpt::SECTOR_BYTES;

/// The partition type of an EFI system partition.
pub(super) const ESP_TYPE: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");

/// So many EFI system partitions are looked into; machines have one.
const MAX_ESPS: usize = 8;
const MAX_OTHER_PROGRAMS: usize = 16;
/// A PE image's headers are in its first page or two.
const HEAD_BYTES: u64 = 64 << 10;

/// Looks into the EFI system partitions among `partitions`.
pub(super) fn read_esps(
    disk: &mut Disk,
    partitions: &[PartitionFacts],
) -> Result<Vec<EspFacts>, InspectError> {
    partitions
        .iter()
        .filter(|partition| partition.type_guid == ESP_TYPE)
        .take(MAX_ESPS)
        .map(|partition| {
            Ok(EspFacts {
                partition: partition.number,
                volume: read_volume(disk, partition)?,
            })
        })
        .collect()
}

fn read_volume(disk: &mut Disk, place: &PartitionFacts) -> Result<VolumeVerdict, InspectError> {
    let bytes = |lba: u64| lba.checked_mul(SECTOR_BYTES);
    let start = bytes(place.first_lba);
    let end = place.last_lba.checked_add(1).and_then(bytes);
    let inside = match (start, end) {
        (Some(start), Some(end)) if start < end && end <= disk.size() => Some((start, end - start)),
        _ => None,
    };
    let Some((start, length)) = inside else {
        let (first, last) = (place.first_lba, place.last_lba);
        return Ok(VolumeVerdict::Unusable {
            problem: format!("sectors {first} to {last} do not lie within the disk"),
        });
    };
    let mut volume = match Volume::open(disk, start, length) {
        Ok(volume) => volume,
        Err(FatError::Volume(problem)) => return Ok(VolumeVerdict::Unusable { problem }),
        Err(FatError::Image(error)) => return Err(error),
    };
    let mut found = Found::default();
    let problem = match found.look(&mut volume) {
        Ok(()) => None,
        Err(FatError::Volume(problem)) => Some(problem),
        Err(FatError::Image(error)) => return Err(error),
    };
    Ok(VolumeVerdict::Fat {
        kind: volume.kind(),
        loaders: found.loaders,
        other_programs: found.other_programs,
        problem,
    })
}

/// What was found before damage was met.
#[derive(Default)]
struct Found {
    loaders: Vec<LoaderFacts>,
    other_programs: Vec<String>,
}

impl Found {
    fn look(&mut self, volume: &mut Volume<'_>) -> Result<(), FatError> {
        for path in RemovableLoader::ALL {
            let name = path.path().rsplit('\\').next().unwrap_or_default();
            let is_it = |e: &Entry| !e.is_directory && e.name.eq_ignore_ascii_case(name);
            let Some(file) = volume
                .directory(&["EFI", "BOOT"], is_it)?
                .into_iter()
                .next()
            else {
                continue;
            };
            let image = match volume.head(&file, HEAD_BYTES) {
                Ok(head) => pe(&head, file.bytes),
                Err(FatError::Volume(problem)) => PeVerdict::Invalid { problem },
                Err(error) => return Err(error),
            };
            self.loaders.push(LoaderFacts {
                path,
                file_bytes: file.bytes,
                image,
            });
        }
        let is_vendor =
            |e: &Entry| e.is_directory && !matches!(e.name.as_str(), "." | ".." | "BOOT");
        for vendor in volume.directory(&["EFI"], is_vendor)? {
            let is_program = |e: &Entry| !e.is_directory && e.name.ends_with(".EFI");
            for program in volume.directory(&["EFI", &vendor.name], is_program)? {
                if self.other_programs.len() < MAX_OTHER_PROGRAMS {
                    let path = format!("\\EFI\\{}\\{}", vendor.name, program.name);
                    self.other_programs.push(path);
                }
            }
        }
        Ok(())
    }
}

/// Judges a file of `length` bytes by its first ones.
pub(super) fn pe(head: &[u8], length: u32) -> PeVerdict {
    let read = optional_header_magic(head).and_then(|magic| {
        if magic == IMAGE_NT_OPTIONAL_HDR64_MAGIC {
            headers::<ImageNtHeaders64>(head, length)
        } else {
            headers::<ImageNtHeaders32>(head, length)
        }
    });
    read.unwrap_or_else(|error| PeVerdict::Invalid {
        problem: format!("no PE image: {error}"),
    })
}

fn headers<H: ImageNtHeaders>(head: &[u8], length: u32) -> object::Result<PeVerdict> {
    let mut offset = ImageDosHeader::parse(head)?.nt_headers_offset().into();
    let (headers, _) = H::parse(head, &mut offset)?;
    let sections = headers.sections(head, offset)?;
    if sections.iter().next().is_none() {
        return Ok(PeVerdict::Invalid {
            problem: "a PE image without sections".to_owned(),
        });
    }
    for section in sections.iter() {
        let start = section.pointer_to_raw_data.get(LittleEndian);
        let bytes = section.size_of_raw_data.get(LittleEndian);
        let end = u64::from(start) + u64::from(bytes);
        if end > u64::from(length) {
            let name = section.raw_name().escape_ascii().to_string();
            return Ok(PeVerdict::Invalid {
                problem: format!("section {name} ends at byte {end} of {length}"),
            });
        }
    }
    Ok(PeVerdict::Pe {
        machine: headers.file_header().machine.get(LittleEndian).0,
        pe32_plus: headers.is_type_64(),
        subsystem: headers.optional_header().subsystem().0,
    })
}
