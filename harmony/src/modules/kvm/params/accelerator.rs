//! KVM or TCG.

use crate::domain::topology::virtualization::{
    Accelerator, AcceleratorChoice, CpuProfile, VmArchitecture,
};
use crate::modules::host::{HostCpu, HostFacts, KvmProof};
use crate::modules::kvm::error::KvmError;

/// What was chosen, why, and whether that is worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorDecision {
    /// How the guest's instructions are executed.
    pub accelerator: Accelerator,
    /// Why.
    pub reason: String,
    /// What a user of this host would not have expected.
    pub warning: Option<String>,
}

impl AcceleratorDecision {
    fn new(accelerator: Accelerator, reason: impl Into<String>) -> Self {
        Self {
            accelerator,
            reason: reason.into(),
            warning: None,
        }
    }
}

/// Chooses: KVM only for a guest of the host's own architecture and a CPU that KVM can show, and only when
/// a test guest was proven to execute.
///
/// # Errors
/// [`KvmError::NoKvm`] when KVM was asked for and cannot be had.
pub fn choose_accelerator(
    guest: VmArchitecture,
    asked: AcceleratorChoice,
    cpu: &CpuProfile,
    host: &HostFacts,
) -> Result<AcceleratorDecision, KvmError> {
    type Choice = AcceleratorDecision;
    match (asked, obstacle(guest, cpu, host)) {
        (AcceleratorChoice::Tcg, _) => Ok(Choice::new(Accelerator::Tcg, "asked for")),
        (AcceleratorChoice::Kvm, None) => Ok(Choice::new(
            Accelerator::Kvm,
            "asked for, and a test guest executed",
        )),
        (AcceleratorChoice::Kvm, Some(Obstacle { reason, .. })) => Err(KvmError::NoKvm {
            architecture: guest,
            reason,
        }),
        (AcceleratorChoice::Auto, None) => Ok(Choice::new(
            Accelerator::Kvm,
            "a test guest executed under KVM",
        )),
        (AcceleratorChoice::Auto, Some(Obstacle { reason, surprising })) => Ok(Choice {
            warning: surprising
                .then(|| format!("KVM is here but does not work, so TCG is used: {reason}")),
            ..Choice::new(Accelerator::Tcg, reason)
        }),
    }
}

/// Why KVM cannot run this guest.
struct Obstacle {
    reason: String,
    /// Whether a user of this host would have expected KVM.
    surprising: bool,
}

fn obstacle(guest: VmArchitecture, cpu: &CpuProfile, host: &HostFacts) -> Option<Obstacle> {
    let expected = |reason: String| Obstacle {
        reason,
        surprising: false,
    };
    if host.architecture != Some(guest) {
        let own = host.architecture.map_or("of another kind", |a| a.as_str());
        return Some(expected(format!(
            "the host is {own}, and KVM runs guests of the host's own architecture only"
        )));
    }
    match &host.kvm {
        KvmProof::Absent { reason } => return Some(expected(reason.clone())),
        KvmProof::Broken { reason } => {
            return Some(Obstacle {
                reason: reason.clone(),
                surprising: true,
            });
        }
        KvmProof::Executes => {}
    }
    if host.capabilities(guest, Accelerator::Kvm).is_none() {
        return Some(Obstacle {
            reason: format!("libvirt offers no {guest} guests under KVM"),
            surprising: true,
        });
    }
    match cpu {
        CpuProfile::Max => Some(expected(
            "CPU max is everything that QEMU emulates, and KVM shows the host's own".to_owned(),
        )),
        CpuProfile::RaspberryPi5 if host.cpu.model != HostCpu::CORTEX_A76 => Some(expected(
            "KVM shows the guest the host's own core, which is no Cortex-A76".to_owned(),
        )),
        _ => None,
    }
}
