//! What a QEMU build is for, and which of the profiles a workload needs.
//!
//! The choice is a pure function of the workload's mode, the guest, the host and the proof of KVM:
//!
//! | mode | KVM executes, guest is native | else |
//! |---|---|---|
//! | `default` | KVM | emulation |
//! | `hybrid-kvm` | KVM | [`ProfileError`] |
//! | `hybrid-emulated` | emulation | emulation |
//!
//! KVM means `kvm-linux` for a Linux guest on x86_64, which needs no UEFI firmware, and `kvm-uefi` for
//! everything else. Emulation means `emulate-x86` for an x86_64 guest on x86_64, and `emulate-foreign` for
//! everything else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::{Accelerator, VmArchitecture};
use crate::modules::host::KvmProof;

#[cfg(test)]
mod tests;

/// What a QEMU build is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QemuProfile {
    /// Linux guests of the host's own architecture under KVM, without UEFI firmware: x86_64 only.
    KvmLinux,
    /// Guests of the host's own architecture under KVM that boot through UEFI firmware, which the build
    /// brings along.
    KvmUefi,
    /// x86_64 guests emulated on an x86_64 host, where KVM does not work or is not wanted.
    EmulateX86,
    /// Every other emulated guest. Foreign is the guest to `emulate-x86`: an aarch64 guest on x86_64, an
    /// x86_64 guest on aarch64, and also an aarch64 guest on an aarch64 host without KVM, since it needs
    /// exactly what the first needs: the aarch64 translator, machine and firmware.
    EmulateForeign,
}

impl QemuProfile {
    /// Every profile, in a fixed order.
    pub const ALL: [Self; 4] = [
        Self::KvmLinux,
        Self::KvmUefi,
        Self::EmulateX86,
        Self::EmulateForeign,
    ];

    /// The name in manifests and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KvmLinux => "kvm-linux",
            Self::KvmUefi => "kvm-uefi",
            Self::EmulateX86 => "emulate-x86",
            Self::EmulateForeign => "emulate-foreign",
        }
    }

    /// Who executes a guest's instructions under this profile.
    pub fn accelerator(self) -> Accelerator {
        match self {
            Self::KvmLinux | Self::KvmUefi => Accelerator::Kvm,
            Self::EmulateX86 | Self::EmulateForeign => Accelerator::Tcg,
        }
    }

    /// The file name of the emulator for guests of an architecture.
    ///
    /// # Errors
    /// [`ProfileError::NotForGuest`] when the profile has no such guests.
    pub fn binary_name(self, guest: VmArchitecture) -> Result<&'static str, ProfileError> {
        match (self, guest) {
            (Self::KvmLinux | Self::EmulateX86, VmArchitecture::Aarch64) => {
                Err(ProfileError::NotForGuest {
                    profile: self,
                    guest,
                })
            }
            (_, VmArchitecture::X86_64) => Ok("qemu-system-x86_64"),
            (_, VmArchitecture::Aarch64) => Ok("qemu-system-aarch64"),
        }
    }
}

/// How the caller wants its guests executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadMode {
    /// Always emulated, also where KVM would work: the same guest on every host.
    HybridEmulated,
    /// Under KVM, or not at all.
    HybridKvm,
    /// Under KVM where it is proven, else emulated.
    #[default]
    Default,
}

impl WorkloadMode {
    /// Every mode, in a fixed order.
    pub const ALL: [Self; 3] = [Self::HybridEmulated, Self::HybridKvm, Self::Default];

    /// The name in configuration and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HybridEmulated => "hybrid-emulated",
            Self::HybridKvm => "hybrid-kvm",
            Self::Default => "default",
        }
    }
}

/// What the guest runs, as far as its firmware depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum GuestOs {
    /// Linux boots from a BIOS, from UEFI, or directly from its kernel: on x86_64 no UEFI is needed.
    #[default]
    Linux,
    /// Windows needs UEFI firmware from version 11 on.
    Windows,
    /// Anything else is given UEFI firmware, which more systems boot from than from a BIOS.
    Other,
}

impl GuestOs {
    /// Every kind of guest, in a fixed order.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Windows, Self::Other];

    /// The name in configuration and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::Other => "other",
        }
    }
}

/// Why there is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A text that names none.
    #[error("unknown {what} '{value}' (expected {expected})")]
    Unknown {
        /// What was to be named.
        what: &'static str,
        /// What was given.
        value: String,
        /// The names there are.
        expected: String,
    },
    /// The profile's guests are of another architecture.
    #[error("profile {profile} has no {guest} guests (expected x86_64)")]
    NotForGuest {
        /// The profile.
        profile: QemuProfile,
        /// The guest's architecture.
        guest: VmArchitecture,
    },
    /// Mode `hybrid-kvm` for a guest that no KVM of this host can execute.
    #[error("mode hybrid-kvm cannot run an {guest} guest on {} host (expected a guest of the host's own architecture)", host_text(*host))]
    KvmForeignGuest {
        /// The guest's architecture.
        guest: VmArchitecture,
        /// The host's, when it is one of ours.
        host: Option<VmArchitecture>,
    },
    /// Mode `hybrid-kvm` where KVM did not execute a guest.
    #[error("mode hybrid-kvm needs KVM, which does not execute guests here: {reason}")]
    KvmNotProven {
        /// What the proof saw.
        reason: String,
    },
}

impl HintedError for ProfileError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::NotForGuest { .. } | Self::KvmForeignGuest { .. } => {
                ErrorKind::InvalidRequest
            }
            Self::KvmNotProven { .. } => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => None,
            Self::NotForGuest { .. } => Some("use emulate-foreign or kvm-uefi".to_owned()),
            Self::KvmForeignGuest { .. } | Self::KvmNotProven { .. } => {
                Some("use mode default or hybrid-emulated, or a host with working KVM".to_owned())
            }
        }
    }
}

fn host_text(host: Option<VmArchitecture>) -> String {
    host.map_or_else(|| "this".to_owned(), |host| format!("an {host}"))
}

/// A profile and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The profile.
    pub profile: QemuProfile,
    /// For the reader of a plan.
    pub reason: String,
}

/// The profile for a guest. `host` is the host's architecture, none when it is not one of ours (nothing is
/// native to it then); `kvm` is the proof for guests of that architecture.
///
/// # Errors
/// [`ProfileError::KvmForeignGuest`] and [`ProfileError::KvmNotProven`], both in mode `hybrid-kvm` only.
pub fn select_profile(
    mode: WorkloadMode,
    guest: VmArchitecture,
    host: Option<VmArchitecture>,
    os: GuestOs,
    kvm: &KvmProof,
) -> Result<Selection, ProfileError> {
    let native = host == Some(guest);
    match (mode, native, kvm) {
        (WorkloadMode::HybridEmulated, ..) => {
            Ok(emulated(guest, host, "mode hybrid-emulated".to_owned()))
        }
        (_, true, KvmProof::Executes) => Ok(under_kvm(guest, os)),
        (WorkloadMode::HybridKvm, false, _) => Err(ProfileError::KvmForeignGuest { guest, host }),
        (
            WorkloadMode::HybridKvm,
            true,
            KvmProof::Absent { reason } | KvmProof::Broken { reason },
        ) => Err(ProfileError::KvmNotProven {
            reason: reason.clone(),
        }),
        (WorkloadMode::Default, false, _) => {
            let why = format!("{guest} guests are foreign to {} host", host_text(host));
            Ok(emulated(guest, host, why))
        }
        (
            WorkloadMode::Default,
            true,
            KvmProof::Absent { reason } | KvmProof::Broken { reason },
        ) => Ok(emulated(
            guest,
            host,
            format!("KVM does not execute: {reason}"),
        )),
    }
}

fn under_kvm(guest: VmArchitecture, os: GuestOs) -> Selection {
    let (profile, why) = match (guest, os) {
        (VmArchitecture::X86_64, GuestOs::Linux) => (
            QemuProfile::KvmLinux,
            "Linux on x86_64 needs no UEFI firmware",
        ),
        (VmArchitecture::X86_64, GuestOs::Windows) => {
            (QemuProfile::KvmUefi, "Windows needs UEFI firmware")
        }
        (VmArchitecture::X86_64, GuestOs::Other) => (
            QemuProfile::KvmUefi,
            "UEFI firmware, since nothing is known of the guest",
        ),
        (VmArchitecture::Aarch64, _) => (
            QemuProfile::KvmUefi,
            "aarch64 guests boot through UEFI firmware",
        ),
    };
    Selection {
        profile,
        reason: format!("KVM executes {guest} guests; {why}"),
    }
}

fn emulated(guest: VmArchitecture, host: Option<VmArchitecture>, why: String) -> Selection {
    let x86 = Some(VmArchitecture::X86_64);
    let profile = if host == x86 && Some(guest) == x86 {
        QemuProfile::EmulateX86
    } else {
        QemuProfile::EmulateForeign
    };
    Selection {
        profile,
        reason: why,
    }
}

/// `Display` and `FromStr` of an enum with `ALL` and `as_str`.
macro_rules! named {
    ($name:ty, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ProfileError;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.into_iter().find(|known| known.as_str() == value);
                found.ok_or_else(|| ProfileError::Unknown {
                    what: $what,
                    value: value.to_owned(),
                    expected: Self::ALL.map(Self::as_str).join(", "),
                })
            }
        }
    };
}

named!(QemuProfile, "QEMU profile");
named!(WorkloadMode, "workload mode");
named!(GuestOs, "guest system");
