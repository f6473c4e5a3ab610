//! What a host is and has, as a value: read once, stored, printed, and given to the resolution of virtual
//! machines, which looks at nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::topology::virtualization::{Accelerator, VmArchitecture};

use super::capabilities::DomainCapabilities;
use super::distribution::Distribution;
use super::firmware::FirmwareCandidate;
use super::kvm_probe::KvmProof;
use super::qemu::{Emulator, EmulatorFact, QemuVersion};
use super::version::LibvirtVersion;

/// What the resolution of a virtual machine depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    /// The host's own architecture, when guests of it are supported.
    pub architecture: Option<VmArchitecture>,
    /// Its processors.
    pub cpu: HostCpu,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// Its distribution.
    pub distribution: HostDistribution,
    /// The system emulators on `PATH`, by the architecture that each emulates.
    pub emulators: BTreeMap<String, EmulatorFact>,
    /// Whether a guest of the host's own architecture executes under KVM.
    pub kvm: KvmProof,
    /// What libvirt says.
    pub libvirt: LibvirtFacts,
    /// Every firmware that was found, in the order to try them.
    pub firmware: Vec<FirmwareCandidate>,
    /// The programs beside QEMU that a guest may need, where they are.
    pub programs: HostPrograms,
    /// Free space where images and disks are kept.
    pub space: Vec<FreeSpace>,
}

/// The host's processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCpu {
    /// How many this process may use.
    pub count: u32,
    /// What the kernel calls them; for Arm the implementer's and the part's number.
    pub model: String,
}

impl HostCpu {
    /// The kernel's name of Arm's Cortex-A76, which is the Raspberry Pi 5's core: implementer 0x41,
    /// part 0xd0b (Cortex-A76 Technical Reference Manual, MIDR_EL1).
    pub const CORTEX_A76: &'static str = "arm implementer 0x41 part 0xd0b";
}

/// The host's distribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDistribution {
    /// Whose package names it uses.
    pub family: Distribution,
    /// What it calls itself, with its version.
    pub name: String,
}

/// What libvirt says of itself and of the guests that it can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase", deny_unknown_fields)]
pub enum LibvirtFacts {
    /// It was not asked.
    Unasked,
    /// It does not answer.
    Silent {
        /// What was tried and what came of it.
        reason: String,
    },
    /// It answers.
    Answers {
        /// The connection's URI.
        uri: String,
        /// The directory of disks, seeds and variable stores.
        pool: PathBuf,
        /// The daemon's version.
        version: LibvirtVersion,
        /// What it can run: one entry for each kind of guest that it could be asked about.
        capabilities: Vec<DomainCapabilities>,
    },
}

/// Programs beside QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPrograms {
    /// User networking.
    pub passt: Option<PathBuf>,
    /// Shared directories.
    pub virtiofsd: Option<PathBuf>,
    /// Disk images.
    pub qemu_img: Option<PathBuf>,
}

/// Free space on the file system of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeSpace {
    /// The directory, which need not exist yet.
    pub directory: PathBuf,
    /// What this user may still write, in MiB.
    pub free_mib: u64,
}

impl HostFacts {
    /// The usable emulator for guests of an architecture.
    pub fn emulator(&self, guest: VmArchitecture) -> Option<Emulator> {
        match self.emulators.get(guest.as_str())? {
            EmulatorFact::Usable { path, version } => Some(Emulator {
                path: path.clone(),
                version: *version,
            }),
            EmulatorFact::Broken { .. } => None,
        }
    }

    /// What libvirt says of guests of this kind.
    pub fn capabilities(
        &self,
        guest: VmArchitecture,
        accelerator: Accelerator,
    ) -> Option<&DomainCapabilities> {
        match &self.libvirt {
            LibvirtFacts::Answers { capabilities, .. } => capabilities
                .iter()
                .find(|c| c.architecture == guest && c.accelerator == accelerator),
            LibvirtFacts::Unasked | LibvirtFacts::Silent { .. } => None,
        }
    }

    /// libvirt's version, when it answers.
    pub fn libvirt_version(&self) -> Option<LibvirtVersion> {
        match &self.libvirt {
            LibvirtFacts::Answers { version, .. } => Some(*version),
            LibvirtFacts::Unasked | LibvirtFacts::Silent { .. } => None,
        }
    }

    /// The same host with another QEMU for guests of one architecture: its emulator and version, what
    /// libvirt says of it, and its firmware before the host's own.
    #[must_use]
    pub fn with_qemu(
        mut self,
        guest: VmArchitecture,
        emulator: Emulator,
        capabilities: Vec<DomainCapabilities>,
        firmware: Vec<FirmwareCandidate>,
    ) -> Self {
        let Emulator { path, version } = emulator;
        let fact = EmulatorFact::Usable { path, version };
        self.emulators.insert(guest.as_str().to_owned(), fact);
        if let LibvirtFacts::Answers {
            capabilities: all, ..
        } = &mut self.libvirt
        {
            all.retain(|c| c.architecture != guest);
            all.extend(capabilities);
        }
        self.firmware.splice(0..0, firmware);
        self
    }
}

impl fmt::Display for HostFacts {
    /// A table of what there is, one line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, what: &str, text: &dyn fmt::Display| {
            writeln!(f, "{what:<13} {text}")
        };
        let HostCpu { count, model } = &self.cpu;
        let architecture = self.architecture.map_or("unsupported", |a| a.as_str());
        line(
            f,
            "host",
            &format_args!("{architecture}, {count} x {model}"),
        )?;
        line(f, "memory", &format_args!("{} MiB", self.memory_mib))?;
        line(f, "distribution", &self.distribution.name)?;
        for (guest, emulator) in &self.emulators {
            line(f, "emulator", &format_args!("{guest}: {emulator}"))?;
        }
        line(f, "kvm", &self.kvm)?;
        match &self.libvirt {
            LibvirtFacts::Unasked => line(f, "libvirt", &"not asked")?,
            LibvirtFacts::Silent { reason } => line(f, "libvirt", reason)?,
            LibvirtFacts::Answers {
                uri,
                version,
                pool,
                capabilities,
            } => {
                let pool = pool.display();
                line(
                    f,
                    "libvirt",
                    &format_args!("{version} at {uri}, pool {pool}"),
                )?;
                for capability in capabilities {
                    line(f, "guests", capability)?;
                }
            }
        }
        for candidate in &self.firmware {
            line(f, "firmware", &candidate.origin.display())?;
        }
        let HostPrograms {
            passt,
            virtiofsd,
            qemu_img,
        } = &self.programs;
        for (name, path) in [
            ("passt", passt),
            ("virtiofsd", virtiofsd),
            ("qemu-img", qemu_img),
        ] {
            match path {
                Some(path) => line(f, name, &path.display())?,
                None => line(f, name, &"not found")?,
            }
        }
        for FreeSpace {
            directory,
            free_mib,
        } in &self.space
        {
            line(
                f,
                "free",
                &format_args!("{free_mib} MiB for {}", directory.display()),
            )?;
        }
        Ok(())
    }
}

/// A QEMU that is older than the bound from which arm64 is emulated well, for warnings.
pub(crate) fn older_than_mttcg(version: QemuVersion) -> Option<String> {
    (version < QemuVersion::MTTCG).then(|| {
        format!(
            "QEMU {version} is older than {}: emulated arm64 guests run slower",
            QemuVersion::MTTCG
        )
    })
}
