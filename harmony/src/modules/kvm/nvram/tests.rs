use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{ensure_nvram, replace_nvram};
use crate::modules::kvm::error::KvmError;

/// A directory with a template of 4 MiB, one byte of which is not zero.
struct Vm {
    dir: tempfile::TempDir,
    template: PathBuf,
    target: PathBuf,
    content: Vec<u8>,
}

impl Vm {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (template, target) = (dir.path().join("template"), dir.path().join("vm-VARS.fd"));
        let mut content = vec![0_u8; 4 << 20];
        content[1_000_000] = 7;
        fs::write(&template, &content).expect("written");
        Self {
            dir,
            template,
            target,
            content,
        }
    }

    fn files(&self) -> usize {
        fs::read_dir(self.dir.path()).expect("listed").count()
    }

    fn assert_fresh(&self) {
        assert!(fs::read(&self.target).expect("read") == self.content);
        let metadata = fs::metadata(&self.target).expect("there");
        assert!(
            metadata.blocks() * 512 <= 128 * 1024,
            "{} blocks",
            metadata.blocks()
        );
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert_eq!(self.files(), 2, "nothing else is left");
    }
}

#[test]
fn copies_sparsely_once_and_keeps_what_is_there() {
    let vm = Vm::new();
    assert!(ensure_nvram(&vm.template, &vm.target).expect("made"));
    vm.assert_fresh();

    fs::write(&vm.target, b"the guest's own").expect("written");
    assert!(!ensure_nvram(&vm.template, &vm.target).expect("kept"));
    assert_eq!(fs::read(&vm.target).expect("read"), b"the guest's own");
}

#[test]
#[cfg(feature = "kvm")]
fn a_store_that_was_written_whole_takes_no_more_than_what_is_in_it() {
    let vm = Vm::new();
    ensure_nvram(&vm.template, &vm.target).expect("made");
    // Over what is there, as QEMU does.
    let mut store = fs::File::options()
        .write(true)
        .open(&vm.target)
        .expect("ours");
    std::io::Write::write_all(&mut store, &vm.content).expect("written");
    store.sync_all().expect("on the disk");
    let blocks = || fs::metadata(&vm.target).expect("there").blocks() * 512;
    assert!(blocks() >= 4 << 20, "{}", blocks());
    super::release_zeros(&vm.target).expect("released");
    vm.assert_fresh();
}

#[test]
fn replacing_gives_a_fresh_store_whether_there_was_one_or_not() {
    let vm = Vm::new();
    replace_nvram(&vm.template, &vm.target).expect("made");
    vm.assert_fresh();
    let (content, before) = (vec![0xff; 8 << 20], fs::metadata(&vm.target));
    fs::write(&vm.target, content).expect("written");
    replace_nvram(&vm.template, &vm.target).expect("replaced");
    vm.assert_fresh();
    let after = fs::metadata(&vm.target).expect("there");
    assert_ne!(
        after.ino(),
        before.expect("there").ino(),
        "another file took its place"
    );
}

#[test]
fn a_failure_leaves_what_was_there() {
    let vm = Vm::new();
    let absent = vm.dir.path().join("absent");
    let failures = [
        ensure_nvram(&absent, &vm.target).map(|_| ()),
        replace_nvram(&absent, &vm.target),
    ];
    for error in failures {
        assert!(
            matches!(&error, Err(KvmError::Io { path, .. }) if *path == absent),
            "{error:?}"
        );
        assert_eq!(vm.files(), 1);
    }
    fs::write(&vm.target, b"the guest's own").expect("written");
    replace_nvram(&absent, &vm.target).expect_err("there is no template");
    assert_eq!(fs::read(&vm.target).expect("read"), b"the guest's own");

    fs::remove_file(&vm.target).expect("removed");
    fs::create_dir(&vm.target).expect("created");
    let error = replace_nvram(&vm.template, &vm.target);
    assert!(
        matches!(&error, Err(KvmError::Io { action: "replace", path, .. }) if *path == vm.target),
        "{error:?}"
    );
    assert_eq!(vm.files(), 2);
}

/// A guest, ended with its test.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.kill().expect("ours to end");
        self.0.wait().expect("ended");
    }
}

fn to_qcow2(source: &str, target: &Path) {
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([Path::new(source), target])
        .status()
        .expect("qemu-img runs");
    assert!(status.success());
}

/// Runs the firmware until it looks for something to boot.
fn boot(code: &Path, nvram: &Path) {
    const BOUND: Duration = Duration::from_secs(120);
    let pflash = |path: &Path, more: &str| {
        let path = path.display();
        format!("if=pflash,format=qcow2{more},file={path}")
    };
    let child = Command::new("qemu-system-aarch64")
        .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
        .args(["-machine", "virt", "-cpu", "cortex-a57", "-accel", "tcg"])
        .args(["-m", "512", "-drive", &pflash(code, ",readonly=on")])
        .args(["-drive", &pflash(nvram, "")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-system-aarch64 runs");
    let mut guest = Guest(child);
    let console = BufReader::new(guest.0.stdout.take().expect("piped"));
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let begin = Instant::now();
    let mut seen = String::new();
    while !seen.contains("BdsDxe: ") {
        let left = BOUND.saturating_sub(begin.elapsed());
        let line = lines.recv_timeout(left);
        let line = line.unwrap_or_else(|e| panic!("{e} within {BOUND:?}; last seen: {seen}"));
        seen = String::from_utf8_lossy(&line).into_owned();
    }
    drop((guest, lines));
    reader.join().expect("ends with the guest");
}

#[test]
#[ignore = "needs qemu-system-aarch64, qemu-img and AAVMF: boots the firmware twice from qcow2 flash"]
fn a_qcow2_store_is_used_by_the_firmware() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let [code, template, nvram] =
        ["code.qcow2", "template.qcow2", "vm-VARS.fd"].map(|name| dir.path().join(name));
    to_qcow2("/usr/share/AAVMF/AAVMF_CODE.fd", &code);
    to_qcow2("/usr/share/AAVMF/AAVMF_VARS.fd", &template);
    let fresh = fs::read(&template).expect("read");
    assert!(ensure_nvram(&template, &nvram).expect("made"));
    assert!(fs::read(&nvram).expect("read") == fresh, "copied as it is");

    boot(&code, &nvram);
    // A template of Debian 13 has all of its clusters, so the file need not have grown.
    assert!(
        fs::read(&nvram).expect("read") != fresh,
        "the firmware has stored its variables"
    );
    assert!(
        fs::read(&template).expect("read") == fresh,
        "the template is as it was"
    );

    replace_nvram(&template, &nvram).expect("replaced");
    assert!(fs::read(&nvram).expect("read") == fresh);
    boot(&code, &nvram);
}
