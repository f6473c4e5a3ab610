//! Virtual machines on libvirt and QEMU.
//!
//! ```text
//! VirtualMachineSpec --check--> VmConfig --+ HostFacts--> DomainXmlParams --> domain XML
//!                                                                               |
//!                    Planned --define--> Defined --start--> Running <-----------+
//! ```
//!
//! Everything up to the XML is pure. `libvirt` alone imports the `virt` crate (feature `kvm`).

mod element;
pub mod error;
mod files;
pub mod firmware;
pub mod nvram;
pub mod params;
pub mod placement;
pub mod preview;
pub mod qemu_build;
pub mod record;
pub mod types;
pub mod xml;

#[cfg(feature = "kvm")]
mod bringup;
#[cfg(feature = "kvm")]
pub mod checkpoint;
#[cfg(feature = "kvm")]
mod conformance;
#[cfg(feature = "kvm")]
pub mod connection;
#[cfg(feature = "kvm")]
pub(crate) mod console;
#[cfg(feature = "kvm")]
mod disk;
#[cfg(feature = "kvm")]
mod floor_errors;
#[cfg(feature = "kvm")]
pub mod guest_agent;
#[cfg(feature = "kvm")]
mod hotplug;
#[cfg(feature = "kvm")]
mod layout;
#[cfg(feature = "kvm")]
mod libvirt;
#[cfg(feature = "kvm")]
mod lifecycle;
#[cfg(feature = "kvm")]
mod planning;
#[cfg(feature = "kvm")]
mod reach;
#[cfg(feature = "kvm")]
pub mod score;
#[cfg(feature = "kvm")]
pub mod topology;

pub use error::KvmError;
pub use firmware::{AarchFirmware, UefiFirmware, discover_aarch64_firmware};
pub use types::{MacAddress, SerialNumber, VmConfig, VmConfigBuilder, VmName};

/// The guide's code is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "kvm"))]
#[doc = include_str!("../../../../docs/guides/the-machine.md")]
struct Guide;
