//! Putting an image into another directory, and what it is called there.

use std::fs::File;
use std::io;
use std::path::Path;

/// What the name of an image's copy in a pool of disks begins and ends with.
const COPY_PREFIX: &str = "harmony-base-";
const COPY_SUFFIX: &str = ".img";

/// What the name of such a copy begins with while it is being made.
pub(crate) const UNFINISHED_COPY_PREFIX: &str = ".harmony-base-";

/// The file name of an image's copy in a pool; `identity` tells of which image, in which state.
#[cfg(feature = "kvm")]
pub(crate) fn copy_name(identity: &str) -> String {
    format!("{COPY_PREFIX}{identity}{COPY_SUFFIX}")
}

/// Whether a file in a pool is called as an image's copy is.
pub(super) fn is_copy_name(name: &str) -> bool {
    name.starts_with(COPY_PREFIX) && name.ends_with(COPY_SUFFIX)
}

/// How a file got its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It shares its blocks with the original until one of them is written to.
    Reflink,
    /// It has blocks of its own.
    Copy,
}

/// Gives the empty file `to` the content of `from`: without copying where the file system can share blocks
/// (XFS, Btrfs and others), else as a copy.
///
/// A hard link would be the same file under two names: libvirt gives its QEMU user each file that a guest
/// uses, and a caller's own image may be written to.
///
/// # Errors
/// What the system says of opening, reading or writing.
pub fn reflink_or_copy(from: &Path, to: &mut File) -> io::Result<Placed> {
    let mut source = File::open(from)?;
    if rustix::fs::ioctl_ficlone(&*to, &source).is_ok() {
        return Ok(Placed::Reflink);
    }
    // copy_file_range where the kernel can.
    io::copy(&mut source, to)?;
    Ok(Placed::Copy)
}
