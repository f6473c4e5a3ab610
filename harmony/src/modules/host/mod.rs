//! What this host is and has: read once, then passed around as a value.

mod cache;
mod capabilities;
pub mod distribution;
mod facts;
pub mod firmware;
pub mod kvm_probe;
pub mod qemu;
mod read;
mod version;

pub(crate) use cache::cache_directory;
pub use capabilities::{DomainCapabilities, NotUnderstood};
pub use distribution::{Distribution, HostPackage};
pub(crate) use facts::older_than_mttcg;
pub use facts::{FreeSpace, HostCpu, HostDistribution, HostFacts, HostPrograms, LibvirtFacts};
pub use kvm_probe::{KvmProof, prove_kvm};
pub use qemu::{Emulator, EmulatorFact, QemuVersion, find_program};
#[cfg(feature = "kvm")]
pub(crate) use read::cpu_features;
pub use version::{LibvirtVersion, NotAVersion};
