//! A machine as a plain QEMU command line, for hosts without libvirt.
//!
//! ```
//! # use harmony::modules::qemu::command::{QemuCommand, QemuMachine};
//! # fn start(machine: &QemuMachine) -> Result<(), Box<dyn std::error::Error>> {
//! let command = QemuCommand::new("/usr/bin/qemu-system-aarch64".as_ref(), machine)?;
//! let mut qemu = command.to_command().spawn()?;
//! # qemu.wait()?; Ok(()) }
//! ```

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::resolved::FirmwarePair;
use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::{Accelerator, VmArchitecture};

#[cfg(test)]
pub(super) mod tests;

/// How a disk's content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QemuDiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

/// A virtio disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuDisk {
    /// The image.
    pub path: PathBuf,
    /// Its format. It is never guessed from the content, which the guest writes.
    pub format: QemuDiskFormat,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A machine that needs nothing of the host but files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuMachine {
    /// The guest's name: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit.
    pub name: String,
    /// The guest's architecture.
    pub arch: VmArchitecture,
    /// QEMU's machine, with properties: `virt-10.0,gic-version=3`.
    pub machine: String,
    /// QEMU's CPU, with properties: `cortex-a76`.
    pub cpu: String,
    /// Who executes the guest's instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs, 1 to 255.
    pub vcpus: u32,
    /// Memory in MiB, at least 128.
    pub memory_mib: u64,
    /// UEFI firmware; `vars` is the guest's own copy. A machine of x86_64 has a BIOS without it, and one of
    /// aarch64 nothing to boot.
    pub firmware: Option<FirmwarePair>,
    /// At most 63 disks, in the order in which the guest sees them.
    pub disks: Vec<QemuDisk>,
    /// The TCP port of 127.0.0.1 that leads to the guest's SSH. Without it the guest has no network.
    pub user_network_ssh_port: Option<NonZeroU16>,
    /// Where the serial console is written to, after what is there.
    pub console_log: PathBuf,
    /// Where QEMU listens for QMP, at most 107 bytes. Whoever may write to it owns the guest.
    pub qmp_socket: PathBuf,
}

/// Why there is no command line, or no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is '{value}' (expected {expected})")]
pub struct CommandError {
    /// The field, as in `disks[1].path`.
    pub field: String,
    /// What it is, cut to what a reader needs.
    pub value: String,
    /// What it must be.
    pub expected: &'static str,
}

impl HintedError for CommandError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidRequest
    }
}

pub(super) fn refused(
    field: &str,
    value: impl AsRef<OsStr>,
    expected: &'static str,
) -> CommandError {
    CommandError {
        field: field.to_owned(),
        value: value.as_ref().to_string_lossy().chars().take(120).collect(),
        expected,
    }
}

/// An emulator and its arguments, and what the guest is called and touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuCommand {
    emulator: PathBuf,
    arguments: Vec<OsString>,
    pub(super) machine: QemuMachine,
}

impl QemuCommand {
    /// The command line that starts `machine` with an emulator: a
    /// [`ResolvedQemu::emulator`](super::resolved::ResolvedQemu::emulator), or the host's own.
    ///
    /// # Errors
    /// [`CommandError`] for the first field that cannot be.
    pub fn new(emulator: &Path, machine: &QemuMachine) -> Result<Self, CommandError> {
        check(emulator, machine)?;
        Ok(Self {
            emulator: emulator.to_owned(),
            arguments: arguments(machine),
            machine: machine.clone(),
        })
    }

    /// The program.
    pub fn emulator(&self) -> &Path {
        &self.emulator
    }

    /// Its arguments, without the program.
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// The command, ready to be started.
    pub fn to_command(&self) -> Command {
        let mut command = Command::new(&self.emulator);
        command.args(&self.arguments);
        command
    }
}

fn check(emulator: &Path, machine: &QemuMachine) -> Result<(), CommandError> {
    let name = &machine.name;
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    if !(1..=63).contains(&name.len())
        || !name.starts_with(alphanumeric)
        || !name.chars().all(|c| alphanumeric(c) || "-_.".contains(c))
    {
        let expected = "1 to 63 letters, digits, '-', '_' or '.', beginning with a letter or digit";
        return Err(refused("name", name, expected));
    }
    for (field, value) in [("machine", &machine.machine), ("cpu", &machine.cpu)] {
        if !value.starts_with(alphanumeric)
            || !value
                .chars()
                .all(|c| alphanumeric(c) || "-_.,=+".contains(c))
        {
            let expected = "a name of QEMU's, with NAME=VALUE properties after commas";
            return Err(refused(field, value, expected));
        }
    }
    if !(1..=255).contains(&machine.vcpus) {
        return Err(refused("vcpus", machine.vcpus.to_string(), "1 to 255"));
    }
    if machine.memory_mib < 128 {
        let value = machine.memory_mib.to_string();
        return Err(refused("memory_mib", value, "at least 128"));
    }
    if machine.firmware.is_none() && machine.arch == VmArchitecture::Aarch64 {
        return Err(refused("firmware", "none", "a pair, for an aarch64 guest"));
    }
    if machine.disks.len() > 63 {
        return Err(refused(
            "disks",
            machine.disks.len().to_string(),
            "at most 63",
        ));
    }
    if machine.qmp_socket.as_os_str().len() > 107 {
        return Err(refused(
            "qmp_socket",
            &machine.qmp_socket,
            "at most 107 bytes",
        ));
    }
    check_path("emulator", emulator)?;
    files(machine).try_for_each(|(field, path, _)| check_path(&field, path))
}

fn check_path(field: &str, path: &Path) -> Result<(), CommandError> {
    match path.is_absolute() && !path.as_os_str().as_bytes().contains(&0) {
        true => Ok(()),
        false => Err(refused(field, path, "an absolute path without a NUL")),
    }
}

/// What QEMU does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Made in its directory.
    Create,
}

/// Every file of a machine, with the field it is from.
pub(super) fn files(machine: &QemuMachine) -> impl Iterator<Item = (String, &Path, Access)> {
    let firmware = machine.firmware.iter().flat_map(|pair| {
        [
            (
                "firmware.code".to_owned(),
                pair.code.as_path(),
                Access::Read,
            ),
            (
                "firmware.vars".to_owned(),
                pair.vars.as_path(),
                Access::Write,
            ),
        ]
    });
    let disks = machine.disks.iter().enumerate().map(|(index, disk)| {
        let access = match disk.read_only {
            true => Access::Read,
            false => Access::Write,
        };
        (format!("disks[{index}].path"), disk.path.as_path(), access)
    });
    let made = [
        (
            "console_log".to_owned(),
            machine.console_log.as_path(),
            Access::Create,
        ),
        (
            "qmp_socket".to_owned(),
            machine.qmp_socket.as_path(),
            Access::Create,
        ),
    ];
    firmware.chain(disks).chain(made)
}

fn arguments(machine: &QemuMachine) -> Vec<OsString> {
    let accelerator = match machine.accelerator {
        Accelerator::Kvm => "kvm",
        // As many threads as QEMU finds right: one where the guest's memory model is stronger.
        Accelerator::Tcg => "tcg",
    };
    let mut words: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
    option("-name", format!("guest={}", machine.name).into());
    option("-machine", machine.machine.clone().into());
    option("-accel", accelerator.into());
    option("-cpu", machine.cpu.clone().into());
    option("-smp", machine.vcpus.to_string().into());
    option("-m", format!("{}M", machine.memory_mib).into());
    if let Some(pair) = &machine.firmware {
        let drive = |unit, read_only| {
            format!(
                "if=pflash,unit={unit},format=raw,readonly={},file=",
                on_off(read_only)
            )
        };
        option("-drive", with_path(&drive(0, true), &pair.code, ""));
        option("-drive", with_path(&drive(1, false), &pair.vars, ""));
    }
    for (index, disk) in machine.disks.iter().enumerate() {
        let driver = match disk.format {
            QemuDiskFormat::Raw => "raw",
            QemuDiskFormat::Qcow2 => "qcow2",
        };
        let start = format!(
            "driver={driver},node-name=disk{index},read-only={},file.driver=file,file.filename=",
            on_off(disk.read_only)
        );
        option("-blockdev", with_path(&start, &disk.path, ""));
        option(
            "-device",
            format!("virtio-blk-pci,drive=disk{index}").into(),
        );
    }
    if let Some(port) = machine.user_network_ssh_port {
        let forward = format!("user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22");
        option("-netdev", forward.into());
        // No option ROM: UEFI firmware has a driver of its own, and a build need not bring the file.
        option("-device", "virtio-net-pci,netdev=net0,romfile=".into());
    }
    option("-device", "virtio-rng-pci".into());
    let console = with_path("file,id=console,path=", &machine.console_log, ",append=on");
    option("-chardev", console);
    option("-serial", "chardev:console".into());
    let qmp = with_path(
        "socket,id=qmp,path=",
        &machine.qmp_socket,
        ",server=on,wait=off",
    );
    option("-chardev", qmp);
    option("-mon", "chardev=qmp,mode=control".into());
    option("-display", "none".into());
    words.extend(["-nodefaults", "-no-user-config"].map(OsString::from));
    words
}

fn on_off(value: bool) -> &'static str {
    match value {
        true => "on",
        false => "off",
    }
}

/// An option with a path in it: in QEMU's syntax a comma ends a value, and two are one.
fn with_path(start: &str, path: &Path, end: &str) -> OsString {
    let mut option = start.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        option.extend(std::iter::repeat_n(*byte, 1 + usize::from(*byte == b',')));
    }
    option.extend_from_slice(end.as_bytes());
    OsString::from_vec(option)
}
