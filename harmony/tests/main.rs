//! The integration tests of the library: one binary.

mod architecture;
#[cfg(feature = "kvm")]
mod bootable;
mod domain_documents;
mod firmware_trees;
#[cfg(feature = "kvm")]
mod front_door;
mod hosts;
#[cfg(feature = "kvm")]
mod libvirt_domains;
mod properties;
#[cfg(feature = "kvm")]
mod qemu_build;
mod qemu_store;
mod refusals;
