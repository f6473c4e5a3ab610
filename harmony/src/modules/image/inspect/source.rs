//! A file of the host, opened read-only, whose reads are counted before imago takes it over.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use harmony_base::stamp::FileId;
use imago::StorageOpenOptions;
use imago::file::File as ImageFile;
use rustix::fs::OFlags;

use super::error::InspectError;
use super::limits::Meter;

/// One file of an image.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    length: u64,
    id: FileId,
    meter: Arc<Meter>,
}

impl Source {
    /// Opens a regular file for reading. Never waits, as a pipe would make it.
    pub(super) fn open(path: &Path, meter: &Arc<Meter>) -> Result<Self, InspectError> {
        let cannot = |source| InspectError::Open {
            path: path.to_owned(),
            source,
        };
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits();
        let flags = i32::try_from(flags).map_err(|e| cannot(io::Error::other(e)))?;
        let file = File::options()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(InspectError::NotAFile {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            file,
            length: metadata.len(),
            id: FileId::from(&metadata),
            meter: Arc::clone(meter),
        })
    }

    /// The file's length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Which file it is, whatever its name.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Fills `buffer` from `offset` on; `path` and `part` say what is read.
    ///
    /// # Errors
    /// When the file ends before, and when the bound on reads is reached.
    pub(super) fn read(
        &self,
        buffer: &mut [u8],
        offset: u64,
        path: &Path,
        part: &'static str,
    ) -> Result<(), InspectError> {
        let read = if self.meter.charge(buffer.len() as u64) {
            self.file.read_exact_at(buffer, offset)
        } else {
            Err(io::Error::from(io::ErrorKind::QuotaExceeded))
        };
        read.map_err(|error| self.meter.error(path, part, error))
    }

    /// The file as imago reads it: those reads are not counted here.
    pub(super) fn into_storage(self) -> io::Result<ImageFile> {
        ImageFile::from_open_file(self.file, StorageOpenOptions::new())
    }
}
