//! The virtual IoT device: its assets, its preflight, its agent.

pub mod assets;
pub mod device;
pub mod platform;
pub mod preflight;
#[cfg(feature = "kvm")]
pub mod virtual_device;
#[cfg(feature = "kvm")]
pub mod warm;
