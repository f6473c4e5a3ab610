//! What most programs import: `use harmony::prelude::*;`.
//!
//! [`harmony::Result`](crate::Result) is not among it, as it would hide the standard library's.

pub use crate::domain::error::ErrorKind;
pub use crate::domain::interpret::Change;
pub use crate::domain::topology::Topology;
pub use crate::domain::topology::linux_host::{HostCommand, HostFile, HostUnit, LinuxHost};
pub use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};
pub use crate::domain::topology::virtualization::{
    AcceleratorChoice, CpuProfile, DataDisk, DiskSource, FirmwareChoice, NetworkCard, OnChange,
    VirtualMachineHost, VirtualMachineSpec, VmNetwork, VmStatus,
};
#[cfg(feature = "kvm")]
pub use crate::front::{Host, Login, Output, Vm, VmBuilder};
pub use crate::modules::image::ImageSource;
