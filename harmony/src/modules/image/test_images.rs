//! Where tests that build images put them, and for which architecture.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::debian::build_debian_12;
use crate::domain::topology::virtualization::VmArchitecture;

/// A directory for images: the one in `HARMONY_TEST_IMAGES_DIR`, in which tests find what others have built, or else one
/// that goes with this value.
#[derive(Debug)]
pub(crate) struct TestImages {
    dir: PathBuf,
    _temporary: Option<TempDir>,
}

impl TestImages {
    /// It.
    pub(crate) fn new() -> Self {
        if let Some(dir) = std::env::var_os("HARMONY_TEST_IMAGES_DIR") {
            return Self {
                dir: dir.into(),
                _temporary: None,
            };
        }
        // Images are too large for a /tmp in memory.
        let temporary = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
        Self {
            dir: temporary.path().to_owned(),
            _temporary: Some(temporary),
        }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A plain Debian 12 for `architecture`, built when it is not there.
    pub(crate) async fn debian_12(&self, architecture: VmArchitecture) -> PathBuf {
        build_debian_12(architecture, &self.dir)
            .await
            .expect("Debian 12 from packages")
    }
}

/// `HARMONY_TEST_ARCHITECTURE`, or else the host's own.
pub(crate) fn architecture() -> VmArchitecture {
    std::env::var("HARMONY_TEST_ARCHITECTURE").map_or_else(
        |_| VmArchitecture::of_host().expect("a known host"),
        |name| name.parse().expect("an architecture"),
    )
}
