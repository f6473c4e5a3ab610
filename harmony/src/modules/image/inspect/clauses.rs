//! The clauses that concern an image, judged by its facts. Pure.

use uuid::{Uuid, uuid};

use super::conformance::{Clause, ClauseId, ConformanceReport, Level, Verdict};
use super::facts::{
    EspFacts, FatKind, GptVerdict, ImageFacts, LoaderFacts, PartitionFacts, PeVerdict,
    RemovableLoader, VolumeVerdict,
};
use crate::domain::topology::virtualization::VmArchitecture;

const BIOS_BOOT_TYPE: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");
const EFI_APPLICATION: u16 = 10;
const UNREAD_KERNEL: &str = "the guest's kernel is not read";

/// Judges an image by what the specification asks of one for guests of `architecture`.
///
/// The specification is for Arm; its image format is UEFI's, and an x86_64 image is judged by the same clauses
/// with its own loader, and by whether a BIOS can boot it, which only counts where the machine has a BIOS.
pub fn conformance(facts: &ImageFacts, architecture: VmArchitecture) -> ConformanceReport {
    let loader = loader(facts, architecture);
    let mut clauses = vec![
        must(ClauseId::ProtectiveMbr, protective_mbr(facts)),
        must(ClauseId::PrimaryGpt, table(&facts.primary_gpt)),
        must(ClauseId::BackupGpt, backup(facts)),
        must(ClauseId::Partitions, partitions(facts)),
        must(ClauseId::Esp, esp(facts)),
        must(ClauseId::EspFileSystem, esp_file_system(facts)),
        should(ClauseId::EspFat32, esp_fat32(facts)),
        must(
            ClauseId::RemovableLoader,
            removable_loader(&loader, facts, architecture),
        ),
        must(ClauseId::LoaderApplication, application(&loader)),
        must(ClauseId::LoaderMachine, machine(&loader, architecture)),
        must(
            ClauseId::NoPresetVariables,
            no_preset_variables(&loader, facts),
        ),
    ];
    match architecture {
        VmArchitecture::Aarch64 => clauses.extend(
            [
                ClauseId::GuestConsoles,
                ClauseId::GuestGic,
                ClauseId::GuestRtc,
            ]
            .map(|id| must(id, Verdict::unknown(UNREAD_KERNEL))),
        ),
        VmArchitecture::X86_64 => clauses.push(should(ClauseId::BiosBootCode, bios(facts))),
    }
    clauses.push(should(
        ClauseId::GuestDrivers,
        Verdict::unknown(UNREAD_KERNEL),
    ));
    ConformanceReport {
        architecture,
        clauses,
    }
}

fn must(id: ClauseId, verdict: Verdict) -> Clause {
    Clause::new(id, Level::Must, verdict)
}

fn should(id: ClauseId, verdict: Verdict) -> Clause {
    Clause::new(id, Level::Should, verdict)
}

fn protective_mbr(facts: &ImageFacts) -> Verdict {
    const EXPECTED: &str = "a record of type 0xee from sector 1 on";
    let mbr = &facts.mbr;
    if !mbr.signature {
        let found = facts.looks_like.as_deref();
        return Verdict::fail(found.unwrap_or("no boot signature 55 aa"), EXPECTED);
    }
    if mbr.protective {
        return Verdict::Pass;
    }
    let types: Vec<String> = mbr
        .partition_types
        .iter()
        .map(|kind| format!("{kind:#04x}"))
        .collect();
    let found = match types.is_empty() {
        true => "no record".to_owned(),
        false => format!("records of type {}", types.join(", ")),
    };
    Verdict::fail(found, EXPECTED)
}

fn table(table: &GptVerdict) -> Verdict {
    match table {
        GptVerdict::Valid { .. } => Verdict::Pass,
        GptVerdict::Invalid { problem } => Verdict::fail(problem.to_string(), "a valid table"),
    }
}

fn backup(facts: &ImageFacts) -> Verdict {
    if let (Some(primary), Some(backup)) = (facts.primary_gpt.header(), facts.backup_gpt.header()) {
        if backup.alternate_lba != primary.my_lba {
            let found = format!("a copy of the table in sector {}", backup.alternate_lba);
            return Verdict::fail(found, format!("of that in sector {}", primary.my_lba));
        }
        if (primary.disk_guid, primary.entries_crc32) != (backup.disk_guid, backup.entries_crc32) {
            return Verdict::fail("a table that differs", "the primary's GUID and entries");
        }
    }
    table(&facts.backup_gpt)
}

/// The usable sectors of the table that counts.
fn usable(facts: &ImageFacts) -> Option<(u64, u64)> {
    let header = facts.primary_gpt.header().or(facts.backup_gpt.header())?;
    Some((header.first_usable_lba, header.last_usable_lba))
}

fn partitions(facts: &ImageFacts) -> Verdict {
    let Some((first, last)) = usable(facts) else {
        return Verdict::unknown("there is no valid partition table");
    };
    let mut places: Vec<&PartitionFacts> = facts.partitions.iter().collect();
    places.sort_by_key(|partition| (partition.first_lba, partition.last_lba));
    let extent = |p: &PartitionFacts| {
        let (number, start, end) = (p.number, p.first_lba, p.last_lba);
        format!("partition {number} in sectors {start} to {end}")
    };
    for place in &places {
        if place.first_lba > place.last_lba || place.first_lba < first || place.last_lba > last {
            return Verdict::fail(extent(place), format!("within {first} to {last}"));
        }
    }
    for pair in places.windows(2) {
        if let [before, after] = pair
            && after.first_lba <= before.last_lba
        {
            let found = format!("{} and {}", extent(before), extent(after));
            return Verdict::fail(found, "partitions that do not overlap");
        }
    }
    Verdict::Pass
}

fn esp(facts: &ImageFacts) -> Verdict {
    if !facts.esps.is_empty() {
        return Verdict::Pass;
    }
    if usable(facts).is_none() {
        return Verdict::unknown("there is no valid partition table");
    }
    let types: Vec<String> = facts
        .partitions
        .iter()
        .take(4)
        .map(|partition| partition.type_guid.to_string())
        .collect();
    let found = match types.is_empty() {
        true => "no partition".to_owned(),
        false => format!("partitions of type {}", types.join(", ")),
    };
    Verdict::fail(found, super::esp::ESP_TYPE.to_string())
}

fn kinds(facts: &ImageFacts) -> impl Iterator<Item = FatKind> {
    facts.esps.iter().filter_map(|esp| match &esp.volume {
        VolumeVerdict::Fat { kind, .. } => Some(*kind),
        VolumeVerdict::Unusable { .. } => None,
    })
}

fn esp_file_system(facts: &ImageFacts) -> Verdict {
    if kinds(facts).next().is_some() {
        return Verdict::Pass;
    }
    match facts.esps.first().map(|esp| &esp.volume) {
        Some(VolumeVerdict::Unusable { problem }) => {
            Verdict::fail(problem.as_str(), "a FAT file system")
        }
        _ => Verdict::unknown("there is no EFI system partition"),
    }
}

fn esp_fat32(facts: &ImageFacts) -> Verdict {
    match kinds(facts).next() {
        None => Verdict::unknown("there is no EFI system partition with a FAT file system"),
        Some(_) if kinds(facts).any(|kind| kind == FatKind::Fat32) => Verdict::Pass,
        Some(kind) => Verdict::fail(kind.to_string(), FatKind::Fat32.to_string()),
    }
}

/// The removable loader of the architecture, or why it is not known.
enum Loader<'a> {
    Found(&'a LoaderFacts),
    Missing,
    Unknown,
}

fn loader(facts: &ImageFacts, architecture: VmArchitecture) -> Loader<'_> {
    let wanted = RemovableLoader::of(architecture);
    let found = facts
        .esps
        .iter()
        .flat_map(loaders)
        .find(|loader| loader.path == wanted);
    match found {
        Some(loader) => Loader::Found(loader),
        None if kinds(facts).next().is_some() => Loader::Missing,
        None => Loader::Unknown,
    }
}

fn loaders(esp: &EspFacts) -> &[LoaderFacts] {
    match &esp.volume {
        VolumeVerdict::Fat { loaders, .. } => loaders,
        VolumeVerdict::Unusable { .. } => &[],
    }
}

fn removable_loader(
    loader: &Loader<'_>,
    facts: &ImageFacts,
    architecture: VmArchitecture,
) -> Verdict {
    match loader {
        Loader::Found(_) => return Verdict::Pass,
        Loader::Unknown => {
            return Verdict::unknown("there is no EFI system partition with a FAT file system");
        }
        Loader::Missing => {}
    }
    let damage = facts.esps.iter().find_map(|esp| match &esp.volume {
        VolumeVerdict::Fat { problem, .. } => problem.as_deref(),
        VolumeVerdict::Unusable { .. } => None,
    });
    let others: Vec<&str> = facts
        .esps
        .iter()
        .flat_map(loaders)
        .map(|loader| loader.path.path())
        .collect();
    let found = match (damage, others.is_empty()) {
        (Some(problem), _) => problem.to_owned(),
        (None, true) => "no boot loader there".to_owned(),
        (None, false) => others.join(" and "),
    };
    Verdict::fail(found, RemovableLoader::of(architecture).path())
}

fn no_loader() -> Verdict {
    Verdict::unknown("there is no boot loader at the removable media path")
}

fn application(loader: &Loader<'_>) -> Verdict {
    let Loader::Found(loader) = loader else {
        return no_loader();
    };
    match &loader.image {
        PeVerdict::Invalid { problem } => Verdict::fail(problem.as_str(), "a whole PE image"),
        PeVerdict::Pe {
            pe32_plus: false, ..
        } => Verdict::fail("PE32", "PE32+"),
        PeVerdict::Pe { subsystem, .. } if *subsystem != EFI_APPLICATION => Verdict::fail(
            format!("subsystem {subsystem}"),
            format!("{EFI_APPLICATION}, EFI application"),
        ),
        PeVerdict::Pe { .. } => Verdict::Pass,
    }
}

fn machine(loader: &Loader<'_>, architecture: VmArchitecture) -> Verdict {
    let Loader::Found(loader) = loader else {
        return no_loader();
    };
    let expected = RemovableLoader::of(architecture).pe_machine();
    match &loader.image {
        PeVerdict::Invalid { problem } => Verdict::unknown(problem.as_str()),
        PeVerdict::Pe { machine, .. } if *machine == expected => Verdict::Pass,
        PeVerdict::Pe { machine, .. } => Verdict::fail(
            format!("machine type {machine:#06x}"),
            format!("{expected:#06x}"),
        ),
    }
}

/// What firmware does not find at the removable media path, it starts only when a variable names it.
fn no_preset_variables(loader: &Loader<'_>, facts: &ImageFacts) -> Verdict {
    let program = facts.esps.iter().find_map(|esp| match &esp.volume {
        VolumeVerdict::Fat { other_programs, .. } => other_programs.first(),
        VolumeVerdict::Unusable { .. } => None,
    });
    match (loader, program) {
        (Loader::Found(_), _) => Verdict::Pass,
        (_, Some(program)) => Verdict::fail(
            format!("{program}, which only a boot variable can name"),
            "a boot loader at the removable media path",
        ),
        (_, None) => no_loader(),
    }
}

fn bios(facts: &ImageFacts) -> Verdict {
    const EXPECTED: &str = "boot code in the first sector and a BIOS boot partition";
    let has_partition = facts
        .partitions
        .iter()
        .any(|partition| partition.type_guid == BIOS_BOOT_TYPE);
    match (facts.mbr.boot_code, has_partition) {
        (true, true) => Verdict::Pass,
        (false, _) => Verdict::fail("no boot code in the first sector", EXPECTED),
        (true, false) => Verdict::fail("no BIOS boot partition", EXPECTED),
    }
}
