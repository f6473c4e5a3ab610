//! What is known of the site that scores are run for.

use std::path::PathBuf;

/// Site-wide facts that interprets share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The root of harmony's files: images, keys, per-VM state.
    pub data_dir: PathBuf,
}

impl Inventory {
    /// An inventory that keeps its files under `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
        }
    }
}
