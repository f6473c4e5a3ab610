//! The clauses that concern an image, judged by its facts. Pure.

use super::conformance::{BootPath, Clause, ClauseId, ConformanceReport, Level, Verdict};
use super::facts::{
    EspFacts, FatKind, GptVerdict, ImageFacts, LoaderFacts, PartitionFacts, PeVerdict,
    RemovableLoader, VolumeVerdict,
};
use crate::domain::topology::virtualization::VmArchitecture;

const EFI_APPLICATION: u16 = 10;
const UNREAD_KERNEL: &str = "the guest's kernel is not read";

/// Judges an image by what the specification asks of one for guests of `architecture`: UEFI starts it.
///
/// The specification is for Arm; its image format is UEFI's, and an x86_64 image is judged by the same clauses
/// with its own loader. Whether a BIOS can start it is a clause as well.
pub fn conformance(facts: &ImageFacts, architecture: VmArchitecture) -> ConformanceReport {
    conformance_for(facts, architecture, BootPath::Uefi)
}

/// Judges an image for guests that are started in this way: the same clauses with the same verdicts as
/// [`conformance`], and of what only UEFI needs nothing is a must where there is no UEFI.
///
/// An image with boot loaders for other architectures alone fails in every way.
pub fn conformance_for(
    facts: &ImageFacts,
    architecture: VmArchitecture,
    boot: BootPath,
) -> ConformanceReport {
    let uefi = level(boot == BootPath::Uefi);
    let loader = loader(facts, architecture);
    let foreign =
        matches!(loader, Loader::Missing) && facts.esps.iter().flat_map(loaders).count() > 0;
    let mut clauses = vec![
        Clause::new(ClauseId::ProtectiveMbr, uefi, protective_mbr(facts)),
        Clause::new(ClauseId::PrimaryGpt, uefi, table(&facts.primary_gpt)),
        Clause::new(ClauseId::BackupGpt, uefi, backup(facts)),
        Clause::new(ClauseId::Partitions, uefi, partitions(facts)),
        Clause::new(ClauseId::Esp, uefi, esp(facts)),
        Clause::new(ClauseId::EspFileSystem, uefi, esp_file_system(facts)),
        Clause::new(ClauseId::EspFat32, Level::Should, esp_fat32(facts)),
        Clause::new(
            ClauseId::RemovableLoader,
            level(foreign || boot == BootPath::Uefi),
            removable_loader(&loader, facts, architecture),
        ),
        Clause::new(ClauseId::LoaderApplication, uefi, application(&loader)),
        Clause::new(
            ClauseId::LoaderMachine,
            uefi,
            machine(&loader, architecture),
        ),
        Clause::new(
            ClauseId::NoPresetVariables,
            uefi,
            no_preset_variables(&loader, facts),
        ),
    ];
    clauses.extend(guest(architecture));
    if architecture == VmArchitecture::X86_64 {
        let code = level(boot == BootPath::Bios);
        clauses.push(Clause::new(ClauseId::BiosBootCode, code, bios(facts)));
    }
    ConformanceReport {
        architecture,
        clauses,
    }
}

fn level(must: bool) -> Level {
    match must {
        true => Level::Must,
        false => Level::Should,
    }
}

/// What the guest's kernel must know.
fn guest(architecture: VmArchitecture) -> impl Iterator<Item = Clause> {
    let arm = [
        (ClauseId::GuestConsoles, Level::Must),
        (ClauseId::GuestGic, Level::Must),
        (ClauseId::GuestRtc, Level::Must),
    ];
    let arm = arm
        .into_iter()
        .filter(move |_| architecture == VmArchitecture::Aarch64);
    arm.chain([(ClauseId::GuestDrivers, Level::Should)])
        .map(|(id, level)| Clause::new(id, level, Verdict::unknown(UNREAD_KERNEL)))
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

/// What else the code needs is its own affair: GRUB has a partition of its own, others have other places.
fn bios(facts: &ImageFacts) -> Verdict {
    const EXPECTED: &str = "boot code, and 55 aa at its end";
    match (facts.mbr.signature, facts.mbr.boot_code) {
        (true, true) => Verdict::Pass,
        (false, _) => Verdict::fail("no boot signature 55 aa", EXPECTED),
        (true, false) => Verdict::fail("no boot code in the first sector", EXPECTED),
    }
}
