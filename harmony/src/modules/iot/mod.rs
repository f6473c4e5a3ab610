//! The virtual IoT device: its assets, its preflight, its agent.

pub mod assets;
#[cfg(feature = "kvm")]
pub mod boot;
pub mod device;
#[cfg(feature = "kvm")]
pub mod fleet;
#[cfg(feature = "kvm")]
pub(crate) mod login;
pub mod operator;
mod own_files;
pub mod platform;
pub mod preflight;
#[cfg(feature = "kvm")]
pub mod virtual_device;
#[cfg(feature = "kvm")]
mod warm;

#[cfg(feature = "kvm")]
pub use login::NoLogin;

/// The guide's code is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "kvm"))]
#[doc = include_str!("../../../../docs/guides/ready-in-seconds.md")]
struct Guide;
