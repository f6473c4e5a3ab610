//! A file that is not whole yet, with what is needed to go on with it: also in another process.
//!
//! `.NAME.part` has the published bytes so far, `.NAME.part.json` says where they come from. The second is
//! written before the first byte of a transfer and removed before the first is emptied, so they never
//! contradict each other. Without a strong validator there is no note, and nothing is kept. A process that
//! goes on hashes (and unpacks) what is there once, by reading it back.
//!
//! The lock of the file is held as long as this value lives, and so as long as any thread may write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::answer::Validator;
use super::unpack::{Unpacked, Unpacker};
use crate::modules::image::digest::{ImageDigest, ImageHasher, Sha256Digest};
use crate::modules::image::error::ImageError;
use crate::modules::image::packing::{MAGIC_BYTES, Packing};
use crate::modules::image::source::{PinnedUrl, public_form};
use crate::modules::image::store::{StoreLock, io_error, part_note_path, part_path, write_error};

/// Where the bytes of an unfinished file come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Origin {
    /// Without secrets, for people.
    url: String,
    /// Of the whole URL: bytes are only ever added from the same one.
    url_sha256: Sha256Digest,
    /// What the server said of the file.
    pub(super) validator: Validator,
    /// Its length in bytes, where the server said it.
    pub(super) length: Option<u64>,
}

impl Origin {
    pub(super) fn new(url: &Url, validator: Validator, length: Option<u64>) -> Self {
        Self {
            url: public_form(url),
            url_sha256: Sha256Digest::of(url.as_str().as_bytes()),
            validator,
            length,
        }
    }

    fn is_of(&self, url: &Url) -> bool {
        self.url_sha256 == Sha256Digest::of(url.as_str().as_bytes())
    }
}

/// An unfinished file. Blocking.
#[derive(Debug)]
pub(in crate::modules::image) struct Partial {
    path: PathBuf,
    note: PathBuf,
    file: File,
    digest: ImageDigest,
    hasher: ImageHasher,
    length: u64,
    origin: Option<Origin>,
    /// Whether the bytes are of more than one answer.
    joined: bool,
    verbatim: bool,
    url: Url,
    unpacking: Unpacking,
    _lock: Arc<StoreLock>,
}

#[derive(Debug)]
enum Unpacking {
    /// So few bytes are there that it cannot be told.
    Undecided(Vec<u8>),
    No,
    Yes(Unpacker),
}

/// All bytes of a file as it was published, written out.
#[derive(Debug)]
pub(in crate::modules::image) struct Complete {
    /// What they hash to.
    pub(in crate::modules::image) digest: ImageDigest,
    /// How many they are.
    pub(in crate::modules::image) size: u64,
    /// What they unpack to, when they are packed.
    pub(in crate::modules::image) unpacked: Option<Result<Unpacked, ImageError>>,
    /// Whether they are of more than one answer.
    pub(in crate::modules::image) joined: bool,
}

impl Partial {
    /// What is there of the file `name` in `dir`, whose lock is `lock`. What cannot be gone on with is
    /// dropped; what can is read once.
    pub(in crate::modules::image) fn open(
        dir: &Path,
        pin: &PinnedUrl,
        lock: Arc<StoreLock>,
    ) -> Result<Self, ImageError> {
        let name = pin.file_name();
        let (path, note) = (part_path(dir, &name), part_note_path(dir, &name));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io_error("open", &path, source))?;
        let urls: Vec<&Url> = pin.urls().collect();
        let origin = read_note(&note);
        let from = urls
            .iter()
            .find(|url| origin.as_ref().is_some_and(|origin| origin.is_of(url)));
        let mut partial = Self {
            digest: *pin.digest(),
            hasher: pin.digest().hasher(),
            length: 0,
            joined: false,
            verbatim: pin.is_verbatim(),
            url: from.copied().unwrap_or(pin.url()).clone(),
            unpacking: Unpacking::Undecided(Vec::new()),
            origin: from.and(origin),
            path,
            note,
            file,
            _lock: lock,
        };
        match &partial.origin {
            Some(_) => partial.read_back()?,
            None => partial.restart(None)?,
        }
        Ok(partial)
    }

    /// Hashes what is there; drops it when it is more than the whole.
    fn read_back(&mut self) -> Result<(), ImageError> {
        let failed = |path: &Path, source| io_error("read", path, source);
        let mut reader = self.file.try_clone().map_err(|e| failed(&self.path, e))?;
        reader
            .seek(SeekFrom::Start(0))
            .map_err(|e| failed(&self.path, e))?;
        let mut block = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut block).map_err(|e| failed(&self.path, e))?;
            if read == 0 {
                break;
            }
            self.digest_block(&block[..read])
                .map_err(|e| self.failed(e))?;
        }
        let whole = self.origin.as_ref().and_then(|origin| origin.length);
        if whole.is_some_and(|whole| self.length > whole) {
            return self.restart(None);
        }
        self.joined = self.length > 0;
        Ok(())
    }

    /// Drops what is there; what comes now is of `origin`, or of an unknown one and cannot be gone on with.
    pub(super) fn restart(&mut self, origin: Option<Origin>) -> Result<(), ImageError> {
        match fs::remove_file(&self.note) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("remove", &self.note, source)),
        }
        self.unpacking = Unpacking::Undecided(Vec::new());
        self.hasher = self.digest.hasher();
        (self.length, self.joined, self.origin) = (0, false, None);
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)).map(drop))
            .map_err(|source| io_error("empty", &self.path, source))?;
        if let Some(origin) = origin {
            write_note(&self.note, &origin)?;
            self.origin = Some(origin);
        }
        Ok(())
    }

    /// Shares the blocks of a file of this host and hashes them; false where the file system cannot.
    pub(super) fn reflink(&mut self, source: &File) -> Result<bool, ImageError> {
        if rustix::fs::ioctl_ficlone(&self.file, source).is_err() {
            return Ok(false);
        }
        self.read_back()?;
        self.joined = false;
        Ok(true)
    }

    /// The bytes that are there.
    pub(in crate::modules::image) fn length(&self) -> u64 {
        self.length
    }

    /// Where the bytes come from, when more of the same can be asked for at `url`.
    pub(super) fn resumable_from(&self, url: &Url) -> Option<&Origin> {
        self.origin
            .as_ref()
            .filter(|origin| self.length > 0 && origin.is_of(url))
    }

    /// Whether all bytes are there.
    pub(super) fn is_whole(&self) -> bool {
        self.origin
            .as_ref()
            .is_some_and(|origin| origin.length == Some(self.length) && self.length > 0)
    }

    /// From where the next bytes come.
    pub(super) fn set_url(&mut self, url: &Url) {
        self.url = url.clone();
    }

    /// What comes now is of another answer than what is there.
    pub(super) fn go_on(&mut self) {
        self.joined = true;
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.digest_block(data)
    }

    fn digest_block(&mut self, data: &[u8]) -> io::Result<()> {
        self.hasher.update(data);
        self.length += data.len() as u64;
        let head = match &mut self.unpacking {
            Unpacking::No => return Ok(()),
            Unpacking::Yes(unpacker) => return unpacker.write(data),
            Unpacking::Undecided(head) => head,
        };
        head.extend_from_slice(data);
        if head.len() < MAGIC_BYTES {
            return Ok(());
        }
        let packing = Packing::of(&self.url, head).filter(|_| !self.verbatim);
        let head = std::mem::take(head);
        self.unpacking = match packing {
            None => Unpacking::No,
            Some(packing) => {
                let mut unpacker = Unpacker::start(packing, &self.url, &self.path)?;
                unpacker.write(&head)?;
                Unpacking::Yes(unpacker)
            }
        };
        Ok(())
    }

    /// What went wrong with writing, as an error that names the file.
    pub(super) fn failed(&self, source: io::Error) -> ImageError {
        write_error(&self.path, source)
    }

    /// Writes everything out.
    pub(super) fn complete(&mut self) -> Result<Complete, ImageError> {
        self.file.sync_all().map_err(|e| self.failed(e))?;
        let hasher = std::mem::replace(&mut self.hasher, self.digest.hasher());
        let unpacking = std::mem::replace(&mut self.unpacking, Unpacking::No);
        Ok(Complete {
            digest: hasher.finish(),
            size: self.length,
            joined: self.joined,
            unpacked: match unpacking {
                Unpacking::Yes(unpacker) => Some(unpacker.finish()),
                Unpacking::No | Unpacking::Undecided(_) => None,
            },
        })
    }

    /// Drops what is there.
    pub(in crate::modules::image) fn start_over(&mut self) -> Result<(), ImageError> {
        self.restart(None)
    }

    /// The file with the published bytes.
    pub(in crate::modules::image) fn path(&self) -> &Path {
        &self.path
    }

    /// It is whole, and wrong or settled: nothing is to be kept for another process.
    pub(in crate::modules::image) fn forget(&mut self) {
        self.origin = None;
    }
}

impl Drop for Partial {
    /// Keeps what can be gone on with, and removes the rest.
    fn drop(&mut self) {
        let keep = self.origin.is_some() && self.length > 0;
        let left: &[&Path] = if keep { &[] } else { &[&self.note, &self.path] };
        for path in left {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove the unfinished file");
                }
            }
        }
    }
}

/// What an earlier process noted. A note that is missing or not understood means to start over.
fn read_note(path: &Path) -> Option<Origin> {
    let text = fs::read(path).ok()?;
    match serde_json::from_slice(&text) {
        Ok(origin) => Some(origin),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "starting over: the note is not understood");
            None
        }
    }
}

fn write_note(path: &Path, origin: &Origin) -> Result<(), ImageError> {
    let text = serde_json::to_vec(origin).map_err(|e| io_error("write", path, e.into()))?;
    crate::modules::image::store::replace_file(path, &text, 0o600)
}
