//! What UEFI firmware a host has, for guests of both architectures.
//!
//! ```text
//! descriptors in the search directories --+
//!                                         +--> candidates, in the order to try them
//! table of known paths -------------------+
//! ```
//!
//! QEMU's interop rule comes first: descriptors are merged by file name across the directories, a name
//! in an earlier directory masks the same name in a later one, an empty file masks without replacing,
//! and the rest is walked in name order. Then a table of known paths, whose entries are candidates of
//! the same shape. Nothing is judged here, and nothing chosen: a broken descriptor is a candidate like any
//! other.

mod candidate;
mod descriptor;
mod known;
mod read;

pub use candidate::{
    CandidateContent, DescribedFirmware, FirmwareCandidate, FirmwareFile, FirmwareMapping,
    FirmwareTarget, FlashFormat, FlashState,
};
pub(crate) use read::candidate_of_pair;
#[cfg(feature = "kvm")]
pub(crate) use read::look_at_flash;
pub use read::{firmware_directories, read_firmware_candidates, read_firmware_candidates_below};

#[cfg(test)]
mod tests;
