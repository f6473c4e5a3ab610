//! From the unfinished file to the store, and what the store has already.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use harmony_base::blocking::blocking;
use reqwest::Url;

use crate::modules::image::digest::ImageDigest;
use crate::modules::image::error::ImageError;
use crate::modules::image::format::{SNIFF_BYTES, sniff};
use crate::modules::image::source::{PinnedUrl, public_form};
use crate::modules::image::store::record::{Source, Standing, standing, touch, unpacked_from};
use crate::modules::image::store::{Verdict, io_error, keep, set_aside, verify};
use crate::modules::image::transfer::{Complete, Partial};

/// Where the file of `pin` is in `dir`, when it is beyond doubt.
pub(super) fn stored(pin: &PinnedUrl, dir: &Path) -> Result<Option<PathBuf>, ImageError> {
    for path in candidates(pin, dir)? {
        if let Standing::Verified(_) = standing(&path)? {
            touch(&path);
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// As [`stored`], but what is doubtful is hashed: a right file gets its record, a wrong one is set aside.
/// For the holder of the file's lock.
pub(super) async fn stored_or_mended(
    pin: &PinnedUrl,
    dir: &Path,
) -> Result<Option<PathBuf>, ImageError> {
    let (pin, dir) = (pin.clone(), dir.to_owned());
    let work = move || {
        for path in candidates(&pin, &dir)? {
            match standing(&path)? {
                Standing::Missing => {}
                Standing::Verified(_) => return Ok(Some(path)),
                Standing::Doubtful(_) => {
                    if mend(&path)? {
                        return Ok(Some(path));
                    }
                }
            }
        }
        Ok(None)
    };
    blocking("verify the image", work).await?
}

/// Under which names the file of `pin` may be: its own, and that of what it unpacks to.
fn candidates(pin: &PinnedUrl, dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let own = dir.join(pin.file_name());
    if own.exists() || pin.is_verbatim() {
        return Ok(vec![own]);
    }
    Ok(unpacked_from(dir, pin.digest())?.into_iter().collect())
}

/// Hashes a doubtful file of the store. False when it was wrong, and is set aside.
fn mend(path: &Path) -> Result<bool, ImageError> {
    tracing::info!(path = %path.display(), "the image is not as it was, verifying it again");
    match verify(path)? {
        Verdict::Right => Ok(true),
        Verdict::Wrong { actual, rejected } => {
            tracing::warn!(
                %actual, rejected = %rejected.display(),
                "the image in the store was damaged, fetching it again"
            );
            Ok(false)
        }
    }
}

/// Gives the file its name when it is the pinned one; else sets it aside.
pub(super) async fn settle(
    pin: &PinnedUrl,
    url: &Url,
    dir: &Path,
    partial: Partial,
    complete: Complete,
) -> Result<PathBuf, ImageError> {
    let (pin, url, dir) = (pin.clone(), url.clone(), dir.to_owned());
    let work = move || settle_now(&pin, &url, &dir, partial, complete);
    blocking("put the image into the store", work).await?
}

fn settle_now(
    pin: &PinnedUrl,
    url: &Url,
    dir: &Path,
    mut partial: Partial,
    complete: Complete,
) -> Result<PathBuf, ImageError> {
    let path = dir.join(pin.file_name());
    partial.forget();
    if complete.digest != *pin.digest() {
        return Err(reject(pin, url, &partial, &path, complete.digest)?);
    }
    let mut source = Source {
        url: Some(public_form(url)),
        digest: complete.digest,
        size: complete.size,
        packing: None,
    };
    let Some(unpacked) = complete.unpacked.transpose()? else {
        keep(partial.path(), &path, complete.digest, source)?;
        return Ok(path);
    };
    source.packing = Some(unpacked.packing);
    let path = dir.join(&unpacked.name);
    keep(unpacked.path(), &path, unpacked.digest, source)?;
    Ok(path)
}

fn reject(
    pin: &PinnedUrl,
    url: &Url,
    partial: &Partial,
    path: &Path,
    actual: ImageDigest,
) -> Result<ImageError, ImageError> {
    let mut header = Vec::with_capacity(SNIFF_BYTES);
    File::open(partial.path())
        .and_then(|file| file.take(SNIFF_BYTES as u64).read_to_end(&mut header))
        .map_err(|source| io_error("read", partial.path(), source))?;
    Ok(ImageError::DigestMismatch {
        url: public_form(url),
        expected: Box::new(*pin.digest()),
        actual: Box::new(actual),
        rejected: set_aside(partial.path(), path)?,
        looks_like_html: sniff(&header) == Err("an HTML page"),
    })
}
