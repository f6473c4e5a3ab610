//! QEMU builds that harmony brings along: what each is for, where it is kept, and how it is started.
//!
//! ```text
//! WorkloadMode + guest + KvmProof --select_profile--> QemuProfile
//! a directory with bin/, lib/, firmware/ --QemuStore::ingest--> objects and a Manifest
//! QemuProfile --QemuStore::resolve--> ResolvedQemu: a verified tree of hard links
//!   -> emulator() and firmware(), for libvirt
//!   -> QemuCommand -> a systemd unit, for hosts without libvirt
//! ```

mod assemble;
pub mod command;
pub mod digest;
pub mod error;
pub mod ingest;
mod malformed;
pub mod manifest;
pub mod name;
mod objects;
pub mod path;
pub mod profile;
pub mod resolved;
mod scan;
pub mod store;
pub mod unit;
mod wrapper;

pub use command::{CommandError, QemuCommand, QemuDisk, QemuDiskFormat, QemuMachine};
pub use error::StoreError;
pub use ingest::IngestOptions;
pub use malformed::Malformed;
pub use manifest::Manifest;
pub use name::{BuildHost, BuildName, BuildVersion, Timestamp};
pub use profile::{GuestOs, ProfileError, QemuProfile, Selection, WorkloadMode, select_profile};
pub use resolved::{FirmwarePair, ResolvedQemu};
pub use store::QemuStore;
pub use unit::systemd_unit;

/// The guide's code is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guides/qemu-profiles.md")]
struct Guide;
