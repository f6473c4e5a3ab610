//! What is known of a file of the store.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::contents::digest_of_name;
use super::files::{io_error, replace_file};
use crate::modules::image::digest::ImageDigest;
use crate::modules::image::error::ImageError;
use crate::modules::image::format::{DiskFormat, sniff_file};
use crate::modules::image::packing::Packing;

/// The record beside a verified file, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecord {
    /// What the file hashes to.
    pub digest: ImageDigest,
    /// Its size in bytes.
    pub size: u64,
    /// What disk image it is; none for anything else.
    pub format: Option<DiskFormat>,
    /// Where it comes from.
    pub source: Source,
    /// When it was fetched: RFC 3339, UTC.
    pub fetched_at: String,
    /// How it looked when it was verified last.
    pub stamp: Stamp,
}

/// A file as its publisher has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The URL, without secrets; none when the file was found without a record.
    pub url: Option<String>,
    /// What the published file hashes to.
    pub digest: ImageDigest,
    /// The published file's size in bytes.
    pub size: u64,
    /// How the published file is compressed. The stored one is not.
    pub packing: Option<Packing>,
}

/// What changes when a file is changed or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// In bytes.
    pub size: u64,
    /// The time of the last modification, in seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds.
    pub mtime_nsec: i64,
    /// The inode's number.
    pub inode: u64,
}

impl Stamp {
    /// Of a file that was looked at.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            mtime: metadata.mtime(),
            mtime_nsec: metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }
}

/// Whether a file of the store may be used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::modules::image) enum Standing {
    /// There is none.
    Missing,
    /// It looks as it did when it was verified.
    Verified(Box<ImageRecord>),
    /// It has no record, or looks otherwise: it is to be hashed.
    Doubtful(Option<Box<ImageRecord>>),
}

impl ImageRecord {
    /// The record of a verified file at `path`, made now.
    pub(in crate::modules::image) fn of_file(
        path: &Path,
        digest: ImageDigest,
        source: Source,
    ) -> Result<Self, ImageError> {
        let metadata = fs::metadata(path).map_err(|source| io_error("read", path, source))?;
        let now = OffsetDateTime::now_utc().replace_nanosecond(0);
        let now = now.unwrap_or_else(|_| OffsetDateTime::now_utc());
        Ok(Self {
            digest,
            size: metadata.len(),
            format: sniff_file(path).ok(),
            source,
            fetched_at: now.format(&Rfc3339).unwrap_or_default(),
            stamp: Stamp::of(&metadata),
        })
    }

    /// Writes the record of the file at `path`.
    pub(in crate::modules::image) fn save(&self, path: &Path) -> Result<(), ImageError> {
        let record = record_path(path);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|source| io_error("write", &record, source.into()))?;
        text.push(b'\n');
        replace_file(&record, &text, 0o644)
    }

    /// The record of the file at `path`; none when there is none that is understood.
    pub(in crate::modules::image) fn load(path: &Path) -> Option<Self> {
        let record = record_path(path);
        let text = fs::read(&record).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| {
                tracing::warn!(record = %record.display(), %error, "the record is not understood");
            })
            .ok()
    }
}

/// Where the record of the file at `path` is.
pub(in crate::modules::image) fn record_path(path: &Path) -> PathBuf {
    let mut record = path.as_os_str().to_owned();
    record.push(".json");
    record.into()
}

/// Notes that the file at `path` is used now, in the time of its record.
pub(in crate::modules::image) fn touch(path: &Path) {
    let record = record_path(path);
    let touched = fs::File::open(&record).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(record = %record.display(), %error, "the use of the image is not noted");
    }
}

/// How the file at `path` stands. Reads its record and not the file.
pub(in crate::modules::image) fn standing(path: &Path) -> Result<Standing, ImageError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Missing),
        Err(source) => return Err(io_error("read", path, source)),
    };
    let Some(record) = ImageRecord::load(path).map(Box::new) else {
        return Ok(Standing::Doubtful(None));
    };
    let read_only = metadata.permissions().mode() & 0o222 == 0;
    if metadata.is_file() && read_only && record.stamp == Stamp::of(&metadata) {
        Ok(Standing::Verified(record))
    } else {
        Ok(Standing::Doubtful(Some(record)))
    }
}

/// The stored file that was unpacked from a published one of this digest, by the records in `dir`.
pub(in crate::modules::image) fn unpacked_from(
    dir: &Path,
    published: &ImageDigest,
) -> Result<Option<PathBuf>, ImageError> {
    let failed = |source| io_error("list", dir, source);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if digest_of_name(&path).is_none() {
            continue;
        }
        let unpacked = ImageRecord::load(&path)
            .is_some_and(|r| r.source.packing.is_some() && r.source.digest == *published);
        if unpacked {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
