//! The lanes: which machines this kind of host can run, all of them emulated.

use std::path::PathBuf;
use std::str::FromStr;

use harmony::domain::topology::virtualization::{
    AcceleratorChoice, CpuProfile, DataDisk, DiskSource, FirmwareChoice, FirstBoot, NetworkCard,
    ShareDriver, SharedDirectory, VirtualMachineSpec, VmArchitecture,
};
use iot_smoke::guest::LOGIN_USER;

/// The blank data disk that every guest begins with.
pub(crate) const DATA_TAG: &str = "data";

/// Its size, in GiB.
pub(crate) const DATA_GIB: u64 = 1;

/// The shares of every guest: its tag, and whether it is read-only.
pub(crate) const SHARES: [(&str, bool); 2] = [("read-write", false), ("read-only", true)];

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    X86Bios,
    X86Uefi,
    ArmFastest,
    ArmRaspberryPi5,
}

impl Lane {
    /// Every lane, in the order in which they run.
    pub(crate) const ALL: [Self; 4] = [
        Self::X86Bios,
        Self::X86Uefi,
        Self::ArmFastest,
        Self::ArmRaspberryPi5,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::X86Bios => "x86_64-bios",
            Self::X86Uefi => "x86_64-uefi",
            Self::ArmFastest => "aarch64-fastest",
            Self::ArmRaspberryPi5 => "aarch64-raspberry-pi-5",
        }
    }

    /// The name of the lane's virtual machine.
    pub(crate) fn vm_name(self) -> String {
        format!("harmony-test-lane-{}", self.as_str().replace('_', "-"))
    }

    pub(crate) fn architecture(self) -> VmArchitecture {
        match self {
            Self::X86Bios | Self::X86Uefi => VmArchitecture::X86_64,
            Self::ArmFastest | Self::ArmRaspberryPi5 => VmArchitecture::Aarch64,
        }
    }

    fn cpu(self) -> CpuProfile {
        match self {
            Self::X86Bios | Self::X86Uefi | Self::ArmFastest => CpuProfile::Fastest,
            Self::ArmRaspberryPi5 => CpuProfile::RaspberryPi5,
        }
    }

    fn firmware(self) -> FirmwareChoice {
        match self {
            Self::X86Uefi => FirmwareChoice::Uefi,
            Self::X86Bios | Self::ArmFastest | Self::ArmRaspberryPi5 => FirmwareChoice::Auto,
        }
    }

    /// Whether the guest is started by UEFI.
    pub(crate) fn has_uefi(self) -> bool {
        self != Self::X86Bios
    }

    /// The machine: two cards, a blank data disk, and what of this host it shares.
    pub(crate) fn spec(self, material: &Material) -> VirtualMachineSpec {
        let shares = SHARES.map(|(tag, read_only)| SharedDirectory {
            tag: tag.to_owned(),
            path: material.shared.join(tag),
            driver: ShareDriver::NineP,
            read_only,
        });
        VirtualMachineSpec {
            name: self.vm_name(),
            architecture: self.architecture(),
            image: Some(material.image.clone()),
            networks: vec![NetworkCard::default(), NetworkCard::default()],
            disks: vec![blank_disk(DATA_TAG, DATA_GIB)],
            shares: shares.to_vec(),
            accelerator: AcceleratorChoice::Tcg,
            cpu: self.cpu(),
            firmware: self.firmware(),
            first_boot: Some(FirstBoot {
                user: LOGIN_USER.to_owned(),
                authorized_keys: vec![material.public_key.clone()],
                ..FirstBoot::default()
            }),
            ..VirtualMachineSpec::default()
        }
    }
}

impl FromStr for Lane {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|lane| lane.as_str() == value).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown lane '{value}' (expected one of {names})")
        })
    }
}

/// What a lane's guest is made from.
#[derive(Debug, Clone)]
pub(crate) struct Material {
    pub(crate) image: PathBuf,
    /// The directory with one directory for each share.
    pub(crate) shared: PathBuf,
    /// In OpenSSH's one-line form.
    pub(crate) public_key: String,
}

/// A new, empty disk.
pub(crate) fn blank_disk(tag: &str, size_gib: u64) -> DataDisk {
    DataDisk {
        tag: tag.to_owned(),
        source: DiskSource::Blank { size_gib },
        read_only: false,
    }
}
