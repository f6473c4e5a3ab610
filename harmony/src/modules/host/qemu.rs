//! QEMU's programs: where they are and how old.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::domain::topology::virtualization::VmArchitecture;

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct QemuVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl QemuVersion {
    /// Multi-threaded TCG is at its best for arm64 guests from here on (the plan's bound).
    pub const MTTCG: Self = Self { major: 9, minor: 1 };
    /// CPU `max` of machine `virt-10.0` and later signs pointers by an implementation-defined
    /// algorithm, and no longer by QARMA5, which costs more than half of an emulated boot.
    pub const IMPDEF_PAUTH: Self = Self {
        major: 10,
        minor: 0,
    };

    /// The version in the first line of `qemu-… --version`.
    pub fn parse(text: &str) -> Option<Self> {
        let version = text.split_once("version ")?.1;
        let mut numbers = version
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u32>);
        Some(Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
        })
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A system emulator of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// The program.
    pub path: PathBuf,
    /// What it says of its version.
    pub version: QemuVersion,
}

/// Why there is no emulator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmulatorError {
    /// Not on `PATH`.
    #[error("{program} is not on PATH")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// It is there but could not be asked.
    #[error("{path} --version did not say a version (it said: '{said}')")]
    Broken {
        /// The program.
        path: String,
        /// What it printed, or why it could not be started.
        said: String,
    },
}

/// The emulator's program name for guests of an architecture.
pub fn emulator_name(guest: VmArchitecture) -> String {
    format!("qemu-system-{guest}")
}

/// A program in the directories of `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    // Where root's programs are, which an ordinary user's PATH often lacks.
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(extra)
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The emulator for guests of an architecture, with its version.
///
/// # Errors
/// When it is not on `PATH` or does not tell its version.
pub async fn find_emulator(guest: VmArchitecture) -> Result<Emulator, EmulatorError> {
    let program = emulator_name(guest);
    let path = find_program(&program).ok_or(EmulatorError::Missing { program })?;
    let broken = |said: String| EmulatorError::Broken {
        path: path.display().to_string(),
        said,
    };
    let output = Command::new(&path)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| broken(e.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match QemuVersion::parse(&said) {
        Some(version) => Ok(Emulator { path, version }),
        None => Err(broken(said.lines().next().unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::QemuVersion;

    #[test]
    fn versions() {
        let v = |major, minor| Some(QemuVersion { major, minor });
        let table = [
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n",
                v(10, 0),
            ),
            (
                "QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.4)",
                v(8, 2),
            ),
            ("QEMU emulator version 9.1.0-rc2", v(9, 1)),
            (
                "qemu-system-aarch64: error while loading shared libraries",
                None,
            ),
            ("QEMU emulator version ten", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(QemuVersion::parse(text), expected, "{text}");
        }
        assert!(v(10, 0) > v(9, 2), "compared by number and not by letter");
    }
}
