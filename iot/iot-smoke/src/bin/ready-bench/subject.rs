//! What is measured.

use clap::ValueEnum;
use harmony::domain::topology::virtualization::VmArchitecture;
use serde::Serialize;

/// One way to a device that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// `qemu-system-* -cpu max` on its default machine, the recipe's image and a seed for cloud-init, to a login over
    /// SSH.
    Raw,
    /// The same again: what lies between the two is noise.
    RawAgain,
    /// The same on machine `virt-9.2`, whose pointer authentication is QARMA5.
    #[value(name = "raw-9.2")]
    #[serde(rename = "raw-9.2")]
    RawQarma5,
    /// The same with harmony's own seed, by which the recipe's image sets itself up without cloud-init.
    RawSeeded,
    /// `virt-install --import`, the recipe's image, to a login over SSH.
    VirtInstall,
    /// Raw QEMU with the plain image.
    RawPlain,
    /// harmony, booting the recipe's image, to a login over SSH.
    Cold,
    /// harmony, booting the plain image, to a login over SSH.
    ColdPlain,
    /// harmony from a checkpoint: from the command's start to a heartbeat that was seen in NATS.
    Warm,
    /// Five forks, for each.
    Forks5,
    /// Ten forks, for each.
    Forks10,
}

/// How raw QEMU boots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawBoot {
    /// The machine type on arm64; none for the default one.
    pub(crate) machine: Option<&'static str>,
    /// Whether the seed is one of harmony's, and not one for cloud-init alone.
    pub(crate) harmony_seed: bool,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) round: usize,
    pub(crate) subject: Subject,
    pub(crate) seconds: f64,
}

impl Subject {
    const ALL: [Self; 11] = [
        Self::Raw,
        Self::RawQarma5,
        Self::RawSeeded,
        Self::VirtInstall,
        Self::Cold,
        Self::Warm,
        Self::RawPlain,
        Self::ColdPlain,
        Self::Forks5,
        Self::Forks10,
        Self::RawAgain,
    ];

    /// Those that there are for an architecture.
    pub(crate) fn all(architecture: VmArchitecture) -> Vec<Self> {
        let arm = architecture == VmArchitecture::Aarch64;
        let all = Self::ALL.into_iter();
        all.filter(|subject| arm || *subject != Self::RawQarma5)
            .collect()
    }

    /// How raw QEMU boots for it; none when harmony does.
    pub(crate) fn raw(self) -> Option<RawBoot> {
        let plain = RawBoot {
            machine: None,
            harmony_seed: false,
        };
        match self {
            Self::Raw | Self::RawAgain | Self::RawPlain => Some(plain),
            Self::RawSeeded => Some(RawBoot {
                harmony_seed: true,
                ..plain
            }),
            Self::RawQarma5 => Some(RawBoot {
                machine: Some("virt-9.2"),
                ..plain
            }),
            _ => None,
        }
    }

    /// Whether its image is the plain one.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::RawPlain | Self::ColdPlain)
    }

    /// Whether it goes on from a checkpoint.
    pub(crate) fn is_warm(self) -> bool {
        matches!(self, Self::Warm | Self::Forks5 | Self::Forks10)
    }

    /// How many devices it makes.
    pub(crate) fn devices(self) -> usize {
        match self {
            Self::Forks5 => 5,
            Self::Forks10 => 10,
            _ => 1,
        }
    }

    /// What its time is compared with.
    pub(crate) fn baseline(self) -> Self {
        if self.is_plain() {
            Self::RawPlain
        } else {
            Self::Raw
        }
    }

    /// The most that its time may be of the baseline's; none where nothing is promised.
    pub(crate) fn bound(self) -> Option<f64> {
        match self {
            Self::Cold => Some(0.7),
            Self::ColdPlain => Some(1.05),
            Self::Warm => Some(0.15),
            Self::Forks5 | Self::Forks10 => Some(0.10),
            _ => None,
        }
    }

    /// As people read it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Raw => "raw QEMU, -cpu max, to SSH",
            Self::RawAgain => "the same again (noise)",
            Self::RawQarma5 => "raw QEMU, machine virt-9.2, to SSH",
            Self::RawSeeded => "raw QEMU, harmony's seed, to SSH",
            Self::VirtInstall => "virt-install, to SSH",
            Self::RawPlain => "raw QEMU, plain image, to SSH",
            Self::Cold => "harmony cold, to SSH",
            Self::ColdPlain => "harmony cold, plain image, to SSH",
            Self::Warm => "harmony warm, to a heartbeat",
            Self::Forks5 => "harmony, each of 5 forks, to a heartbeat",
            Self::Forks10 => "harmony, each of 10 forks, to a heartbeat",
        }
    }
}
