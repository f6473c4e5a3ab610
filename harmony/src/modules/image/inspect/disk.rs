//! An image opened as the disk that a guest would see, read-only and by whole blocks.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmony_base::stamp::FileId;
use imago::file::File as ImageFile;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};

use super::super::format::{DiskFormat, SNIFF_BYTES, sniff};
use super::error::InspectError;
use super::limits::{Backing, Limits, Meter};
use super::qcow2::{BackingName, check_header};
use super::source::Source;

/// What is read at once at least: a compressed cluster is unpacked whole for every byte of it.
const MIN_BLOCK_BYTES: u64 = 64 << 10;
const CACHED_BLOCKS: usize = 6;

/// The virtual disk of an image.
pub(super) struct Disk {
    image: FormatAccess<ImageFile>,
    path: PathBuf,
    meter: Arc<Meter>,
    block_bytes: u64,
    /// What reading a block can cost at worst, in blocks.
    block_cost: u64,
    /// Read last comes last.
    blocks: VecDeque<(u64, Vec<u8>)>,
    pub(super) format: DiskFormat,
    pub(super) file_bytes: u64,
    /// What a raw file without a boot signature looks like.
    pub(super) looks_like: Option<&'static str>,
    /// Its backing files, the nearest first.
    pub(super) backing: Vec<PathBuf>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.path)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens an image and, as far as the limits allow, what it depends on.
    pub(super) fn open(
        path: &Path,
        limits: &Limits,
        meter: &Arc<Meter>,
    ) -> Result<Self, InspectError> {
        let source = Source::open(path, meter)?;
        let file_bytes = source.length();
        let (format, looks_like) = format_of(path, &source)?;
        let mut chain = Chain {
            top: path,
            limits,
            meter,
            met: BTreeSet::new(),
            files: Vec::new(),
            block_bytes: MIN_BLOCK_BYTES,
            qcow2_layers: 0,
        };
        let image = chain.layer(path, source, format)?;
        Ok(Self {
            image,
            path: path.to_owned(),
            meter: Arc::clone(meter),
            block_bytes: chain.block_bytes,
            // The tables of each layer, at most twice its size when it is compressed, and itself.
            block_cost: match chain.qcow2_layers {
                0 => 1,
                layers => layers + 3,
            },
            blocks: VecDeque::new(),
            format,
            file_bytes,
            looks_like,
            backing: chain.files,
        })
    }

    /// The virtual disk's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.image.size()
    }

    /// Fills `buffer` from `offset` on; `part` names what is read.
    ///
    /// # Errors
    /// Also when it does not lie within the disk.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        offset: u64,
        part: &'static str,
    ) -> Result<(), InspectError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size()) {
            let source = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(self.error(part, source));
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let start = usize::try_from(at % self.block_bytes).unwrap_or(0);
            let block = self.block(at / self.block_bytes, part)?;
            let there = block.get(start..).unwrap_or_default();
            let count = there.len().min(buffer.len() - done);
            if count == 0 {
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(self.error(part, source));
            }
            buffer[done..done + count].copy_from_slice(&there[..count]);
            done += count;
        }
        Ok(())
    }

    /// One block, which ends early at the disk's end.
    fn block(&mut self, index: u64, part: &'static str) -> Result<&[u8], InspectError> {
        let cached = self.blocks.iter().position(|(i, _)| *i == index);
        let block = match cached.and_then(|at| self.blocks.remove(at)) {
            Some(block) => block,
            None => (index, self.read_block(index, part)?),
        };
        if self.blocks.len() >= CACHED_BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(block);
        Ok(self.blocks.back().map_or(&[], |(_, bytes)| bytes))
    }

    fn read_block(&self, index: u64, part: &'static str) -> Result<Vec<u8>, InspectError> {
        let offset = index * self.block_bytes;
        let bytes = self.block_bytes.min(self.size().saturating_sub(offset));
        if !self.meter.charge(bytes.saturating_mul(self.block_cost)) {
            return Err(self.error(part, io::Error::from(io::ErrorKind::QuotaExceeded)));
        }
        let mut block = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.image
            .read(block.as_mut_slice(), offset)
            .map_err(|source| self.error(part, source))?;
        Ok(block)
    }

    fn error(&self, part: &'static str, source: io::Error) -> InspectError {
        self.meter.error(&self.path, part, source)
    }
}

/// The format by the first bytes, and what else a raw file without a boot signature looks like.
fn format_of(
    path: &Path,
    source: &Source,
) -> Result<(DiskFormat, Option<&'static str>), InspectError> {
    let length = usize::try_from(source.length()).unwrap_or(usize::MAX);
    let mut head = vec![0; SNIFF_BYTES.min(length)];
    source.read(&mut head, 0, path, "the first sector")?;
    match sniff(&head) {
        Ok(format) => Ok((format, None)),
        // A disk that was never partitioned begins with zeros: it is described, not refused.
        Err(looks_like) if head.iter().all(|byte| *byte == 0) => {
            Ok((DiskFormat::Raw, Some(looks_like)))
        }
        Err(looks_like) if length.is_multiple_of(SNIFF_BYTES) && is_unmarked(&head) => {
            Ok((DiskFormat::Raw, Some(looks_like)))
        }
        Err(looks_like) => Err(InspectError::UnknownFormat {
            path: path.to_owned(),
            looks_like,
        }),
    }
}

/// Whether nothing but the missing boot signature speaks against a raw disk.
fn is_unmarked(head: &[u8]) -> bool {
    let mut signed = head.to_vec();
    if let Some(end) = signed.get_mut(510..512) {
        end.copy_from_slice(&[0x55, 0xaa]);
    }
    sniff(&signed) == Ok(DiskFormat::Raw)
}

/// The layers of an image while they are opened.
struct Chain<'a> {
    top: &'a Path,
    limits: &'a Limits,
    meter: &'a Arc<Meter>,
    met: BTreeSet<FileId>,
    files: Vec<PathBuf>,
    block_bytes: u64,
    qcow2_layers: u64,
}

impl Chain<'_> {
    fn layer(
        &mut self,
        path: &Path,
        source: Source,
        format: DiskFormat,
    ) -> Result<FormatAccess<ImageFile>, InspectError> {
        self.met.insert(source.id());
        let meter = self.meter;
        let cannot = |source| meter.error(path, "the image's tables", source);
        if format == DiskFormat::Raw {
            let storage = source.into_storage().map_err(cannot)?;
            let raw = Raw::<ImageFile>::builder(storage).open(DenyImplicitOpenGate::default());
            return raw.map(FormatAccess::new).map_err(cannot);
        }
        let header = check_header(path, &source, self.limits)?;
        self.block_bytes = self.block_bytes.max(header.cluster_bytes);
        self.qcow2_layers += 1;
        let backing = match &header.backing {
            Some(backing) => Some(self.backing(path, backing)?),
            None => None,
        };
        // imago reads the same again.
        if !meter.charge(header.header_bytes.saturating_add(header.l1_bytes)) {
            return Err(cannot(io::Error::from(io::ErrorKind::QuotaExceeded)));
        }
        let storage = source.into_storage().map_err(cannot)?;
        let qcow2 = Qcow2::<ImageFile>::builder(storage)
            .backing(backing)
            .data_file(None)
            .open(DenyImplicitOpenGate::default());
        qcow2.map(FormatAccess::new).map_err(cannot)
    }

    /// Opens the backing file that the image at `path` names, when that is allowed.
    fn backing(
        &mut self,
        path: &Path,
        backing: &BackingName,
    ) -> Result<FormatAccess<ImageFile>, InspectError> {
        let (file, depth) = self.allowed(path, backing)?;
        if self.files.len() as u64 >= u64::from(depth) {
            return Err(InspectError::ChainTooLong {
                path: self.top.to_owned(),
                bound: depth,
            });
        }
        let source = Source::open(&file, self.meter)?;
        if self.met.contains(&source.id()) {
            return Err(InspectError::ChainLoop {
                path: path.to_owned(),
                backing: file,
            });
        }
        let format = match backing.format.as_deref() {
            Some(b"raw" | b"file") => DiskFormat::Raw,
            Some(b"qcow2") => DiskFormat::Qcow2,
            Some(other) => {
                return Err(InspectError::Unsupported {
                    path: path.to_owned(),
                    feature: format!("the backing format '{}'", other.escape_ascii()),
                });
            }
            None => format_of(&file, &source)?.0,
        };
        self.files.push(file.clone());
        self.layer(&file, source, format)
    }

    /// Where a backing file is, with links resolved, and how many may be followed.
    fn allowed(&self, path: &Path, backing: &BackingName) -> Result<(PathBuf, u32), InspectError> {
        let name = backing.name.escape_ascii().to_string();
        let Backing::Within { directory, depth } = &self.limits.backing else {
            return Err(InspectError::Backing {
                path: path.to_owned(),
                backing: name,
            });
        };
        let beside = path.parent().unwrap_or(Path::new("."));
        let named = beside.join(OsStr::from_bytes(&backing.name));
        let open = |path: &Path| {
            let path = path.to_owned();
            move |source| InspectError::Open { path, source }
        };
        let root = directory.canonicalize().map_err(open(directory))?;
        let outside = || InspectError::BackingOutside {
            path: path.to_owned(),
            backing: name,
            directory: directory.clone(),
        };
        // Outside, not even whether a file exists is told.
        match named.canonicalize() {
            Ok(file) if file.starts_with(&root) => Ok((file, *depth)),
            Ok(_) => Err(outside()),
            Err(_) if !lies_in(&named, &root) => Err(outside()),
            Err(source) => Err(InspectError::Open {
                path: named,
                source,
            }),
        }
    }
}

/// Whether the directory of a file that does not exist is within `root`.
fn lies_in(file: &Path, root: &Path) -> bool {
    let parent = file.parent().filter(|p| *p != Path::new(""));
    let parent = parent.unwrap_or(Path::new("."));
    parent
        .canonicalize()
        .is_ok_and(|parent| parent.starts_with(root))
}
