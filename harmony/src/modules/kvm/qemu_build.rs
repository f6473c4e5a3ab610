//! Guests on a QEMU build from the store instead of the host's own.
//!
//! A build takes the host's QEMU's place in the facts: emulator, version, what libvirt says of it, firmware.
//! The resolution is then the same as for any host.

use std::path::PathBuf;

use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::host::{DomainCapabilities, Emulator, HostFacts};
use crate::modules::qemu::ResolvedQemu;

use crate::modules::host::firmware::{FirmwareCandidate, candidate_of_pair};

/// The host with this build for guests of the build's architecture. `capabilities` is what libvirt says of
/// the build's emulator. Looks at the sizes of the build's firmware, and at nothing else.
pub fn host_with_build(
    host: HostFacts,
    build: &ResolvedQemu,
    capabilities: Vec<DomainCapabilities>,
) -> HostFacts {
    let guest = build.manifest.arch();
    host.with_qemu(guest, emulator(build), capabilities, firmware(build, guest))
}

/// The build's emulator, as a host has one.
fn emulator(build: &ResolvedQemu) -> Emulator {
    Emulator {
        path: build.emulator().to_owned(),
        version: build.manifest.qemu_version().qemu_version(),
    }
}

fn firmware(build: &ResolvedQemu, guest: VmArchitecture) -> Vec<FirmwareCandidate> {
    let pair = build.firmware(guest).into_iter();
    let canonical = |path: PathBuf| path.canonicalize().unwrap_or(path);
    pair.map(|pair| candidate_of_pair(guest, &canonical(pair.code), &canonical(pair.vars)))
        .collect()
}

#[cfg(feature = "kvm")]
impl super::topology::KvmVirtualMachineHost {
    /// This host with a build for guests of the build's architecture. With `qemu:///system` libvirt's QEMU user
    /// must be able to read the build.
    ///
    /// # Errors
    /// When libvirt does not answer, or cannot use the build's emulator.
    pub async fn with_build(self, build: &ResolvedQemu) -> Result<Self, super::KvmError> {
        let guest = build.manifest.arch();
        let emulator = emulator(build);
        let facts = self.facts().await.clone();
        let asked = self
            .ask_libvirt(vec![(guest, emulator.path.clone())], facts.architecture)
            .await?;
        let capabilities = match asked {
            crate::modules::host::LibvirtFacts::Answers { capabilities, .. } => capabilities,
            _ => Vec::new(),
        };
        if capabilities.is_empty() {
            return Err(super::KvmError::BrokenEmulator {
                said: "libvirt cannot use it".to_owned(),
                path: emulator.path,
            });
        }
        let facts = host_with_build(facts, build, capabilities);
        Ok(self.with_facts(facts))
    }
}
