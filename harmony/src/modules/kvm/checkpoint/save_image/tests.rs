use std::fs;
use std::path::PathBuf;

use super::{SaveImage, SaveImageError};

const STREAM: &[u8] = b"QEVM and the rest of the memory";

/// A memory image as libvirt lays it out.
fn image(document: &str, cookie: &str) -> Vec<u8> {
    let mut data = [document.as_bytes(), b"\0"].concat();
    let cookie_offset = if cookie.is_empty() { 0 } else { data.len() };
    if !cookie.is_empty() {
        data.extend([cookie.as_bytes(), b"\0"].concat());
    }
    let mut bytes = b"LibvirtQemudSave".to_vec();
    for number in [2, data.len(), 1, 0, cookie_offset] {
        bytes.extend(u32::try_from(number).expect("small").to_le_bytes());
    }
    bytes.extend([0; 56]);
    bytes.extend(data);
    bytes.extend(STREAM);
    bytes
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("memory.save");
        fs::write(&path, bytes).expect("written");
        path
    }
}

#[test]
fn the_same_memory_under_another_document() {
    let bench = Bench::new();
    for cookie in ["", "<cookie/>"] {
        let original = SaveImage::open(&bench.file(&image("<domain/>", cookie))).expect("known");
        assert_eq!(original.document, "<domain/>");
        let target = bench
            .dir
            .path()
            .join(format!("fork{cookie}").replace('/', ""));
        for document in ["<domain>a longer one</domain>", "<d/>"] {
            original.write_as(document, &target).expect("written");
            // Exactly the file that libvirt would have written.
            assert_eq!(fs::read(&target).expect("there"), image(document, cookie));
            let read = SaveImage::open(&target).expect("known");
            assert_eq!(read.document, document);
            fs::remove_file(&target).expect("removed");
        }
    }
}

#[test]
fn an_existing_file_is_not_written_over() {
    let bench = Bench::new();
    let path = bench.file(&image("<domain/>", ""));
    let original = SaveImage::open(&path).expect("known");
    let error = original.write_as("<d/>", &path).expect_err("taken");
    assert!(
        matches!(&error, SaveImageError::Io { action: "make", .. }),
        "{error:?}"
    );
    assert_eq!(fs::read(&path).expect("there"), image("<domain/>", ""));
}

#[test]
fn what_is_no_memory_image_of_a_known_kind_is_refused() {
    let good = || image("<domain/>", "<cookie/>");
    let with = |at: usize, value: u32| {
        let mut bytes = good();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let mut partial = good();
    partial[12..16].copy_from_slice(b"Part");
    let mut unended = image("<domain/>", "");
    unended[92 + 9] = b'!';
    let length = u32::try_from(good().len()).expect("small");
    let table = [
        ("its size", b"short".to_vec()),
        ("its size", Vec::new()),
        ("the magic", partial),
        ("the magic", vec![b'x'; 200]),
        ("the version", with(16, 3)),
        ("the stream's format", with(28, 1)),
        // No stream behind it, a length beyond the file, and one that would take all memory.
        ("the data's length", with(20, length - 92)),
        ("the data's length", with(20, length)),
        ("the data's length", with(20, u32::MAX)),
        ("the cookie's offset", with(32, 1000)),
        ("the cookie's offset", with(32, 3)),
        ("the cookie's offset", unended),
    ];
    let bench = Bench::new();
    for (place, (field, bytes)) in table.into_iter().enumerate() {
        match SaveImage::open(&bench.file(&bytes)) {
            Err(SaveImageError::Field { what, .. }) => assert_eq!(what, field, "case {place}"),
            other => panic!("case {place}: {other:?}"),
        }
    }
}
