//! The integration tests of the library: one binary.

mod firmware_trees;
#[cfg(feature = "kvm")]
mod libvirt_domains;
