//! What was in a tree for the time of its installation is gone from it afterwards.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gpt::GptConfig;

use super::SCRIPT;
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::test_images::TestImages;

/// The machine numbers of ELF files for aarch64, x86_64 and x86.
const AARCH64: u16 = 183;
const X86: [u16; 2] = [62, 3];

fn run(stage: &str, tree: &Path) {
    let script = format!("stage={stage}\n{SCRIPT}");
    let output = Command::new("sh")
        .args(["-c", &script, "exec"])
        .arg(tree)
        .output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{stage}: {output:?}");
}

/// Every file and link below `root`, with its content.
fn snapshot(root: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let mut all = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path
                .strip_prefix(root)
                .expect("below")
                .display()
                .to_string();
            let meta = fs::symlink_metadata(&path).expect("there");
            if meta.is_dir() {
                open.push(path);
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                all.insert((name, target.as_os_str().as_encoded_bytes().to_vec()));
            } else {
                all.insert((name, fs::read(&path).expect("readable")));
            }
        }
    }
    all
}

#[test]
fn a_tree_is_its_own_again_when_the_native_programs_have_left() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tree = dir.path();
    let write = |path: &str, content: &[u8]| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("writable");
    };
    write("usr/bin/dash", b"\x7fELF own dash");
    write("usr/bin/sed", b"\x7fELF own sed");
    write("usr/bin/which", b"#!/bin/sh own script");
    write("usr/sbin/useradd", b"\x7fELF own useradd");
    write("usr/lib/libc.so.6", b"\x7fELF own library");
    write("etc/apt/apt.conf.d/99mmdebstrap", b"x");
    symlink("dash", tree.join("usr/bin/sh")).expect("linked");
    let before = snapshot(tree);

    for (path, content) in [
        ("usr/bin/dash", b"\x7fELF native dash".as_slice()),
        ("usr/bin/sed", b"\x7fELF native sed"),
        ("usr/bin/which", b"#!/bin/sh native script"),
        ("usr/bin/dpkg", b"\x7fELF native dpkg"),
        ("usr/bin/xz", b"\x7fELF native, not in the tree"),
        ("usr/bin/python3.11", b"\x7fELF native python"),
        ("usr/bin/python3", b"\x7fELF native python"),
        ("usr/bin/py3compile", b"#! /usr/bin/python3\nimport x\n"),
        ("usr/bin/py3clean", b"#! /usr/bin/python3\nimport x\n"),
        ("usr/sbin/useradd", b"\x7fELF native useradd"),
    ] {
        write(&format!("harmony-native/{path}"), content);
    }
    run("enter", tree);
    run("take", tree);
    let read = |path: &str| fs::read(tree.join(path)).expect(path);
    assert_eq!(read("usr/bin/dash"), b"\x7fELF native dash");
    assert_eq!(read("usr/sbin/useradd"), b"\x7fELF native useradd");
    assert_eq!(read("usr/bin/which"), b"#!/bin/sh own script");
    assert!(!tree.join("harmony-native/usr/bin/dpkg").exists());
    assert!(!tree.join("harmony-native/usr/bin/python3").exists());
    let compile = read("harmony-native/usr/bin/py3compile");
    assert!(
        compile.starts_with(b"#!/harmony-native/usr/bin/python3.11\n"),
        "{compile:?}"
    );
    // A package that is upgraded meanwhile brings a program of its own.
    fs::write(tree.join("usr/bin/sed"), b"\x7fELF newer sed").expect("writable");
    run("leave", tree);

    let mut expected = before;
    expected.remove(&("usr/bin/sed".to_owned(), b"\x7fELF own sed".to_vec()));
    expected.insert(("usr/bin/sed".to_owned(), b"\x7fELF newer sed".to_vec()));
    assert_eq!(snapshot(tree), expected);
}

/// The machine number of an ELF file that begins like this.
fn elf_machine(head: &[u8]) -> Option<u16> {
    let machine = [*head.get(18)?, *head.get(19)?];
    let is_elf = head.starts_with(b"\x7fELF\x02\x01\x01");
    is_elf.then_some(u16::from_le_bytes(machine))
}

/// The machine numbers of the ELF files on a disk: files begin at its blocks.
fn elf_machines_of_files(mut disk: File) -> BTreeSet<u16> {
    let mut machines = BTreeSet::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = disk.read(&mut chunk).expect("readable");
        if length == 0 {
            return machines;
        }
        machines.extend(chunk[..length].chunks(4096).filter_map(elf_machine));
    }
}

fn assert_arm64(machines: &BTreeSet<u16>) {
    assert!(machines.contains(&AARCH64), "{machines:?}");
    assert!(
        !X86.iter().any(|x86| machines.contains(x86)),
        "{machines:?}"
    );
}

#[tokio::test]
#[ignore = "needs root or subordinate ids, mmdebstrap and a Debian mirror: builds an arm64 image and looks into it, 4 min"]
async fn an_image_for_another_architecture_has_no_program_of_this_host() {
    let images = TestImages::new();
    let image = images.debian_12(VmArchitecture::Aarch64).await;
    let dir = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
    let (disk, initrd) = (dir.path().join("disk.raw"), dir.path().join("initrd"));
    let tool = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let raw = disk.to_str().expect("text");
    tool(
        "qemu-img",
        &["convert", "-O", "raw", image.to_str().expect("text"), raw],
    );
    assert_arm64(&elf_machines_of_files(File::open(&disk).expect("readable")));

    // The initial file system is packed: it is looked into by itself.
    let table = GptConfig::new().open(&disk).expect("a partition table");
    let root = table
        .partitions()
        .values()
        .max_by_key(|part| part.first_lba);
    let offset = root.expect("a partition").first_lba * 512;
    let file_system = format!("{raw}?offset={offset}");
    let names = tool("debugfs", &["-R", "ls -p /boot", &file_system]);
    let mut names = names
        .split('/')
        .filter(|name| name.starts_with("initrd.img"));
    let name = names.next().expect("an initial file system");
    // The boot loader knows kernel and initial file system by links.
    let links = tool("debugfs", &["-R", "ls -p /", &file_system]);
    for link in ["/vmlinuz/", "/initrd.img/"] {
        assert!(links.contains(link), "{link} in {links}");
    }
    let dump = format!("dump /boot/{name} {}", initrd.display());
    tool("debugfs", &["-R", &dump, &file_system]);
    let mut unpacked = Vec::new();
    let packed = File::open(&initrd).expect("readable");
    let read = flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut unpacked);
    read.expect("gzip");
    assert_arm64(&unpacked.windows(20).filter_map(elf_machine).collect());
}
