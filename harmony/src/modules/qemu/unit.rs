//! A machine as a systemd unit, for hosts without libvirt.
//!
//! The unit needs systemd 245 or newer. Stopping it ends QEMU with SIGTERM, on which QEMU writes its images
//! out: to the guest it is a power cut. Shut the guest down through QMP or SSH before.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::command::{Access, CommandError, QemuCommand, files, refused};
use crate::domain::topology::virtualization::Accelerator;

/// What holds for every machine. Left out is what QEMU cannot live with: `MemoryDenyWriteExecute` (its
/// translator writes code), `PrivateDevices` (hides `/dev/kvm`), `PrivateTmp` (files may be there),
/// `PrivateNetwork` and `IPAddressDeny` (the user network is QEMU's own), `ProtectProc`.
const HARDENING: &str = "\
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
UMask=0077
DevicePolicy=closed
";

/// The text of a unit that runs a machine, as `user` or else as root. It writes only to the machine's own
/// writable images, and in the directories of its log and its socket; all of them must be there, and
/// belong to the user.
///
/// # Errors
/// [`CommandError`] for a value that a unit cannot have: a control character, such as a newline, or bytes
/// that are no UTF-8; for an emulator with a quote or a backslash in its path; and for a user that is no
/// name.
pub fn systemd_unit(command: &QemuCommand, user: Option<&str>) -> Result<String, CommandError> {
    let mut unit = format!(
        "[Unit]\nDescription=Virtual machine {}\nAfter=network.target\n\n[Service]\nType=exec\n",
        command.machine.name
    );
    unit.push_str("ExecStart=:");
    unit.push_str(&word("emulator", program(command)?)?);
    for argument in command.arguments() {
        unit.push(' ');
        unit.push_str(&word("argument", argument.as_bytes())?);
    }
    unit.push_str("\nRestart=on-failure\nRestartSec=5\nTimeoutStopSec=60\n");
    if let Some(user) = user {
        unit.push_str(&format!("User={}\n", checked_user(user)?));
    }
    unit.push_str(HARDENING);
    if command.machine.accelerator == Accelerator::Kvm {
        unit.push_str("DeviceAllow=/dev/kvm rw\n");
    }
    for path in writable(command) {
        if path == Path::new("/") {
            let expected =
                "a path below some directory: a unit that may write to / has no protection left";
            return Err(refused(
                "console_log, qmp_socket",
                path.as_os_str(),
                expected,
            ));
        }
        unit.push_str(&format!(
            "ReadWritePaths={}\n",
            word("path", path.as_os_str().as_bytes())?
        ));
    }
    unit.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    Ok(unit)
}

/// The writable images, and the directories in which files are made.
fn writable(command: &QemuCommand) -> BTreeSet<&Path> {
    let paths = files(&command.machine).filter_map(|(_, path, access)| match access {
        Access::Read => None,
        Access::Write => Some(path),
        Access::Create => path.parent(),
    });
    paths.collect()
}

/// systemd starts no program with a quote or a backslash in its path.
fn program(command: &QemuCommand) -> Result<&[u8], CommandError> {
    let path = command.emulator().as_os_str();
    let special = |byte: &u8| matches!(byte, b'"' | b'\'' | b'\\');
    match path.as_bytes().iter().any(special) {
        true => Err(refused(
            "emulator",
            path,
            "a path without quotes and backslashes, for a systemd unit",
        )),
        false => Ok(path.as_bytes()),
    }
}

fn checked_user(user: &str) -> Result<&str, CommandError> {
    let valid = (1..=31).contains(&user.len())
        && user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
    match valid {
        true => Ok(user),
        false => Err(refused("user", user, "a system user's name")),
    }
}

/// The text, when a unit can have it.
fn text<'a>(field: &str, value: &'a [u8]) -> Result<&'a str, CommandError> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains(char::is_control) => Ok(text),
        _ => Err(refused(
            field,
            String::from_utf8_lossy(value).as_ref(),
            "UTF-8 without control characters, for a systemd unit",
        )),
    }
}

/// A word of `ExecStart=` or of a list of paths: between double quotes, in which a backslash escapes. `%`
/// begins a specifier everywhere; `$` is nothing special after the prefix `:`.
fn word(field: &str, value: &[u8]) -> Result<String, CommandError> {
    let text = text(field, value)?;
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::{Accelerator, systemd_unit, word};
    use crate::modules::qemu::command::tests::arm;
    use crate::modules::qemu::command::{QemuCommand, QemuMachine};

    fn command(emulator: &str, machine: &QemuMachine) -> QemuCommand {
        QemuCommand::new(Path::new(emulator), machine).expect("valid")
    }

    #[test]
    fn the_unit_of_an_arm64_guest() {
        let unit = systemd_unit(&command("/opt/qemu 10%/qemu", &arm()), Some("vm")).expect("text");
        let golden = include_str!("unit/device.service");
        assert_eq!(unit, golden);
        let kvm = QemuMachine {
            accelerator: Accelerator::Kvm,
            ..arm()
        };
        let unit = systemd_unit(&command("/q", &kvm), None).expect("text");
        assert!(
            unit.contains("\nDeviceAllow=/dev/kvm rw\n") && !unit.contains("User="),
            "{unit}"
        );
    }

    #[test]
    fn words() {
        let table = [
            ("/a", "\"/a\""),
            ("/a b;c", "\"/a b;c\""),
            ("/50%", "\"/50%%\""),
            ("/$HOME/${x}", "\"/$HOME/${x}\""),
            ("/it's", "\"/it's\""),
            ("/\"a\"", r#""/\"a\"""#),
            (r"/a\b", r#""/a\\b""#),
            (r"/a\", r#""/a\\""#),
            ("/ü", "\"/ü\""),
        ];
        for (value, expected) in table {
            assert_eq!(
                word("x", value.as_bytes()).as_deref(),
                Ok(expected),
                "{value}"
            );
        }
    }

    #[test]
    fn what_no_unit_can_have_is_refused() {
        let newline = QemuMachine {
            console_log: "/vm/a\nExecStartPre=/bin/x".into(),
            ..arm()
        };
        let error = systemd_unit(&command("/q", &newline), None).expect_err("a newline");
        assert_eq!(error.field, "argument");
        for bad in [&b"/\xff"[..], b"/a\rb", b"/a\tb", b"/a\0"] {
            assert!(word("x", bad).is_err(), "{bad:?}");
        }
        for emulator in ["/it's", "/\"q\"", r"/a\b"] {
            let error = systemd_unit(&command(emulator, &arm()), None).expect_err(emulator);
            assert_eq!(error.field, "emulator");
        }
        for user in ["", "Root", "a b", "vm\nGroup=root", "1", "%u"] {
            let error = systemd_unit(&command("/q", &arm()), Some(user)).expect_err(user);
            assert_eq!(error.field, "user");
        }
    }

    /// What systemd has read, as it says it: the command's words, and the writable paths.
    fn read_by_systemd(unit: &Path) -> (Vec<String>, String) {
        let mut verify = Command::new("systemd-analyze");
        verify.env("SYSTEMD_LOG_LEVEL", "debug");
        let verify = verify.args(["verify", "--man=no"]).arg(unit);
        let output = verify.output().expect("systemd-analyze runs");
        let dump = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let value = |key: &str| {
            let mut lines = dump.lines().filter_map(|l| l.trim().strip_prefix(key));
            lines.next().expect(key).trim().to_owned()
        };
        let words = shlex::split(&value("Command Line:")).expect("quoted");
        (words, value("ReadWritePaths:"))
    }

    #[test]
    #[ignore = "needs systemd-analyze: has it read units with awkward paths"]
    fn systemd_reads_it_as_it_is_meant() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let names = [
            "plain",
            "a b",
            "50% of $HOME",
            "it's \"quoted\"",
            r"a\back\\slash",
            "a;",
            "%h",
        ];
        for name in names {
            let vm = dir.path().join(name);
            fs::create_dir(&vm).expect("made");
            let emulator = dir.path().join("50% of $HOME; 1");
            fs::copy("/bin/true", &emulator).expect("a program");
            let machine = QemuMachine {
                console_log: vm.join("console.log"),
                qmp_socket: vm.join("qmp"),
                ..arm()
            };
            let command = QemuCommand::new(&emulator, &machine).expect("valid");
            let file = dir.path().join("harmony-test.service");
            let unit = systemd_unit(&command, None).expect("text");
            fs::write(&file, &unit).expect("written");
            let (words, writable) = read_by_systemd(&file);
            let expected = std::iter::once(emulator.as_os_str())
                .chain(command.arguments().iter().map(OsString::as_os_str));
            assert!(
                expected.eq(words.iter().map(OsStr::new)),
                "{unit}\n{words:?}"
            );
            let expected = format!("{} /vm/VARS.fd /vm/a,b c.qcow2", vm.display());
            assert_eq!(writable, expected, "{unit}");
        }
    }
}
