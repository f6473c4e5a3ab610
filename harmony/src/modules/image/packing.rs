//! Compressed images: recognised, and unpacked by decoders in safe Rust with bounded memory.
//!
//! An image is unpacked while it is fetched, before all of it was hashed: what the decoders read is not
//! verified yet.

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use reqwest::Url;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use serde::{Deserialize, Serialize};

use super::published_name::{extension, image_extension, published_name};

/// The longest window of a zstd frame and the largest dictionary of an xz block: what `zstd --long` and
/// `xz -9` ask for fits.
const WINDOW_BYTES: u64 = 128 << 20;
/// So many first bytes tell how a file is packed.
pub(super) const MAGIC_BYTES: usize = 6;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// `.gz`, one member or more.
    Gzip,
    /// `.xz`, one stream or more.
    Xz,
    /// `.zst`, one frame or more.
    Zstd,
}

impl Packing {
    /// How the file at `url` is to be unpacked: when its first bytes say that it is compressed, and its name
    /// is that of a compressed file or of an image. Anything else, such as a kernel, is kept as it is.
    pub(super) fn of(url: &Url, head: &[u8]) -> Option<Self> {
        const NAMES: [&str; 7] = ["gz", "xz", "zst", "zstd", "img", "qcow2", "raw"];
        let extension = extension(published_name(url))?;
        let known = NAMES.contains(&extension.as_str());
        known.then(|| Self::of_magic(head)).flatten()
    }

    fn of_magic(head: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 3] = [
            (b"\x1f\x8b\x08", Self::Gzip),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        known
            .into_iter()
            .find_map(|(magic, packing)| head.starts_with(magic).then_some(packing))
    }

    /// The extension of what the file at `url` unpacks to.
    pub(super) fn inner_extension(url: &Url) -> String {
        let name = published_name(url);
        let inner = name.rsplit_once('.').map_or(name, |(inner, outer)| {
            let packed = ["gz", "xz", "zst", "zstd"].contains(&outer.to_ascii_lowercase().as_str());
            if packed { inner } else { name }
        });
        image_extension(inner)
    }

    /// What `packed` unpacks to, as a stream.
    pub(super) fn reader<'a>(self, packed: impl BufRead + 'a) -> Box<dyn Read + 'a> {
        match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Xz => {
                // The decoder's own needs come on top of the dictionary.
                let limit_kib = u32::try_from(WINDOW_BYTES / 1024 + 1024).unwrap_or(u32::MAX);
                Box::new(XzReader::new_mem_limit(packed, true, limit_kib))
            }
            Self::Zstd => Box::new(ZstdFrames::new(packed)),
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// Frame after frame of a zstd file; the decoder knows only one.
struct ZstdFrames<R> {
    packed: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(packed: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES);
        Self {
            packed,
            decoder,
            in_frame: false,
        }
    }

    /// False at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => skip(&mut self.packed, u64::from(length))?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

fn skip(packed: &mut impl BufRead, length: u64) -> io::Result<()> {
    if io::copy(&mut packed.take(length), &mut io::sink())? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.packed, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.check_sum()?;
            self.in_frame = false;
        }
    }
}

impl<R> ZstdFrames<R> {
    /// The decoder computes the frame's checksum and leaves comparing to us.
    fn check_sum(&self) -> io::Result<()> {
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the checksum of a zstd frame differs",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
