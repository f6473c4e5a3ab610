//! NoCloud seeds for cloud-init: a small FAT image labelled `cidata` with three files. The same is there as plain files
//! below `harmony/`, for images that set themselves up without cloud-init, like the default recipe's.
//!
//! The documents are serialised as JSON, which is YAML, so no value can break out of its place; of the plain files each has one value, or a line for each key, which a
//! checked spec keeps free of line breaks. The
//! image holds the guest's private host key: it is made readable by its owner alone.

mod documents;
mod plain;
mod seed;

pub use documents::{SeedHostKey, SeedInputs};
pub use seed::{SeedError, write_nocloud_seed, write_seed};
