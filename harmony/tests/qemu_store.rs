//! The host tier of the store of QEMU builds: the machine's own QEMU, taken into a store with everything it
//! needs, and started from there.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use harmony::domain::topology::virtualization::Accelerator;
use harmony::domain::topology::virtualization::VmArchitecture::Aarch64;
use harmony::modules::qemu::QemuProfile::EmulateForeign;
use harmony::modules::qemu::{
    FirmwarePair, IngestOptions, QemuCommand, QemuMachine, QemuStore, ResolvedQemu,
};

const EMULATOR: &str = "/usr/bin/qemu-system-aarch64";
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    store: QemuStore,
}

impl Bench {
    /// A store at a place that has to be quoted.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        // libvirt may start the emulator as another user.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("opened");
        let store = QemuStore::new(&dir.path().join("it's a \"store\"")).expect("usable");
        Self { dir, store }
    }

    /// The machine's QEMU with its libraries, its loader and its firmware, ingested and resolved.
    pub(crate) fn resolved(&self) -> ResolvedQemu {
        let build = self.dir.path().join("build");
        for section in ["bin", "lib", "firmware"] {
            fs::create_dir_all(build.join(section)).expect("made");
        }
        let copy = |from: &Path, section: &str| {
            let name = from.file_name().expect("a file");
            fs::copy(from, build.join(section).join(name)).expect("copied");
        };
        copy(Path::new(EMULATOR), "bin");
        for library in libraries(EMULATOR) {
            copy(&library, "lib");
        }
        for name in ["AAVMF_CODE.fd", "AAVMF_VARS.fd"] {
            copy(&Path::new("/usr/share/AAVMF").join(name), "firmware");
        }
        let name = "this-machine".parse().expect("a name");
        let options = IngestOptions::new(name, EmulateForeign, Aarch64);
        let manifest = self.store.ingest(&build, &options).expect("ingested");
        // Nothing may come from there any more.
        fs::remove_dir_all(&build).expect("removed");
        let qemu = self.store.resolve(EmulateForeign, Aarch64);
        let qemu = qemu.expect("resolved");
        assert_eq!(qemu.manifest, manifest);
        qemu
    }

    fn machine(&self, qemu: &ResolvedQemu, console: PathBuf) -> QemuMachine {
        let template = qemu.firmware(Aarch64).expect("it has firmware");
        let vars = self.dir.path().join("VARS.fd");
        fs::copy(&template.vars, &vars).expect("copied");
        fs::set_permissions(&vars, Permissions::from_mode(0o600)).expect("writable");
        QemuMachine {
            name: "harmony-test-store".to_owned(),
            arch: Aarch64,
            machine: "virt".to_owned(),
            cpu: "cortex-a57".to_owned(),
            accelerator: Accelerator::Tcg,
            vcpus: 1,
            memory_mib: 256,
            firmware: Some(FirmwarePair {
                code: template.code,
                vars,
            }),
            disks: Vec::new(),
            user_network_ssh_port: None,
            console_log: console,
            qmp_socket: self.dir.path().join("qmp"),
        }
    }
}

/// What the dynamic loader finds for a program, with the loader itself.
fn libraries(program: &str) -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let said = String::from_utf8(output.stdout).expect("text");
    let paths = said.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(PathBuf::from).collect()
}

/// Ended when dropped, by its own process id.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("ended");
        self.0.wait().expect("ended");
    }
}

/// What QEMU has said: a line of the guest's console, or everything of its own when it ended.
enum Said {
    Console(String),
    Ended(String),
}

/// Reads the console's pipe and QEMU's own errors, each as it comes.
fn listen(console: &Path, child: &mut Child) -> Receiver<Said> {
    let (send, receive) = mpsc::channel();
    let of_console = send.clone();
    // Open for writing as well: it does not wait for QEMU, and has no end before it.
    let pipe = fs::File::options().read(true).write(true).open(console);
    let pipe = BufReader::new(pipe.expect("the pipe"));
    std::thread::spawn(move || {
        for line in pipe.split(b'\n') {
            let line = String::from_utf8_lossy(&line.expect("readable")).into_owned();
            if of_console.send(Said::Console(line)).is_err() {
                break;
            }
        }
    });
    let mut errors = child.stderr.take().expect("a pipe");
    std::thread::spawn(move || {
        let mut said = Vec::new();
        errors.read_to_end(&mut said).expect("readable");
        // The test may be over by then.
        let _ = send.send(Said::Ended(String::from_utf8_lossy(&said).into_owned()));
    });
    receive
}

/// The files whose code a process has mapped.
fn mapped_code(pid: u32) -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let code = maps.lines().filter(|line| {
        let permissions = line.split_whitespace().nth(1);
        permissions.is_some_and(|p| p.contains('x'))
    });
    let paths = code.filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..])));
    paths.collect()
}

#[test]
#[ignore = "needs qemu-system-aarch64, ldd, mkfifo, AAVMF firmware: boots it from a store of its own"]
fn the_machines_own_qemu_boots_firmware_from_a_store() {
    let bench = Bench::new();
    let qemu = bench.resolved();
    let tree = qemu.firmware_dir.parent().expect("the tree").to_owned();
    let console = bench.dir.path().join("console, a pipe");
    let status = Command::new("mkfifo").arg(&console).status();
    assert!(status.expect("mkfifo runs").success());
    let machine = bench.machine(&qemu, console.clone());
    let command = QemuCommand::new(qemu.emulator(), &machine).expect("valid");

    let mut command = command.to_command();
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().expect("started"));
    let said = listen(&console, &mut running.0);
    let until = Instant::now() + BOOT_TIMEOUT;
    let mut seen = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match said.recv_timeout(left) {
            Ok(Said::Console(line)) if line.contains("BdsDxe") => break,
            Ok(Said::Console(line)) => seen.push(line),
            Ok(Said::Ended(said)) => panic!("QEMU ended: {said}; console: {seen:?}"),
            Err(error) => panic!("no BdsDxe on the console: {error}; {seen:?}"),
        }
    }
    let code = mapped_code(running.0.id());
    let foreign: Vec<_> = code
        .iter()
        .filter(|path| !path.starts_with(&tree))
        .collect();
    assert_eq!(foreign, Vec::<&PathBuf>::new(), "all code is the store's");
    for name in [
        "bin/qemu-system-aarch64",
        "lib/libc.so.6",
        "lib/libglib-2.0.so.0",
    ] {
        assert!(code.contains(&tree.join(name)), "{name}: {code:?}");
    }
    drop(running);
    assert_eq!(
        bench.store.resolve(EmulateForeign, Aarch64).expect("again"),
        qemu
    );
}

#[test]
#[ignore = "needs libvirt, qemu-system-aarch64, ldd, AAVMF firmware: libvirt asks the wrapper what it can do"]
fn libvirt_takes_the_wrapper_for_an_emulator() {
    let bench = Bench::new();
    let qemu = bench.resolved();
    let mut virsh = Command::new("virsh");
    virsh.args(["domcapabilities", "--arch", "aarch64", "--machine", "virt"]);
    virsh.args(["--virttype", "qemu", "--emulatorbin"]);
    let output = virsh.arg(qemu.emulator()).output().expect("virsh runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let emulator = qemu.emulator().display().to_string();
    let escaped = emulator.replace('\'', "&apos;").replace('"', "&quot;");
    let path = format!("<path>{escaped}</path>");
    for expected in [path.as_str(), "<arch>aarch64</arch>", "<machine>virt-"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
