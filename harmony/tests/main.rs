//! The integration tests of the library: one binary.

mod domain_xml;
#[cfg(feature = "kvm")]
mod libvirt_domains;
