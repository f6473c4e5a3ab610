//! The capability to run virtual machines.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Topology;
use crate::domain::error::ExecutorError;

/// The instruction set of a guest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum VmArchitecture {
    /// 64-bit x86, also called amd64.
    #[default]
    #[serde(alias = "amd64", alias = "X86_64")]
    X86_64,
    /// 64-bit Arm, also called arm64.
    #[serde(alias = "arm64", alias = "Aarch64")]
    Aarch64,
}

impl VmArchitecture {
    /// Every architecture, in a fixed order.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The name that Linux (`uname -m`), QEMU and libvirt use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name that Debian and Ubuntu use.
    pub fn debian_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The architecture of this process' host, when it is one of ours.
    pub fn of_host() -> Option<Self> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl fmt::Display for VmArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no architecture of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown architecture '{value}' (expected x86_64 or aarch64)")]
pub struct UnknownArchitecture {
    /// What was given.
    pub value: String,
}

impl FromStr for VmArchitecture {
    type Err = UnknownArchitecture;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "x86_64" | "amd64" => Ok(Self::X86_64),
            "aarch64" | "arm64" => Ok(Self::Aarch64),
            _ => Err(UnknownArchitecture {
                value: value.to_owned(),
            }),
        }
    }
}

/// Which accelerator the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where a guest of this architecture is proven to execute under it, else TCG.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// Emulation, also where KVM would work.
    Tcg,
}

/// How a guest reaches the network, and how its host reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum VmNetwork {
    /// User networking through passt: SSH on a forwarded port of 127.0.0.1. Needs no root and no
    /// bridge; the guest reaches the host's loopback at its default gateway's address.
    #[default]
    User,
    /// A NAT network of libvirt; the guest's address comes from its lease.
    Nat {
        /// The libvirt network's name, usually `default`.
        network: String,
    },
    /// An existing bridge of the host.
    Bridge {
        /// The bridge's interface name.
        name: String,
    },
}

impl fmt::Display for VmNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Nat { network } => write!(f, "nat:{network}"),
            Self::Bridge { name } => write!(f, "bridge:{name}"),
        }
    }
}

/// A text that names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown network '{value}' (expected user, nat, nat:NETWORK or bridge:NAME)")]
pub struct UnknownNetwork {
    /// What was given.
    pub value: String,
}

impl FromStr for VmNetwork {
    type Err = UnknownNetwork;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownNetwork {
            value: value.to_owned(),
        };
        match value.split_once(':') {
            None if value == "user" => Ok(Self::User),
            None if value == "nat" => Ok(Self::Nat {
                network: "default".to_owned(),
            }),
            Some(("nat", network)) if !network.is_empty() => Ok(Self::Nat {
                network: network.to_owned(),
            }),
            Some(("bridge", name)) if !name.is_empty() => Ok(Self::Bridge {
                name: name.to_owned(),
            }),
            _ => Err(unknown()),
        }
    }
}

/// What cloud-init sets up at the first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstBoot {
    /// The login user, who may use sudo without a password.
    pub user: String,
    /// Public keys, in OpenSSH's one-line form, that may log in as that user.
    pub authorized_keys: Vec<String>,
}

/// What virtual machine the caller wants.
///
/// This is the wire type: every field has a default and unknown fields are refused. It is checked when
/// a host turns it into its own configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VirtualMachineSpec {
    /// The domain's name: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit.
    pub name: String,
    /// The guest's instruction set.
    pub architecture: VmArchitecture,
    /// Virtual CPUs, 1 to 255.
    pub vcpus: u32,
    /// Memory in MiB, at least 128.
    pub memory_mib: u64,
    /// The disk's size in GiB as the guest sees it, 1 to 65536. It is allocated as it is written.
    pub disk_gib: u64,
    /// The disk image that the guest's overlay is backed by: qcow2 or raw. It is never written to.
    pub image: Option<PathBuf>,
    /// How the guest is connected.
    pub network: VmNetwork,
    /// Which accelerator to use.
    pub accelerator: AcceleratorChoice,
    /// What cloud-init sets up at the first boot; without it the guest gets no seed.
    pub first_boot: Option<FirstBoot>,
}

impl Default for VirtualMachineSpec {
    /// An x86_64 guest with 2 vCPUs, 1024 MiB and 8 GiB, and neither name nor image.
    fn default() -> Self {
        Self {
            name: String::new(),
            architecture: VmArchitecture::default(),
            vcpus: 2,
            memory_mib: 1024,
            disk_gib: 8,
            image: None,
            network: VmNetwork::default(),
            accelerator: AcceleratorChoice::default(),
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

/// What to do when a VM of that name exists and differs from the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// Report the differences as an error and touch nothing.
    #[default]
    Refuse,
    /// Destroy the VM with its disk and make it anew.
    Replace,
}

/// What ensuring a VM did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ensured {
    /// It existed as specified and was running.
    Unchanged,
    /// It existed as specified and was started.
    Started,
    /// It was made and started.
    Created,
    /// It differed, was destroyed, made anew and started.
    Replaced,
}

/// The state of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum VmStatus {
    /// There is no VM of that name.
    Absent,
    /// It is defined and off.
    Off,
    /// It executes.
    Running,
    /// It is stopped while on; the reason is the hypervisor's.
    Paused(String),
    /// It died; the reason is the hypervisor's.
    Crashed(String),
}

impl fmt::Display for VmStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Off => f.write_str("off"),
            Self::Running => f.write_str("running"),
            Self::Paused(reason) => write!(f, "paused ({reason})"),
            Self::Crashed(reason) => write!(f, "crashed ({reason})"),
        }
    }
}

/// Where a guest's SSH answers, seen from its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestAddress {
    /// The address to connect to; 127.0.0.1 for a forwarded port.
    pub ip: IpAddr,
    /// The TCP port of SSH.
    pub ssh_port: u16,
    /// The guest's SSH host key in OpenSSH's one-line form, known before the first connection; none
    /// for a VM without a first boot.
    pub host_key: Option<String>,
}

/// A host that can run virtual machines.
#[async_trait]
pub trait VirtualMachineHost: Topology {
    /// Makes the VM exist as specified, and run.
    ///
    /// # Guarantees
    /// The same spec again changes nothing. A VM that this library did not make is never touched. A
    /// failure while making it leaves nothing behind.
    ///
    /// # Errors
    /// A spec that is wrong or that this host cannot run; a VM that differs, unless `on_change` is
    /// [`OnChange::Replace`]; a name that is taken by someone else's VM; a failure of the host.
    async fn ensure_vm(
        &self,
        spec: &VirtualMachineSpec,
        on_change: OnChange,
    ) -> Result<Ensured, ExecutorError>;

    /// Powers the VM on; nothing to do when it runs.
    async fn start_vm(&self, name: &str) -> Result<(), ExecutorError>;

    /// Asks the guest to shut down and waits until it is off.
    ///
    /// # Errors
    /// When the guest is not off within `timeout`; it is left running.
    async fn stop_vm(&self, name: &str, timeout: Duration) -> Result<(), ExecutorError>;

    /// Cuts the power and turns it on again: what was not on disk is lost, as on a real device.
    async fn power_cycle_vm(&self, name: &str) -> Result<(), ExecutorError>;

    /// Cuts the power and removes the VM with everything that was made for it. Returns whether there
    /// was one.
    async fn destroy_vm(&self, name: &str) -> Result<bool, ExecutorError>;

    /// The VM's state.
    async fn vm_status(&self, name: &str) -> Result<VmStatus, ExecutorError>;

    /// Waits until the guest's SSH server answers, and returns where. `timeout` bounds the wait;
    /// [`boot_timeout`](Self::boot_timeout) is the bound that fits the guest's accelerator.
    ///
    /// # Errors
    /// At once when the VM is off, paused or crashed; at the bound with the last thing seen.
    async fn wait_for_address(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<GuestAddress, ExecutorError>;

    /// How long this guest may take to boot: longer when it is emulated.
    async fn boot_timeout(&self, name: &str) -> Result<Duration, ExecutorError>;

    /// What can be said about the VM when something went wrong: state, addresses, the console's tail.
    async fn diagnose_vm(&self, name: &str) -> String;
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
        let spec = VirtualMachineSpec {
            network: VmNetwork::Nat {
                network: "lab".to_owned(),
            },
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
    fn names_of_architectures_and_networks() {
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
        for text in ["user", "nat:default", "nat:lab", "bridge:br0"] {
            assert_eq!(
                text.parse::<VmNetwork>().expect(text).to_string(),
                text,
                "round trip"
            );
        }
        for text in ["", "nat:", "bridge", "bridge:", "tap:x", "user:x"] {
            let error = text.parse::<VmNetwork>().expect_err(text);
            assert_eq!(error.value, text);
        }
    }
}
