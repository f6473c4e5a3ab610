//! Virtual machines on libvirt and QEMU.
//!
//! ```text
//! VirtualMachineSpec --check--> VmConfig --+ HostFacts--> DomainXmlParams --> domain XML
//!                                                                               |
//!                    Planned --define--> Defined --start--> Running <-----------+
//! ```
//!
//! Everything up to the XML is pure. `libvirt` alone imports the `virt` crate (feature `kvm`).

mod changes;
pub mod conformance;
mod element;
pub mod error;
mod files;
pub mod firmware;
mod firmware_selection;
pub mod nvram;
pub mod params;
pub mod placement;
pub mod preview;
pub mod qemu_build;
pub mod record;
pub mod types;
mod violation;
pub mod xml;

#[cfg(feature = "kvm")]
mod bringup;
#[cfg(feature = "kvm")]
pub mod checkpoint;
#[cfg(feature = "kvm")]
pub mod connection;
#[cfg(feature = "kvm")]
mod connection_choice;
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
mod network;
#[cfg(feature = "kvm")]
mod planning;
#[cfg(feature = "kvm")]
mod reach;
#[cfg(feature = "kvm")]
mod recorded_firmware;
#[cfg(feature = "kvm")]
pub mod score;
#[cfg(feature = "kvm")]
pub mod topology;

pub use error::KvmError;
pub(crate) use files::SYSTEM_POOL;
pub use firmware::{AarchFirmware, UefiFirmware, discover_aarch64_firmware};
pub use types::{MacAddress, SerialNumber, VmConfig, VmConfigBuilder, VmName};

/// The guide's code is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "kvm"))]
#[doc = include_str!("../../../../docs/guides/the-machine.md")]
struct Guide;
