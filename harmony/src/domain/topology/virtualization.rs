//! The capability to run virtual machines, and what a caller says of one.

mod architecture;
mod host;
mod identity;
mod machine;
mod network;
mod storage;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use architecture::{UnknownArchitecture, VmArchitecture};
pub use host::{
    Ensured, GuestAddress, OnChange, StoppedWhileWaiting, VirtualMachineHost, VmStatus,
    while_running,
};
pub use identity::{IdentityMismatch, MachineIdentity};
pub use machine::{
    Accelerator, AcceleratorChoice, ConsoleLog, CpuProfile, FirmwareChoice, FirstBoot, KernelBoot,
    UnknownChoice,
};
pub use network::{NetworkCard, NetworkHandle, PortForward, Protocol, UnknownNetwork, VmNetwork};
pub use storage::{DataDisk, DiskHandle, DiskSource, ShareDriver, SharedDirectory};

/// What virtual machine the caller wants.
///
/// This is the wire type: every field has a default and unknown fields are refused. It is checked when
/// a host turns it into its own configuration. What is left to a default is resolved from what the host
/// can do, and the resolution says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VirtualMachineSpec {
    /// The domain's name: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit.
    pub name: String,
    /// The guest's instruction set.
    pub architecture: VmArchitecture,
    /// Virtual CPUs, 1 to 255; a machine with an interrupt controller GICv2 has 8 at most.
    pub vcpus: u32,
    /// Memory in MiB, at least 128, and no more than the host has.
    pub memory_mib: u64,
    /// Whether `memory_mib` may be more than the host has.
    pub memory_overcommit: bool,
    /// The disk's size in GiB as the guest sees it, 1 to 65536. It is allocated as it is written.
    pub disk_gib: u64,
    /// The disk image that the guest's overlay is backed by: qcow2 or raw. It is never written to.
    pub image: Option<PathBuf>,
    /// Network cards, 8 at most. The guest is reached through the first; with none it is unconnected.
    pub networks: Vec<NetworkCard>,
    /// Disks beside the system disk, 63 at most, each with a tag of its own.
    pub disks: Vec<DataDisk>,
    /// Directories of the host that the guest can mount, 8 at most, each with a tag of its own.
    pub shares: Vec<SharedDirectory>,
    /// Which accelerator to use.
    pub accelerator: AcceleratorChoice,
    /// Which CPU the guest sees.
    pub cpu: CpuProfile,
    /// The versioned machine type, for example `virt-9.2`; the newest that the host has unless said.
    pub machine: Option<String>,
    /// What the guest's CPU runs first.
    pub firmware: FirmwareChoice,
    /// A kernel from outside instead of the disk's boot loader.
    pub kernel: Option<KernelBoot>,
    /// Where the serial console's output goes.
    pub console: ConsoleLog,
    /// The machine's UUID; a random one unless said.
    pub uuid: Option<Uuid>,
    /// The machine's serial number, 1 to 64 letters, digits, `-`, `_` or `.`; derived from the UUID
    /// unless said.
    pub serial: Option<String>,
    /// What cloud-init sets up at the first boot; without it the guest gets no seed.
    pub first_boot: Option<FirstBoot>,
}

impl Default for VirtualMachineSpec {
    /// An x86_64 guest with 2 vCPUs, 1024 MiB, 8 GiB and user networking, and neither name nor image.
    fn default() -> Self {
        Self {
            name: String::new(),
            architecture: VmArchitecture::default(),
            vcpus: 2,
            memory_mib: 1024,
            memory_overcommit: false,
            disk_gib: 8,
            image: None,
            networks: vec![NetworkCard::default()],
            disks: Vec::new(),
            shares: Vec::new(),
            accelerator: AcceleratorChoice::default(),
            cpu: CpuProfile::default(),
            machine: None,
            firmware: FirmwareChoice::default(),
            kernel: None,
            console: ConsoleLog::default(),
            uuid: None,
            serial: None,
            first_boot: None,
        }
    }
}

impl VirtualMachineSpec {
    /// An arm64 guest, otherwise with the defaults.
    pub fn new_aarch64(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            architecture: VmArchitecture::Aarch64,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{VirtualMachineSpec, VmArchitecture, VmNetwork};

    #[test]
    fn callers_who_never_heard_of_architectures_keep_x86_64() {
        let spec = VirtualMachineSpec {
            name: "old".to_owned(),
            ..Default::default()
        };
        assert_eq!(spec.architecture, VmArchitecture::X86_64);
        let wire: VirtualMachineSpec =
            serde_json::from_str(r#"{"name":"old"}"#).expect("all other fields have defaults");
        assert_eq!(wire, spec);
    }

    #[test]
    fn new_aarch64_differs_only_in_the_architecture() {
        let arm = VirtualMachineSpec::new_aarch64("pi");
        assert_eq!(
            arm,
            VirtualMachineSpec {
                name: "pi".to_owned(),
                architecture: VmArchitecture::Aarch64,
                ..Default::default()
            }
        );
    }

    #[test]
    fn spec_round_trips_and_refuses_unknown_fields() {
        let lab = VmNetwork::Nat {
            network: "lab".to_owned(),
        };
        let spec = VirtualMachineSpec {
            networks: vec![lab.into()],
            ..VirtualMachineSpec::new_aarch64("pi")
        };
        let text = serde_json::to_string(&spec).expect("serialisable");
        assert_eq!(
            serde_json::from_str::<VirtualMachineSpec>(&text).expect("round trip"),
            spec
        );
        let error = serde_json::from_str::<VirtualMachineSpec>(r#"{"name":"x","memroy_mib":1}"#)
            .expect_err("a typing error must not be swallowed");
        assert!(error.to_string().contains("memroy_mib"), "{error}");
    }

    #[test]
    fn names_of_architectures() {
        let table = [
            ("x86_64", Ok(VmArchitecture::X86_64)),
            ("amd64", Ok(VmArchitecture::X86_64)),
            ("aarch64", Ok(VmArchitecture::Aarch64)),
            ("arm64", Ok(VmArchitecture::Aarch64)),
            ("riscv64", Err("riscv64")),
            ("", Err("")),
        ];
        for (text, expected) in table {
            let got = text.parse::<VmArchitecture>();
            assert_eq!(got.as_ref().ok(), expected.as_ref().ok(), "{text}");
            assert_eq!(
                got.err().map(|e| e.value),
                expected.err().map(str::to_owned)
            );
        }
    }
}
