//! Whether KVM works: by proof, since `/dev/kvm` may be there, open, make a VM, even run a BIOS, and still
//! not run an operating system: on some hosts every instruction of a guest in 64-bit mode is emulated or
//! fails.
//!
//! The proof is a tiny guest. On x86_64 it is a firmware image that enters 64-bit mode, runs 20 million
//! rounds of a loop and then writes to QEMU's `isa-debug-exit` port (`kvm_probe/long_mode_loop.s`): only a
//! guest that executes at a CPU's speed can end QEMU with that exit status in time. On aarch64 it is the same
//! loop and PSCI's SYSTEM_OFF.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use harmony_base::process::{ProcessError, Program};
use serde::{Deserialize, Serialize};

use crate::domain::topology::virtualization::VmArchitecture;

/// The bound of the proof. A guest that executes is done in a tenth of it.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);

/// What the guest writes to the exit port; QEMU then exits with `2 * value + 1`.
const EXIT_VALUE: u8 = 0x10;

/// Whether a guest of the host's own architecture executes under KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase", deny_unknown_fields)]
pub enum KvmProof {
    /// It did.
    Executes,
    /// `/dev/kvm` is not there, or nothing could be tried.
    Absent {
        /// What is missing.
        reason: String,
    },
    /// KVM is there but the guest did not execute.
    Broken {
        /// What was seen.
        reason: String,
    },
}

impl fmt::Display for KvmProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executes => f.write_str("a test guest executed"),
            Self::Absent { reason } => write!(f, "absent: {reason}"),
            Self::Broken { reason } => write!(f, "broken: {reason}"),
        }
    }
}

/// What keeps this user from trying KVM at all.
pub(super) fn kvm_obstacle() -> Option<KvmProof> {
    let device = Path::new("/dev/kvm");
    let reason = match std::fs::File::options().read(true).write(true).open(device) {
        Ok(_) => return None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "/dev/kvm does not exist".to_owned()
        }
        Err(error) => format!("/dev/kvm cannot be opened: {error}"),
    };
    Some(KvmProof::Absent { reason })
}

/// Starts the tiny guest and reports whether it executed. Takes 3 s at most.
pub async fn prove_kvm(own: VmArchitecture, emulator: &Path) -> KvmProof {
    if let Some(absent) = kvm_obstacle() {
        return absent;
    }
    let outcome = match own {
        VmArchitecture::X86_64 => run_x86_64_guest(emulator).await,
        VmArchitecture::Aarch64 => run_aarch64_guest(emulator).await,
    };
    match outcome {
        Ok(Verdict::Executed) => KvmProof::Executes,
        Ok(Verdict::Failed(reason)) => KvmProof::Broken { reason },
        Err(reason) => KvmProof::Absent { reason },
    }
}

/// What became of a test guest that QEMU was started for.
enum Verdict {
    Executed,
    Failed(String),
}

impl Verdict {
    fn of((status, said): (Option<i32>, String), expected: i32) -> Self {
        if status == Some(expected) {
            Self::Executed
        } else {
            Self::Failed(describe(status, &said))
        }
    }
}

/// The last 256 bytes of the firmware image, assembled from `kvm_probe/long_mode_loop.s`.
const LONG_MODE_LOOP: &[u8; 256] = include_bytes!("kvm_probe/long_mode_loop.bin");

/// The firmware image: zeros, and the program at its end.
fn exit_firmware() -> Vec<u8> {
    let mut rom = vec![0_u8; 64 * 1024 - LONG_MODE_LOOP.len()];
    rom.extend_from_slice(LONG_MODE_LOOP);
    rom
}

/// The x86_64 guest's machine, with the port that ends QEMU.
const EXIT_MACHINE: &str = "-machine pc -m 16 -device isa-debug-exit,iobase=0xf4,iosize=1";

/// The aarch64 guest's machine.
const PSCI_OFF_MACHINE: &str = "-machine virt -m 64";

/// QEMU's arguments for a test guest; the firmware's path follows.
fn guest_arguments<'a>(accelerator: &'a str, cpu: &'a str, machine: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["-accel", accelerator, "-cpu", cpu];
    arguments.extend(machine.split_whitespace());
    arguments.extend(["-nodefaults", "-display", "none", "-no-reboot", "-bios"]);
    arguments
}

async fn run_x86_64_guest(emulator: &Path) -> Result<Verdict, String> {
    let rom = write_rom(&exit_firmware())?;
    let program = Program::at("QEMU", emulator)
        .args(guest_arguments("kvm", "host", EXIT_MACHINE))
        .arg(rom.path());
    let expected = i32::from(EXIT_VALUE) * 2 + 1;
    Ok(Verdict::of(run_bounded(program).await?, expected))
}

/// The aarch64 guest: 20 million rounds of a loop, then PSCI's SYSTEM_OFF, on which QEMU exits with 0.
const PSCI_OFF_PROGRAM: [u32; 7] = [
    0x52a0_2621, // movz w1, #0x131, lsl #16
    0x7100_0421, // subs w1, w1, #1
    0x54ff_ffe1, // b.ne -4
    0x5280_0100, // movz w0, #0x8
    0x72b0_8000, // movk w0, #0x8400, lsl #16
    0xd400_0002, // hvc  #0
    0x1400_0000, // b    .
];

fn psci_off_firmware() -> Vec<u8> {
    PSCI_OFF_PROGRAM
        .iter()
        .flat_map(|instruction| instruction.to_le_bytes())
        .collect()
}

async fn run_aarch64_guest(emulator: &Path) -> Result<Verdict, String> {
    let rom = write_rom(&psci_off_firmware())?;
    let program = Program::at("QEMU", emulator)
        .args(guest_arguments("kvm", "host", PSCI_OFF_MACHINE))
        .arg(rom.path());
    Ok(Verdict::of(run_bounded(program).await?, 0))
}

fn write_rom(content: &[u8]) -> Result<tempfile::NamedTempFile, String> {
    let failed = |error: std::io::Error| format!("temporary file: {error}");
    let mut rom = tempfile::NamedTempFile::new().map_err(failed)?;
    rom.write_all(content).map_err(failed)?;
    Ok(rom)
}

/// The exit status, or none when it had to be ended at the bound, and the first line that it said.
async fn run_bounded(program: Program) -> Result<(Option<i32>, String), String> {
    match program.within(PROOF_TIMEOUT).ended().await {
        Ok(ended) => Ok((Some(ended.status.code().unwrap_or(-1)), ended.said.first)),
        Err(ProcessError::TimedOut { said, .. }) => Ok((None, said.first)),
        Err(ProcessError::Run { source, .. }) => {
            Err(format!("QEMU could not be started: {source}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn describe(status: Option<i32>, said: &str) -> String {
    let first = match said {
        "" => "QEMU said nothing",
        said => said,
    };
    match status {
        Some(status) => format!("the test guest did not execute (exit status {status}: {first})"),
        None => format!("the test guest did not execute within {PROOF_TIMEOUT:?} ({first})"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        EXIT_MACHINE, PSCI_OFF_MACHINE, Program, exit_firmware, guest_arguments, psci_off_firmware,
        run_bounded, write_rom,
    };
    use crate::modules::host::qemu::find_program;

    #[test]
    fn the_reset_vector_is_where_the_cpu_looks() {
        let rom = exit_firmware();
        assert_eq!(rom.len(), 65536);
        // A jump back to the program's first instruction, cli.
        assert_eq!(rom[65520], 0xe9);
        let back = i16::from_le_bytes([rom[65521], rom[65522]]);
        let target = usize::try_from(65523 + i32::from(back)).expect("inside the image");
        assert_eq!(rom[target], 0xfa);
    }

    /// Under TCG the guests must end QEMU with the status that the proof looks for.
    #[tokio::test]
    #[ignore = "needs qemu-system-x86_64 and -aarch64: runs guests of a few instructions"]
    async fn the_guests_end_qemu_with_the_expected_status() {
        let table = [
            (
                "qemu-system-x86_64",
                guest_arguments("tcg", "max", EXIT_MACHINE),
                exit_firmware(),
                33,
            ),
            (
                "qemu-system-aarch64",
                guest_arguments("tcg", "max", PSCI_OFF_MACHINE),
                psci_off_firmware(),
                0,
            ),
        ];
        for (program, arguments, firmware, expected) in table {
            let emulator = find_program(program).expect("the emulator is on PATH");
            let rom = write_rom(&firmware).expect("written");
            let run = Program::at(program, &emulator).args(arguments);
            let (status, said) = run_bounded(run.arg(rom.path())).await.expect("started");
            assert_eq!(status, Some(expected), "{program}: {said}");
        }
    }

    #[test]
    #[ignore = "needs as and ld for x86: assembles kvm_probe/long_mode_loop.s"]
    fn the_bytes_are_those_of_the_source() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = here.join("src/modules/host/kvm_probe/long_mode_loop.s");
        let run = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            let status = command.args(arguments).current_dir(dir.path()).status();
            assert!(status.expect("on PATH").success(), "{program}");
        };
        let source = source.to_str().expect("UTF-8");
        run("as", &["--64", source, "-o", "loop.o"]);
        let link = "-Ttext=0 -e 0 --oformat binary loop.o -o loop.rom";
        run("ld", &link.split(' ').collect::<Vec<_>>());
        let rom = std::fs::read(dir.path().join("loop.rom")).expect("linked");
        assert_eq!(rom[rom.len() - 256..], super::LONG_MODE_LOOP[..]);
    }
}
