//! What this host is and has: read once, then passed around as a value.

pub mod distribution;
pub mod kvm_probe;
pub mod qemu;

pub use distribution::{Distribution, HostPackage};
pub use kvm_probe::{KvmProof, prove_kvm};
pub use qemu::{Emulator, QemuVersion, find_emulator, find_program};

use std::collections::BTreeMap;

use crate::domain::topology::virtualization::VmArchitecture;

/// What the resolution of a virtual machine depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The host's own architecture, when guests of it are supported.
    pub architecture: Option<VmArchitecture>,
    /// The system emulators on `PATH` that could be run.
    pub emulators: BTreeMap<VmArchitecture, Emulator>,
    /// Whether a guest of the host's own architecture executes under KVM.
    pub kvm: KvmProof,
}

impl HostFacts {
    /// Reads them: looks up `PATH`, asks each emulator for its version, and proves KVM.
    pub async fn read() -> Self {
        let architecture = VmArchitecture::of_host();
        let mut emulators = BTreeMap::new();
        for guest in VmArchitecture::ALL {
            if let Ok(emulator) = find_emulator(guest).await {
                emulators.insert(guest, emulator);
            }
        }
        let kvm = match architecture.and_then(|own| Some((own, emulators.get(&own)?))) {
            Some((own, emulator)) => prove_kvm(own, &emulator.path).await,
            None => KvmProof::Absent {
                reason: "no emulator for the host's own architecture".to_owned(),
            },
        };
        Self {
            architecture,
            emulators,
            kvm,
        }
    }
}
