//! What kind of machine the guest sees: accelerator, CPU, firmware, kernel, console.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which accelerator the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where a guest of this architecture is proven to execute under it, else TCG.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// Emulation, also where KVM would work.
    Tcg,
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// A text that names no choice of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} '{value}' (expected {expected})")]
pub struct UnknownChoice {
    /// What was to be chosen.
    pub kind: &'static str,
    /// What was given.
    pub value: String,
    /// What there is.
    pub expected: &'static str,
}

impl FromStr for AcceleratorChoice {
    type Err = UnknownChoice;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(UnknownChoice {
                kind: "accelerator",
                value: value.to_owned(),
                expected: "auto, kvm or tcg",
            }),
        }
    }
}

/// How a guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the host's CPU.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// Which CPU the guest sees. On the wire and on a command line it is one word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(from = "String", into = "String")]
pub enum CpuProfile {
    /// The host's own CPU under KVM; under TCG everything that QEMU can emulate without losing speed.
    #[default]
    Fastest,
    /// The Raspberry Pi 5's core, Cortex-A76 (Armv8.2-A): an instruction that the device does not have
    /// faults in the guest too.
    RaspberryPi5,
    /// Everything that QEMU can emulate.
    Max,
    /// The host's own CPU; needs KVM.
    Host,
    /// A model by QEMU's name, checked against what libvirt says the emulator has.
    Named(String),
}

impl CpuProfile {
    /// The profile as one word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Fastest => "fastest",
            Self::RaspberryPi5 => "raspberry-pi-5",
            Self::Max => "max",
            Self::Host => "host",
            Self::Named(model) => model,
        }
    }
}

impl fmt::Display for CpuProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for CpuProfile {
    fn from(value: String) -> Self {
        match value.as_str() {
            "fastest" => Self::Fastest,
            "raspberry-pi-5" => Self::RaspberryPi5,
            "max" => Self::Max,
            "host" => Self::Host,
            _ => Self::Named(value),
        }
    }
}

impl From<CpuProfile> for String {
    fn from(profile: CpuProfile) -> Self {
        profile.as_str().to_owned()
    }
}

impl FromStr for CpuProfile {
    type Err = Infallible;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(value.to_owned().into())
    }
}

/// What the guest's CPU runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum FirmwareChoice {
    /// UEFI for aarch64, BIOS for x86_64.
    #[default]
    Auto,
    /// SeaBIOS, which is part of QEMU; x86_64 only.
    Bios,
    /// UEFI without Secure Boot, with a variable store of the VM's own.
    Uefi,
}

impl fmt::Display for FirmwareChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        })
    }
}

impl FromStr for FirmwareChoice {
    type Err = UnknownChoice;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "auto" => Ok(Self::Auto),
            "bios" => Ok(Self::Bios),
            "uefi" => Ok(Self::Uefi),
            _ => Err(UnknownChoice {
                kind: "firmware",
                value: value.to_owned(),
                expected: "auto, bios or uefi",
            }),
        }
    }
}

/// A kernel that is handed to the guest from outside, instead of the boot loader on its disk. It still
/// starts through the firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelBoot {
    /// The absolute path of the kernel's image.
    pub image: PathBuf,
    /// The absolute path of the initial RAM disk.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// The kernel's arguments, each without white space; together at most 2047 bytes, the kernel's
    /// `COMMAND_LINE_SIZE` on both architectures without its terminating NUL.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// Where the first serial port's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ConsoleLog {
    /// Into a file among the VM's own, which goes when the VM goes.
    #[default]
    Managed,
    /// Into a file of the caller's choice, which stays. libvirt's log daemon opens it, appends to it,
    /// and moves it aside when it has grown to 2 MiB.
    File {
        /// The absolute path.
        path: PathBuf,
    },
    /// Nowhere: a wait that fails cannot show what the guest said.
    Discarded,
}

/// What is set up at the first boot: by cloud-init, or by an image that sets itself up, like the default recipe's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstBoot {
    /// The login user, who may use sudo without a password.
    pub user: String,
    /// Public keys, in OpenSSH's one-line form, that may log in as that user.
    pub authorized_keys: Vec<String>,
    /// A script that root runs once, as the last thing of the first boot; at most 256 KiB. It is part of
    /// the VM's record, so it is no place for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{AcceleratorChoice, CpuProfile, FirmwareChoice};

    #[test]
    fn every_choice_survives_its_own_text() {
        for text in ["auto", "kvm", "tcg"] {
            let choice: AcceleratorChoice = text.parse().expect(text);
            assert_eq!(choice.to_string(), text);
        }
        for text in ["auto", "bios", "uefi"] {
            let choice: FirmwareChoice = text.parse().expect(text);
            assert_eq!(choice.to_string(), text);
        }
        for text in ["fastest", "raspberry-pi-5", "max", "host", "cortex-a72"] {
            let profile = CpuProfile::from(text.to_owned());
            assert_eq!(profile.as_str(), text);
            assert_eq!(
                matches!(profile, CpuProfile::Named(_)),
                text == "cortex-a72"
            );
        }
    }

    #[test]
    fn what_is_no_choice_says_what_there_is() {
        let error = "hvf".parse::<AcceleratorChoice>().expect_err("unknown");
        let expected = "unknown accelerator 'hvf' (expected auto, kvm or tcg)";
        assert_eq!(error.to_string(), expected);
        let error = "efi".parse::<FirmwareChoice>().expect_err("unknown");
        let expected = "unknown firmware 'efi' (expected auto, bios or uefi)";
        assert_eq!(error.to_string(), expected);
    }
}
