//! QEMU builds that harmony brings along: what each is for, where it is kept, and how it is started.

pub mod profile;

pub use profile::{
    GuestOs, ProfileError, QemuAccelerator, QemuProfile, Selection, WorkloadMode, select_profile,
};
