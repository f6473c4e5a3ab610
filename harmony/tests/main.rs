//! The integration tests of the library: one binary.

mod domain_xml;
mod firmware_trees;
#[cfg(feature = "kvm")]
mod libvirt_domains;
