//! Unpacks a file on a thread of its own while its bytes come, into a sparse file that is hashed on the way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use harmony_base::sparse::{SparseWriter, read_block};
use reqwest::Url;

use crate::modules::image::digest::{ImageDigest, ImageHasher};
use crate::modules::image::error::ImageError;
use crate::modules::image::packing::Packing;
use crate::modules::image::store::{SPACE_MARGIN, ensure_space, write_error};

/// Blocks in flight to the decoder.
const QUEUE: usize = 16;
/// What is written at once; a block of zeros of this size becomes a hole.
const BLOCK: usize = 64 * 1024;
/// So often the free space is looked at: a small file may unpack to a huge one.
const SPACE_CHECK: u64 = 64 << 20;

/// What a packed file unpacked to: written out, and removed when dropped unless it was taken.
#[derive(Debug)]
pub(in crate::modules::image) struct Unpacked {
    /// How it was packed.
    pub(in crate::modules::image) packing: Packing,
    /// The content-addressed name.
    pub(in crate::modules::image) name: String,
    /// What it hashes to.
    pub(in crate::modules::image) digest: ImageDigest,
    file: TemporaryFile,
}

impl Unpacked {
    /// Where it is.
    pub(in crate::modules::image) fn path(&self) -> &Path {
        &self.file.0
    }
}

#[derive(Debug)]
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "cannot remove the unfinished file");
            }
        }
    }
}

/// A decoder that is fed.
#[derive(Debug)]
pub(super) struct Unpacker {
    blocks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<Unpacked, ImageError>>>,
    failed: Option<ImageError>,
}

impl Unpacker {
    /// Begins to unpack what is published at `url`, beside the unfinished file `part`.
    pub(super) fn start(packing: Packing, url: &Url, part: &Path) -> io::Result<Self> {
        let mut path = part.as_os_str().to_owned();
        path.push(".unpacked");
        let file = TemporaryFile(path.into());
        let extension = Packing::inner_extension(url);
        let (blocks, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("unpack".to_owned())
            .spawn(move || unpack(packing, file, &extension, Blocks::new(queue)))?;
        Ok(Self {
            blocks: Some(blocks),
            thread: Some(thread),
            failed: None,
        })
    }

    /// Feeds it. That the file is not what it seems is said at the end, when its digest is known; a full
    /// disk is an error at once.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let Some(blocks) = &self.blocks else {
            return Ok(());
        };
        if blocks.send(data.to_vec()).is_ok() {
            return Ok(());
        }
        let error = match self.join() {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let full = matches!(error, ImageError::NoSpace { .. });
        self.failed = Some(error);
        if full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// The end of the file.
    pub(super) fn finish(mut self) -> Result<Unpacked, ImageError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.join(),
        }
    }

    fn join(&mut self) -> Result<Unpacked, ImageError> {
        self.blocks = None;
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(ImageError::Worker {
                task: "unpack the image",
                source: "it panicked".into(),
            }),
        }
    }
}

impl Drop for Unpacker {
    /// The thread has ended before its file's place is used again.
    fn drop(&mut self) {
        self.blocks = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that unpacks the image panicked");
        }
    }
}

/// The blocks that are fed, as a stream.
struct Blocks {
    queue: Receiver<Vec<u8>>,
    block: io::Cursor<Vec<u8>>,
}

impl Blocks {
    fn new(queue: Receiver<Vec<u8>>) -> Self {
        Self {
            queue,
            block: io::Cursor::default(),
        }
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.queue.recv() {
                Ok(block) => self.block = io::Cursor::new(block),
                Err(_) => return Ok(0),
            }
        }
    }
}

fn unpack(
    packing: Packing,
    file: TemporaryFile,
    extension: &str,
    packed: Blocks,
) -> Result<Unpacked, ImageError> {
    let path = file.0.clone();
    let decoder = |source| ImageError::Unpack {
        path: path.clone(),
        packing,
        source,
    };
    let mut out = SparseFile::create(&path)?;
    let mut reader = packing.reader(BufReader::with_capacity(BLOCK, packed));
    let mut block = vec![0; BLOCK];
    loop {
        let read = read_block(&mut reader, &mut block).map_err(decoder)?;
        if read == 0 {
            break;
        }
        out.write(&block[..read])?;
    }
    let digest = out.finish()?;
    Ok(Unpacked {
        packing,
        name: digest.file_name(extension),
        digest,
        file,
    })
}

/// A file with holes where its content has blocks of zeros.
struct SparseFile {
    path: PathBuf,
    file: SparseWriter<File>,
    hasher: ImageHasher,
    checked: u64,
}

impl SparseFile {
    fn create(path: &Path) -> Result<Self, ImageError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| write_error(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file: SparseWriter::new(file),
            hasher: ImageHasher::sha256(),
            checked: 0,
        })
    }

    fn write(&mut self, block: &[u8]) -> Result<(), ImageError> {
        self.hasher.update(block);
        let length = self.file.length() + block.len() as u64;
        if length - self.checked >= SPACE_CHECK {
            self.checked = length;
            let dir = self.path.parent().unwrap_or(Path::new("."));
            ensure_space(dir, SPACE_MARGIN)?;
        }
        let written = self.file.write(block);
        written.map_err(|source| write_error(&self.path, source))
    }

    fn finish(self) -> Result<ImageDigest, ImageError> {
        self.file
            .finish()
            .and_then(|file| file.sync_all())
            .map_err(|source| write_error(&self.path, source))?;
        Ok(self.hasher.finish())
    }
}
