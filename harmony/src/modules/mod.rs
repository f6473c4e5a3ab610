//! Implementations: one module for each thing of the outside world.

pub mod cloud_init;
pub mod host;
pub mod image;
pub mod image_in_guest;
pub mod iot;
pub mod kvm;
pub mod linux;
pub mod qemu;
pub mod ssh;
