//! What kind of disk image a file is, by its first bytes.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use harmony_base::qcow2;

use super::error::ImageError;

pub use super::disk_format::DiskFormat;

/// How many bytes of a file tell what it is.
pub(super) const SNIFF_BYTES: usize = 512;

const BOOT_SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// Tells the format from a file's first [`SNIFF_BYTES`], or else what the file looks like.
pub(super) fn sniff(header: &[u8]) -> Result<DiskFormat, &'static str> {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"\x1f\x8b", "a gzip archive"),
        (b"\xfd7zXZ\0", "an xz archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"KDMV", "a VMDK image"),
        (b"vhdxfile", "a VHDX image"),
        (b"\x7fELF", "an ELF file"),
    ];
    if header.starts_with(qcow2::MAGIC) {
        return Ok(DiskFormat::Qcow2);
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| header.starts_with(magic)) {
        return Err(name);
    }
    if looks_like_markup(header) {
        return Err("an HTML page");
    }
    if header.is_empty() {
        return Err("an empty file");
    }
    if header.get(510..512) == Some(&BOOT_SIGNATURE) {
        return Ok(DiskFormat::Raw);
    }
    Err("data without a partition table")
}

/// Whether a text begins as an HTML or XML document does: what captive portals answer with.
fn looks_like_markup(header: &[u8]) -> bool {
    header.trim_ascii_start().first() == Some(&b'<')
}

/// Opens a local image and tells its format.
///
/// # Errors
/// [`ImageError::NoSuchFile`], [`ImageError::UnknownFormat`] with what it looks like, or
/// [`ImageError::Io`].
pub fn sniff_file(path: &Path) -> Result<DiskFormat, ImageError> {
    let read = |source| ImageError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ImageError::NoSuchFile {
            path: path.to_owned(),
        },
        _ => read(error),
    })?;
    if !file.metadata().map_err(read)?.is_file() {
        return Err(ImageError::UnknownFormat {
            path: path.to_owned(),
            looks_like: "not a regular file",
        });
    }
    let mut header = Vec::with_capacity(SNIFF_BYTES);
    file.take(SNIFF_BYTES as u64)
        .read_to_end(&mut header)
        .map_err(read)?;
    sniff(&header).map_err(|looks_like| ImageError::UnknownFormat {
        path: path.to_owned(),
        looks_like,
    })
}

#[cfg(test)]
mod tests {
    use super::{DiskFormat, sniff, sniff_file};
    use crate::modules::image::error::ImageError;

    #[test]
    fn the_first_bytes_tell_the_format() {
        let mut raw = vec![0_u8; 512];
        raw[510] = 0x55;
        raw[511] = 0xaa;
        let table: [(&[u8], Result<DiskFormat, &str>); 9] = [
            (b"QFI\xfb\0\0\0\x03", Ok(DiskFormat::Qcow2)),
            (&raw, Ok(DiskFormat::Raw)),
            (&raw[..511], Err("data without a partition table")),
            (&[0; 512], Err("data without a partition table")),
            (b"", Err("an empty file")),
            (b"\n <!doctype html>", Err("an HTML page")),
            (b"\x1f\x8b\x08", Err("a gzip archive")),
            (b"\xfd7zXZ\0\0", Err("an xz archive")),
            (b"KDMV\x01", Err("a VMDK image")),
        ];
        for (header, expected) in table {
            assert_eq!(sniff(header), expected, "{header:?}");
        }
    }

    #[test]
    fn files_that_are_no_images_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("page.img");
        assert!(matches!(
            sniff_file(&path),
            Err(ImageError::NoSuchFile { path: missing }) if missing == path
        ));
        std::fs::write(&path, "<html>").expect("writable");
        assert!(matches!(
            sniff_file(&path),
            Err(ImageError::UnknownFormat {
                looks_like: "an HTML page",
                ..
            })
        ));
        assert!(matches!(
            sniff_file(dir.path()),
            Err(ImageError::UnknownFormat {
                looks_like: "not a regular file",
                ..
            })
        ));
    }
}
