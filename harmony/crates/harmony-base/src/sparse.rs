//! Files in which zeros take no space.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

/// Zeros in runs of this many bytes become holes.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Whether all of it is zero. Compared block by block: a byte at a time is slow where nothing is optimised.
pub fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    bytes
        .chunks(BLOCK_BYTES)
        .all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Fills the block as far as the source goes: a short read is not the end.
///
/// # Errors
/// When the source cannot be read.
pub fn read_block(source: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match source.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Writes a new file from its beginning to its end; blocks of zeros become holes.
#[derive(Debug)]
pub struct SparseWriter<F> {
    file: F,
    length: u64,
}

impl<F: std::borrow::Borrow<File>> SparseWriter<F> {
    /// Of an empty file.
    pub fn new(file: F) -> Self {
        Self { file, length: 0 }
    }

    /// How much has been written, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes the next block: all of it, or a hole where it is zero.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, block: &[u8]) -> io::Result<()> {
        let mut file: &File = self.file.borrow();
        if is_zero(block) {
            let length = i64::try_from(block.len()).map_err(io::Error::other)?;
            file.seek(SeekFrom::Current(length))?;
        } else {
            file.write_all(block)?;
        }
        self.length += block.len() as u64;
        Ok(())
    }

    /// Gives the file its length, which a hole at its end does not.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> io::Result<F> {
        self.file.borrow().set_len(self.length)?;
        Ok(self.file)
    }
}

/// Copies to an empty file.
///
/// # Errors
/// When the source cannot be read or the file cannot be written.
pub fn copy(mut source: impl Read, target: &File) -> io::Result<()> {
    let mut writer = SparseWriter::new(target);
    let mut block = vec![0_u8; BLOCK_BYTES];
    loop {
        match read_block(&mut source, &mut block)? {
            0 => return writer.finish().map(drop),
            read => writer.write(&block[..read])?,
        }
    }
}

/// Writes `data` into a file that is zeros there: what of it is zero stays a hole.
///
/// # Errors
/// When the file cannot be written.
pub fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    let mut at = offset;
    for block in data.chunks(BLOCK_BYTES) {
        if !is_zero(block) {
            file.write_all_at(block, at)?;
        }
        at += block.len() as u64;
    }
    Ok(())
}

/// Gives zeros in a file back to the file system. Nothing may be written meanwhile.
///
/// # Errors
/// When the file cannot be read, or its file system has no holes. Its content is the same all the same.
pub fn release_zeros(file: &File) -> io::Result<()> {
    let mut source = file;
    let mut block = vec![0_u8; BLOCK_BYTES];
    let mut offset = 0;
    loop {
        let read = read_block(&mut source, &mut block)?;
        if read == 0 {
            return Ok(());
        }
        if is_zero(&block[..read]) {
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, how, offset, read as u64)?;
        }
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Cursor, Read, Seek};
    use std::os::unix::fs::MetadataExt;

    use super::{BLOCK_BYTES, copy, is_zero, read_block, release_zeros, write_at};

    /// A reader that gives little at a time, and is interrupted.
    struct Slow<R>(R, bool);

    impl<R: Read> Read for Slow<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(1000);
            self.0.read(&mut buffer[..length])
        }
    }

    fn content() -> Vec<u8> {
        let mut content = vec![0; 40 * BLOCK_BYTES + 100];
        content[5 * BLOCK_BYTES + 7] = 1;
        content
    }

    fn read(mut file: &File) -> Vec<u8> {
        let mut found = Vec::new();
        file.rewind().expect("seekable");
        file.read_to_end(&mut found).expect("readable");
        found
    }

    fn taken(file: &File) -> u64 {
        file.metadata().expect("open").blocks() * 512
    }

    #[test]
    fn blocks_are_filled_however_little_comes_at_once() {
        let mut source = Slow(Cursor::new(vec![7; 2500]), false);
        let mut block = [0; 2000];
        let mut next = || read_block(&mut source, &mut block).expect("read");
        assert_eq!([next(), next(), next()], [2000, 500, 0]);
    }

    #[test]
    fn zero_is_told_from_the_first_byte_to_the_last() {
        let mut bytes = vec![0; 2 * BLOCK_BYTES + 1];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, BLOCK_BYTES, 2 * BLOCK_BYTES] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }

    #[test]
    fn a_copy_is_whole_and_takes_the_space_of_what_is_not_zero() {
        let file = tempfile::tempfile().expect("a file");
        copy(Slow(Cursor::new(content()), false), &file).expect("copied");
        assert_eq!(read(&file), content());
        assert!(taken(&file) <= BLOCK_BYTES as u64, "{}", taken(&file));
    }

    #[test]
    fn what_is_written_into_zeros_is_where_it_should_be() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(3 + content().len() as u64).expect("sized");
        write_at(&file, 3, &content()).expect("written");
        assert_eq!(read(&file)[3..], content());
        assert!(taken(&file) <= 2 * BLOCK_BYTES as u64, "{}", taken(&file));
    }

    #[test]
    fn zeros_that_were_written_are_given_back() {
        let file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut &file, &content()).expect("written");
        assert!(taken(&file) >= content().len() as u64);
        io::Seek::rewind(&mut &file).expect("seekable");
        release_zeros(&file).expect("released");
        assert_eq!(read(&file), content());
        assert!(taken(&file) <= 2 * BLOCK_BYTES as u64, "{}", taken(&file));
    }
}
