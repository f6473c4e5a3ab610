//! Which CPU the guest sees, and what it costs.
//!
//! Pointer authentication decides how fast an emulated arm64 guest is: its default algorithm, QARMA5, takes
//! more than half of an emulated boot (measured: 118 to 124 s against 45 to 58 s to SSH), and the
//! implementation-defined one, which CPU `max` uses by default from QEMU 10.0 on, on machine `virt-10.0` and newer,
//! still a sixth (measured: 66 s of processor time to SSH against 55 s without). libvirt has no name for the choice;
//! since 10.6 it can leave pointer authentication out. Where it cannot, and where CPU `max` is to have everything, the
//! algorithm is told by a property that only QEMU's own command line can give.

use std::fmt;

use crate::domain::topology::virtualization::{Accelerator, CpuProfile, VmArchitecture};
use crate::modules::host::{DomainCapabilities, LibvirtVersion, QemuVersion};
use crate::modules::kvm::types::Violation;

/// The guest's CPU, as libvirt is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuModel {
    /// A named model close to the host's, which can be migrated (x86_64 under KVM).
    HostModel,
    /// The host's CPU as it is.
    HostPassthrough,
    /// Everything that QEMU can emulate.
    Maximum,
    /// The same without pointer authentication.
    MaximumWithoutPointerAuthentication,
    /// A model by its name.
    Named(String),
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostModel => "host-model",
            Self::HostPassthrough => "host-passthrough",
            Self::Maximum => "max",
            Self::MaximumWithoutPointerAuthentication => "max without pauth",
            Self::Named(model) => model,
        })
    }
}

/// A property of QEMU's that libvirt has no name for: `-global DRIVER.PROPERTY=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QemuGlobal {
    /// The object's type.
    pub driver: &'static str,
    /// The property.
    pub property: &'static str,
    /// Its value.
    pub value: &'static str,
}

impl fmt::Display for QemuGlobal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}={}", self.driver, self.property, self.value)
    }
}

/// CPU `max` signs pointers with the implementation-defined algorithm.
pub const IMPDEF: QemuGlobal = QemuGlobal {
    driver: "max-arm-cpu",
    property: "pauth-impdef",
    value: "on",
};

/// libvirt knows the CPU feature `pauth` since this version (its news); before, it refuses the name.
const PAUTH_SINCE: LibvirtVersion = LibvirtVersion::new(10, 6);

/// Models of QEMU's that sign pointers with QARMA (`target/arm/tcg/cpu64.c`).
const QARMA_MODELS: [&str; 4] = ["neoverse-v1", "neoverse-n2", "cortex-a710", "cortex-a720"];

/// What was chosen, why, and what has to be said beside the model.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) model: CpuModel,
    pub(super) global: Option<QemuGlobal>,
    pub(super) reason: String,
    pub(super) warning: Option<String>,
}

impl Choice {
    fn new(model: CpuModel, reason: impl Into<String>) -> Self {
        Self {
            model,
            global: None,
            reason: reason.into(),
            warning: None,
        }
    }
}

/// What the choice depends on.
pub(super) struct Question<'a> {
    pub(super) profile: &'a CpuProfile,
    pub(super) accelerator: Accelerator,
    pub(super) capabilities: &'a DomainCapabilities,
    pub(super) qemu: QemuVersion,
    pub(super) libvirt: Option<LibvirtVersion>,
    pub(super) machine: &'a str,
}

/// Chooses the CPU.
pub(super) fn choose(question: &Question<'_>) -> Result<Choice, Violation> {
    let architecture = question.capabilities.architecture;
    match (question.profile, question.accelerator) {
        (CpuProfile::Fastest, Accelerator::Kvm) => Ok(host_cpu(
            architecture,
            "fastest: the host's own CPU executes the guest",
        )),
        (CpuProfile::Host, Accelerator::Kvm) => Ok(host_cpu(architecture, "asked for")),
        (CpuProfile::RaspberryPi5, Accelerator::Kvm) => Ok(Choice::new(
            CpuModel::HostPassthrough,
            "the host's own core is the Raspberry Pi 5's",
        )),
        (CpuProfile::Fastest, Accelerator::Tcg) => Ok(fastest_emulated(question)),
        (CpuProfile::Max, _) => Ok(everything_emulated(question)),
        (CpuProfile::RaspberryPi5, Accelerator::Tcg) => named(
            question,
            "cortex-a76",
            "the Raspberry Pi 5's core, Armv8.2-A; it has no pointer authentication",
        ),
        (CpuProfile::Named(model), _) => named(question, model, "asked for"),
        (CpuProfile::Host, Accelerator::Tcg) => Err(Violation::new(
            "cpu",
            "host",
            "fastest, raspberry-pi-5, max or a model's name under TCG, which has no host CPU to show",
        )),
    }
}

fn host_cpu(architecture: VmArchitecture, reason: &str) -> Choice {
    let model = match architecture {
        VmArchitecture::X86_64 => CpuModel::HostModel,
        VmArchitecture::Aarch64 => CpuModel::HostPassthrough,
    };
    Choice::new(model, reason)
}

fn fastest_emulated(question: &Question<'_>) -> Choice {
    let Question { qemu, machine, .. } = question;
    let place = format!("TCG, QEMU {qemu}, machine {machine}");
    match question.capabilities.architecture {
        VmArchitecture::X86_64 => Choice::new(
            CpuModel::Maximum,
            format!("{place}: everything that is emulated costs nothing unused"),
        ),
        VmArchitecture::Aarch64 if question.libvirt.is_some_and(|v| v >= PAUTH_SINCE) => {
            let cost = if signs_pointers_cheaply(*qemu, machine) {
                "takes a sixth of the boot, even by impdef"
            } else {
                "would be QARMA5, which more than doubles the boot time"
            };
            Choice::new(
                CpuModel::MaximumWithoutPointerAuthentication,
                format!("{place}: pointer authentication {cost}"),
            )
        }
        VmArchitecture::Aarch64 if signs_pointers_cheaply(*qemu, machine) => Choice::new(
            CpuModel::Maximum,
            format!(
                "{place}: impdef pointer authentication is the default, and libvirt cannot leave it out before {PAUTH_SINCE}"
            ),
        ),
        VmArchitecture::Aarch64 => Choice {
            global: Some(IMPDEF),
            ..Choice::new(
                CpuModel::Maximum,
                format!(
                    "{place}: pointer authentication would be QARMA5, which more than doubles the boot time, and libvirt cannot leave it out before {PAUTH_SINCE}"
                ),
            )
        },
    }
}

fn everything_emulated(question: &Question<'_>) -> Choice {
    let Question { qemu, machine, .. } = question;
    let cheap = question.capabilities.architecture == VmArchitecture::X86_64
        || signs_pointers_cheaply(*qemu, machine);
    if cheap {
        return Choice::new(CpuModel::Maximum, "asked for");
    }
    Choice {
        global: Some(IMPDEF),
        ..Choice::new(
            CpuModel::Maximum,
            format!(
                "asked for; QEMU {qemu} on {machine} would sign pointers by QARMA5, and only QEMU's own command line can say impdef"
            ),
        )
    }
}

fn named(question: &Question<'_>, model: &str, reason: &str) -> Result<Choice, Violation> {
    let models = &question.capabilities.cpu_models;
    if !models.iter().any(|m| m == model) {
        let emulator = question.capabilities.emulator.display();
        let expected = format!("a model that {emulator} has: {}", models.join(", "));
        return Err(
            Violation::new("cpu", model, expected).fix("set cpu to one of those, or to fastest")
        );
    }
    let slow = question.accelerator == Accelerator::Tcg && QARMA_MODELS.contains(&model);
    Ok(Choice {
        warning: slow.then(|| {
            format!(
                "CPU {model} signs pointers by QARMA5, which more than doubles an emulated boot"
            )
        }),
        ..Choice::new(CpuModel::Named(model.to_owned()), reason)
    })
}

/// Whether CPU `max` of this QEMU on this machine type uses the implementation-defined algorithm.
fn signs_pointers_cheaply(qemu: QemuVersion, machine: &str) -> bool {
    let version = machine.strip_prefix("virt-");
    let version = version.and_then(|v| v.parse::<QemuVersion>().ok());
    qemu >= QemuVersion::IMPDEF_PAUTH && version.is_some_and(|v| v >= QemuVersion::IMPDEF_PAUTH)
}

#[cfg(test)]
mod tests {
    use super::signs_pointers_cheaply;
    use crate::modules::host::QemuVersion;

    #[test]
    fn impdef_is_the_default_only_from_10_0_on_both_counts() {
        let table = [
            ((10, 0), "virt-10.0", true),
            ((10, 2), "virt-10.1", true),
            ((11, 0), "virt-11.0", true),
            ((10, 0), "virt-9.2", false),
            ((9, 2), "virt-9.2", false),
            ((7, 2), "virt-7.2", false),
            ((10, 0), "virt", false),
            ((10, 0), "virt-rhel10.0.0", false),
        ];
        for ((major, minor), machine, expected) in table {
            let qemu = QemuVersion { major, minor };
            assert_eq!(
                signs_pointers_cheaply(qemu, machine),
                expected,
                "{qemu} {machine}"
            );
        }
    }
}
