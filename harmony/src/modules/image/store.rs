//! The image directory: files that are named by their content, and what is known of each.
//!
//! A verified file is `<algorithm>-<digest>.<extension>`, read-only, with a record beside it
//! (`<file>.json`): where it comes from, when, how large it is, and how it looked when it was verified. What
//! looks different since is hashed again before it is used.

mod contents;
mod files;
mod lock;
pub mod place;
mod prune;
pub mod record;
mod users;

use std::path::Path;

use super::digest::ImageDigest;
use super::error::ImageError;
use record::{ImageRecord, Source};

pub use contents::{StoredImage, Verdict, list, verify};
pub use prune::{Fate, Kind, Places, Pruning};
pub use users::Overlays;
#[cfg(all(test, feature = "kvm"))]
pub(crate) use users::tests::qcow2;

pub(crate) use files::io_error;
pub(super) use files::{
    SPACE_MARGIN, ensure_dir, ensure_space, is_finished, part_note_path, part_path, publish,
    replace_file, set_aside, write_error,
};
pub(super) use lock::StoreLock;

/// Makes `from` the verified file `path` of the store. The record comes first: a file never lacks one, and a
/// record without its file is of no consequence.
pub(super) fn keep(
    from: &Path,
    path: &Path,
    digest: ImageDigest,
    source: Source,
) -> Result<(), ImageError> {
    ImageRecord::of_file(from, digest, source)?.save(path)?;
    publish(from, path)
}
