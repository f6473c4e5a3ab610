//! The report: each clause of Arm's VM System Specification with a verdict.

use std::fmt;

use serde::Serialize;

use crate::domain::topology::virtualization::VmArchitecture;

/// A section of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// How a disk must be laid out to boot anywhere.
    ImageFormat,
    /// What the machine's firmware must offer.
    VirtualFirmware,
    /// How the machine describes itself.
    HardwareDescription,
    /// Which devices the machine must have, and the guest must know.
    VmPlatform,
    /// Not in the specification: what an x86_64 machine's BIOS needs.
    Bios,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ImageFormat => "Image Format",
            Self::VirtualFirmware => "Virtual Firmware",
            Self::HardwareDescription => "Hardware Description",
            Self::VmPlatform => "VM Platform",
            Self::Bios => "BIOS",
        })
    }
}

/// What starts the guest: it decides which clauses an image must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BootPath {
    /// UEFI firmware, as the specification has it.
    Uefi,
    /// A PC's BIOS, which runs the code in the first sector.
    Bios,
    /// A kernel from outside the image.
    Kernel,
}

/// How strongly a clause is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What fails it does not conform.
    Must,
    /// Recommended.
    Should,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "must",
            Self::Should => "should",
        })
    }
}

macro_rules! clauses {
    ($($(#[doc = $doc:literal])+ $id:ident, $name:literal, $section:ident, $text:literal;)+) => {
        /// A clause, by a name of ours: the specification does not number them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum ClauseId {
            $($(#[doc = $doc])+ $id,)+
        }

        impl ClauseId {
            /// The name in tables and JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$id => $name,)+ }
            }

            /// Where the specification says it.
            pub fn section(self) -> Section {
                match self { $(Self::$id => Section::$section,)+ }
            }

            /// What it asks for, in our words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$id => $text,)+ }
            }
        }
    };
}

clauses! {
    /// The first sector protects the table.
    ProtectiveMbr, "protective-mbr", ImageFormat,
        "the first sector has a protective record, as a GUID partition table asks for";
    /// The table at the beginning.
    PrimaryGpt, "primary-gpt", ImageFormat,
        "the GUID partition table at the disk's beginning is valid";
    /// The table at the end.
    BackupGpt, "backup-gpt", ImageFormat,
        "its copy at the disk's end is valid and says the same";
    /// The partitions' places.
    Partitions, "partitions", ImageFormat,
        "every partition lies in the usable sectors, and none overlaps another";
    /// The partition to boot from.
    Esp, "esp", ImageFormat,
        "a partition has the type of an EFI system partition";
    /// Its file system.
    EspFileSystem, "esp-file-system", ImageFormat,
        "the EFI system partition has a FAT file system";
    /// The width of the FAT.
    EspFat32, "esp-fat32", ImageFormat,
        "that file system is FAT32";
    /// The loader's place.
    RemovableLoader, "removable-loader", ImageFormat,
        "a boot loader is at UEFI's removable media path of the architecture";
    /// The loader's kind.
    LoaderApplication, "loader-application", ImageFormat,
        "that boot loader is a whole EFI application in PE32+ form";
    /// The loader's processor.
    LoaderMachine, "loader-machine", ImageFormat,
        "that boot loader is for the architecture's processor";
    /// Nothing but the image is needed.
    NoPresetVariables, "no-preset-variables", VirtualFirmware,
        "the image boots without variables that were set in the firmware before";
    /// The guest's consoles.
    GuestConsoles, "guest-consoles", VmPlatform,
        "the guest's kernel knows pl011, virtio-console and the Xen console";
    /// The guest's interrupt controllers.
    GuestGic, "guest-gic", VmPlatform,
        "the guest's kernel knows GICv2 and newer";
    /// The guest's clock.
    GuestRtc, "guest-rtc", VmPlatform,
        "the guest reads the time of day from UEFI";
    /// The guest's virtio and Xen drivers.
    GuestDrivers, "guest-drivers", VmPlatform,
        "the guest's kernel or initrd has the virtio and Xen drivers";
    /// Code for a BIOS.
    BiosBootCode, "bios-boot-code", Bios,
        "the first sector has a boot signature and code to run";
    /// The machine's firmware.
    Uefi, "uefi", VirtualFirmware,
        "the machine starts UEFI firmware";
    /// Where it comes from.
    FirmwareOutside, "firmware-outside-image", VirtualFirmware,
        "the firmware comes with the machine and not with the image";
    /// Its variables.
    PersistentVariables, "persistent-variables", VirtualFirmware,
        "variables persist for each machine, outside the image";
    /// Its clock.
    Rtc, "rtc", VirtualFirmware,
        "the machine has a real-time clock for UEFI's time services";
    /// What the guest's kernel is told.
    DeviceTree, "device-tree", HardwareDescription,
        "firmware hands over a complete device tree";
    /// The console.
    SerialConsole, "serial-console", VmPlatform,
        "the machine has a pl011, virtio or Xen console";
    /// The interrupt controller.
    Gic, "gic", VmPlatform,
        "the machine has a GICv2 or newer";
    /// The timer.
    VirtualTimer, "virtual-timer", VmPlatform,
        "the machine has Arm's virtual timer and counter";
    /// Hot-plug.
    HotplugBus, "hotplug-bus", VmPlatform,
        "disks and network cards can be plugged in while the guest runs";
}

impl fmt::Display for ClauseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a clause is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Pass,
    /// It is not.
    Fail {
        /// What there is.
        found: String,
        /// What there should be.
        expected: String,
    },
    /// It cannot be told from here.
    NotDecidable {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// It is `found`, where `expected` is asked for.
    pub fn fail(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Fail {
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// It cannot be decided, for `reason`.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::NotDecidable {
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Fail { found, expected } => write!(f, "FAIL: {found} (expected {expected})"),
            Self::NotDecidable { reason } => write!(f, "not decidable: {reason}"),
        }
    }
}

/// One judged clause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// Which.
    pub id: ClauseId,
    /// Where the specification says it.
    pub section: Section,
    /// How strongly.
    pub level: Level,
    /// What it asks for.
    pub text: &'static str,
    /// Whether it is kept.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Clause {
    /// The clause with its section and its text.
    pub fn new(id: ClauseId, level: Level, verdict: Verdict) -> Self {
        Self {
            id,
            section: id.section(),
            level,
            text: id.text(),
            verdict,
        }
    }
}

impl fmt::Display for Clause {
    /// For one line of an error: the verdict, and where it was asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, section, .. } = self;
        match &self.verdict {
            Verdict::Fail { found, expected } => {
                write!(f, "{id} ({section}): found {found}, expected {expected}")
            }
            verdict => write!(f, "{id} ({section}): {verdict}"),
        }
    }
}

/// Every clause that concerns an image or a machine. Displays as a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConformanceReport {
    /// What it was judged for.
    pub architecture: VmArchitecture,
    /// The clauses, in the order of the specification.
    pub clauses: Vec<Clause>,
}

impl ConformanceReport {
    /// Whether no clause fails that must be kept. What cannot be told from here does not count.
    pub fn conforms(&self) -> bool {
        self.violations().next().is_none()
    }

    /// The clauses that fail, recommended ones included.
    pub fn failures(&self) -> impl Iterator<Item = &Clause> {
        let fails = |clause: &&Clause| matches!(clause.verdict, Verdict::Fail { .. });
        self.clauses.iter().filter(fails)
    }

    /// The clauses that fail although they must be kept.
    pub fn violations(&self) -> impl Iterator<Item = &Clause> {
        let must = |clause: &&Clause| clause.level == Level::Must;
        self.failures().filter(must)
    }

    /// The verdict on one clause, when the report has it.
    pub fn verdict(&self, id: ClauseId) -> Option<&Verdict> {
        let clause = self.clauses.iter().find(|clause| clause.id == id);
        clause.map(|clause| &clause.verdict)
    }

    /// This report with the clauses of another behind its own: an image's with its machine's.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.clauses.extend(other.clauses);
        self
    }
}

impl fmt::Display for ConformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for clause in &self.clauses {
            let Clause {
                id,
                section,
                level,
                verdict,
                text: _,
            } = clause;
            writeln!(f, "{section:<20}  {id:<22}  {level:<6}  {verdict}")?;
        }
        let conforms = if self.conforms() {
            "conforms"
        } else {
            "does not conform"
        };
        write!(f, "{}: {conforms}", self.architecture)
    }
}
