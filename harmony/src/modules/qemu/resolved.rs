//! A build that is ready to be started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::path::Section;
use crate::domain::topology::virtualization::VmArchitecture;

/// UEFI firmware in two raw flash images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwarePair {
    /// The code, which all guests share and none writes.
    pub code: PathBuf,
    /// The variables: in a store the template, of which each guest is given a copy.
    pub vars: PathBuf,
}

/// The names of code and variables, the preferred first: QEMU's own, Debian's and Ubuntu's, Fedora's, Arch's.
/// None of them is a Secure Boot pair.
fn known_pairs(arch: VmArchitecture) -> &'static [(&'static str, &'static str)] {
    match arch {
        VmArchitecture::Aarch64 => &[
            ("edk2-aarch64-code.fd", "edk2-arm-vars.fd"),
            ("AAVMF_CODE.no-secboot.fd", "AAVMF_VARS.fd"),
            ("AAVMF_CODE.fd", "AAVMF_VARS.fd"),
            ("QEMU_EFI-pflash.raw", "vars-template-pflash.raw"),
            ("QEMU_CODE.fd", "QEMU_VARS.fd"),
        ],
        VmArchitecture::X86_64 => &[
            ("edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
            ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
            ("OVMF_CODE.fd", "OVMF_VARS.fd"),
        ],
    }
}

/// An assembled build. Its files are read-only, and in place until the build is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedQemu {
    /// The emulator itself. A build with its own dynamic loader must be started through
    /// [`emulator`](Self::emulator).
    pub binary: PathBuf,
    /// QEMU's data directory, for `-L`; empty when the build brings no firmware.
    pub firmware_dir: PathBuf,
    /// Where the build's libraries are, when it has some.
    pub library_dir: Option<PathBuf>,
    /// What `binary` needs in its environment; the wrapper sets it itself.
    pub environment: BTreeMap<String, OsString>,
    /// What the build consists of.
    pub manifest: Manifest,
    pub(super) emulator: PathBuf,
}

impl ResolvedQemu {
    /// A program that starts the emulator with its libraries and its firmware directory, and passes its
    /// arguments on: for libvirt's `<emulator>`, and for
    /// [`QemuCommand`](super::command::QemuCommand).
    pub fn emulator(&self) -> &Path {
        &self.emulator
    }

    /// The build's own UEFI firmware for guests of an architecture, when both files are there.
    pub fn firmware(&self, arch: VmArchitecture) -> Option<FirmwarePair> {
        let has = |name: &str| {
            let files = self.manifest.objects().keys();
            let mut firmware = files.filter(|file| file.section() == Section::Firmware);
            firmware.any(|file| file.in_section() == name)
        };
        let mut pairs = known_pairs(arch).iter();
        let (code, vars) = pairs.find(|(code, vars)| has(code) && has(vars))?;
        Some(FirmwarePair {
            code: self.firmware_dir.join(code),
            vars: self.firmware_dir.join(vars),
        })
    }
}
