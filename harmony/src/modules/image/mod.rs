//! Disk images: named, fetched, verified, built.
//!
//! [`catalog`] pins published images, [`fetch`] brings one to this host verified, [`debian`] builds one
//! from the distribution's packages where no image host can be reached. [`source`] is what users write.

mod bios_boot;
pub mod build;
pub mod catalog;
mod catalog_name;
pub mod debian;
pub mod digest;
mod disk;
mod disk_format;
pub mod error;
pub mod fetch;
pub mod format;
mod host_program;
pub mod inspect;
mod known_digests;
pub mod packing;
pub mod progress;
mod published_name;
pub mod recipe;
pub mod source;
pub mod store;
#[cfg(test)]
pub(crate) mod test_images;
pub mod tool;
mod transfer;

pub use digest::{ImageDigest, Sha256Digest, Sha512Digest};
pub use error::ImageError;
pub use known_digests::known_digest;
pub use source::{ImageSource, PinnedUrl};
