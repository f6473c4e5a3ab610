//! The image directory: files that are named by their content, and what is known of each.
//!
//! A verified file is `<algorithm>-<digest>.<extension>`, read-only, with a record beside it
//! (`<file>.json`): where it comes from, when, how large it is, and how it looked when it was verified. What
//! looks different since is hashed again before it is used.

mod files;
mod lock;
pub mod record;

pub(super) use files::{
    SPACE_MARGIN, ensure_dir, ensure_space, io_error, is_finished, part_note_path, part_path,
    publish, replace_file, set_aside, write_error,
};
pub(super) use lock::StoreLock;
