use std::io::{BufReader, Read, Write};

use reqwest::Url;

use super::Packing;

fn plain() -> Vec<u8> {
    (0..300_000_u32)
        .flat_map(|n| (n / 7).to_le_bytes())
        .collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(data).expect("in memory");
    writer.finish().expect("in memory")
}

fn xz(data: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).expect("known options");
    writer.write_all(data).expect("in memory");
    writer.finish().expect("in memory")
}

fn zstd(data: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(data, CompressionLevel::Fastest)
}

fn unpack(packing: Packing, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    packing.reader(BufReader::new(data)).read_to_end(&mut out)?;
    Ok(out)
}

type Pack = fn(&[u8]) -> Vec<u8>;

#[test]
fn files_of_one_part_and_of_several_are_unpacked() {
    let plain = plain();
    let table: [(Packing, Pack); 3] = [
        (Packing::Gzip, gzip),
        (Packing::Xz, xz),
        (Packing::Zstd, zstd),
    ];
    for (packing, pack) in table {
        let (first, second) = plain.split_at(500_000);
        let one = pack(&plain);
        let two = [pack(first), pack(second)].concat();
        for packed in [&one, &two] {
            assert_eq!(Packing::of_magic(packed), Some(packing));
            assert!(
                unpack(packing, packed).expect("whole") == plain,
                "{packing}"
            );
        }
        let cut = unpack(packing, &one[..one.len() - 9]);
        assert!(cut.is_err(), "{packing}: a cut file is no whole one");
        let mut flipped = one.clone();
        flipped[one.len() / 2] ^= 0x10;
        let flipped = unpack(packing, &flipped);
        assert!(flipped.is_err(), "{packing}: a flipped bit is found");
        let tailed = [one.as_slice(), b"what is this?"].concat();
        assert!(unpack(packing, &tailed).is_err(), "{packing}: a tail");
    }
}

#[test]
fn skippable_zstd_frames_are_passed_over() {
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let packed = [zstd(b"a"), skippable.to_vec(), zstd(b"b")].concat();
    assert_eq!(unpack(Packing::Zstd, &packed).expect("whole"), b"ab");
    let cut = [zstd(b"a"), skippable[..9].to_vec()].concat();
    assert!(unpack(Packing::Zstd, &cut).is_err());
}

#[test]
fn a_window_larger_than_the_bound_is_refused_before_memory_is_taken() {
    // A zstd frame header that asks for a window of 2 GiB: exponent 21, mantissa 0.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0];
    let error = unpack(Packing::Zstd, &frame).expect_err("too large");
    assert!(error.to_string().contains("window"), "{error}");
}

#[test]
fn only_images_and_what_is_named_as_compressed_is_unpacked() {
    let of = |url: &str, head: &[u8]| Packing::of(&Url::parse(url).expect("a URL"), head);
    let gz: &[u8] = b"\x1f\x8b\x08\0\0\0";
    let table = [
        ("http://e.org/disk.qcow2.gz", gz, Some(Packing::Gzip)),
        ("http://e.org/disk.img", gz, Some(Packing::Gzip)),
        (
            "http://e.org/DISK.RAW.XZ",
            b"\xfd7zXZ\0".as_slice(),
            Some(Packing::Xz),
        ),
        (
            "http://e.org/d.zst",
            b"\x28\xb5\x2f\xfd\0\0",
            Some(Packing::Zstd),
        ),
        ("http://e.org/disk.img.gz", b"QFI\xfb\0\0", None),
        ("http://e.org/initrd", gz, None),
        ("http://e.org/vmlinuz-6.1", gz, None),
        ("http://e.org/disk.img", b"\x1f", None),
    ];
    for (url, head, expected) in table {
        assert_eq!(of(url, head), expected, "{url}");
    }
    let inner = |url: &str| Packing::inner_extension(&Url::parse(url).expect("a URL"));
    assert_eq!(inner("http://e.org/disk.qcow2.xz"), "qcow2");
    assert_eq!(inner("http://e.org/disk.img"), "img");
    assert_eq!(inner("http://e.org/disk.zst"), "img");
    assert_eq!(inner("http://e.org/disk.RAW.GZ"), "raw");
}
