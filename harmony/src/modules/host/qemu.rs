//! QEMU's programs: where they are and how old.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use harmony_base::process::find_program;
use harmony_base::process::{ProcessError, Program, is_executable, program_directories};
use serde::{Deserialize, Serialize};

use crate::domain::topology::virtualization::VmArchitecture;

use super::version::{NotAVersion, numbers};

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

impl FromStr for QemuVersion {
    type Err = NotAVersion;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let [major, minor] = numbers(value, "MAJOR.MINOR")?;
        Ok(Self { major, minor })
    }
}

impl TryFrom<String> for QemuVersion {
    type Error = NotAVersion;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<QemuVersion> for String {
    fn from(version: QemuVersion) -> Self {
        version.to_string()
    }
}

/// A system emulator that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase", deny_unknown_fields)]
pub enum EmulatorFact {
    /// It tells its version.
    Usable {
        /// The program.
        path: PathBuf,
        /// What it says of its version.
        version: QemuVersion,
    },
    /// It is there but does not tell its version.
    Broken {
        /// The program.
        path: PathBuf,
        /// What it printed, or why it could not be started.
        said: String,
    },
}

impl fmt::Display for EmulatorFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable { path, version } => write!(f, "QEMU {version} at {}", path.display()),
            Self::Broken { path, said } => {
                write!(f, "{} did not tell its version: {said}", path.display())
            }
        }
    }
}

/// A system emulator of this host that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// The program.
    pub path: PathBuf,
    /// What it says of its version.
    pub version: QemuVersion,
}

/// The emulator's program name for guests of an architecture.
pub fn emulator_name(guest: VmArchitecture) -> String {
    format!("qemu-system-{guest}")
}

/// What every system emulator's name begins with.
const SYSTEM_EMULATOR: &str = "qemu-system-";

/// Every system emulator in the directories of `PATH`, by the architecture that it emulates. A name in an
/// earlier directory hides the same name in a later one.
pub(super) fn system_emulators() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for directory in program_directories() {
        // A directory of PATH that is not there or cannot be read offers nothing.
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(guest) = name.to_str().and_then(|n| n.strip_prefix(SYSTEM_EMULATOR)) else {
                continue;
            };
            let path = entry.path();
            if is_executable(&path) {
                found.entry(guest.to_owned()).or_insert(path);
            }
        }
    }
    found
}

/// How long a program may take to tell its version; it takes a tenth of a second.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks an emulator for its version.
pub(super) async fn ask_version(path: PathBuf) -> EmulatorFact {
    let asked = Program::at("QEMU", &path).arg("--version");
    let ended = match asked.within(VERSION_TIMEOUT).ended().await {
        Ok(ended) => ended,
        Err(ProcessError::Run { source, .. }) => {
            let said = source.to_string();
            return EmulatorFact::Broken { path, said };
        }
        Err(ProcessError::TimedOut { bound, .. }) => {
            let said = format!("nothing within {} s", bound.as_secs());
            return EmulatorFact::Broken { path, said };
        }
        Err(error) => {
            let said = error.to_string();
            return EmulatorFact::Broken { path, said };
        }
    };
    let output = String::from_utf8_lossy(&ended.stdout);
    match QemuVersion::parse(&output) {
        Some(version) => EmulatorFact::Usable { path, version },
        None => {
            let said = match output.lines().next() {
                Some(line) => line,
                None if ended.said.first.is_empty() => "nothing",
                None => &ended.said.first,
            };
            let said = said.to_owned();
            EmulatorFact::Broken { path, said }
        }
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
