//! Which distribution this host runs, and how one installs a thing there.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A family of distributions that share package names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Debian, Ubuntu and what is derived from them.
    Debian,
    /// Fedora, RHEL, CentOS Stream.
    Fedora,
    /// Arch Linux.
    Arch,
    /// openSUSE and SLES.
    Suse,
    /// Something else.
    Other,
}

/// A thing that some check may find missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPackage {
    /// `qemu-system-aarch64`.
    QemuAarch64,
    /// `qemu-system-x86_64`.
    QemuX86,
    /// UEFI firmware for x86_64 guests.
    FirmwareX86,
    /// `virtiofsd`.
    Virtiofsd,
    /// `qemu-img`.
    QemuImg,
    /// UEFI firmware for aarch64 guests.
    FirmwareAarch64,
    /// The libvirt daemon with its QEMU driver.
    Libvirt,
    /// `passt`.
    Passt,
    /// `dnsmasq` as libvirt's networks use it.
    Dnsmasq,
    /// `mmdebstrap` and what the image builder runs beside it.
    ImageBuilder,
}

fn os_release_value(text: &str, key: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    let (_, value) = pairs.find(|(k, _)| *k == key)?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

impl Distribution {
    /// The family that the text of an `/etc/os-release` names.
    pub fn from_os_release(text: &str) -> Self {
        let value = |key: &str| os_release_value(text, key).unwrap_or_default();
        let names = format!("{} {}", value("ID"), value("ID_LIKE"));
        for name in names.split_whitespace() {
            match name {
                "debian" | "ubuntu" | "raspbian" => return Self::Debian,
                "fedora" | "rhel" | "centos" => return Self::Fedora,
                "arch" => return Self::Arch,
                "suse" | "opensuse" | "opensuse-tumbleweed" | "opensuse-leap" | "sles" => {
                    return Self::Suse;
                }
                _ => {}
            }
        }
        Self::Other
    }

    /// The family of this host, from `/etc/os-release`; [`Distribution::Other`] when that cannot be
    /// read.
    pub fn of_host() -> Self {
        static HOST: OnceLock<Distribution> = OnceLock::new();
        *HOST.get_or_init(|| {
            std::fs::read_to_string("/etc/os-release")
                .map(|text| Self::from_os_release(&text))
                .unwrap_or(Self::Other)
        })
    }

    /// What this host's distribution calls itself, with its version.
    pub(super) fn name_of_host() -> String {
        std::fs::read_to_string("/etc/os-release")
            .ok()
            .and_then(|text| os_release_value(&text, "PRETTY_NAME"))
            .unwrap_or_else(|| "unknown".to_owned())
    }

    /// The command that installs a package here.
    pub fn install_command(self, package: HostPackage) -> String {
        let names = self.package_names(package);
        match self {
            Self::Debian => format!("sudo apt-get install {names}"),
            Self::Fedora => format!("sudo dnf install {names}"),
            Self::Arch => format!("sudo pacman -S {names}"),
            Self::Suse => format!("sudo zypper install {names}"),
            Self::Other => format!("install your distribution's package of {names}"),
        }
    }

    fn package_names(self, package: HostPackage) -> &'static str {
        use HostPackage as P;
        match (self, package) {
            (Self::Debian, P::QemuAarch64) => "qemu-system-arm",
            (Self::Debian, P::QemuX86) => "qemu-system-x86",
            (Self::Debian, P::QemuImg) => "qemu-utils",
            (Self::Debian, P::FirmwareAarch64) => "qemu-efi-aarch64",
            (Self::Debian, P::Libvirt) => "libvirt-daemon-system libvirt-daemon-driver-qemu",
            (Self::Debian, P::Dnsmasq) => "dnsmasq-base",
            (Self::Fedora, P::QemuAarch64) => "qemu-system-aarch64-core",
            (Self::Fedora, P::QemuX86) => "qemu-system-x86-core",
            (Self::Fedora, P::Libvirt) => "libvirt-daemon-kvm",
            (Self::Fedora | Self::Arch, P::FirmwareAarch64) => "edk2-aarch64",
            (Self::Arch, P::QemuX86) => "qemu-system-x86",
            (Self::Arch | Self::Suse | Self::Other, P::Libvirt) => "libvirt",
            (Self::Suse, P::QemuAarch64) => "qemu-arm",
            (Self::Suse, P::QemuX86) => "qemu-x86",
            (Self::Suse, P::FirmwareAarch64) => "qemu-uefi-aarch64",
            (Self::Debian, P::FirmwareX86) => "ovmf",
            (Self::Suse, P::FirmwareX86) => "qemu-ovmf-x86_64",
            (_, P::FirmwareX86) => "edk2-ovmf",
            (_, P::Virtiofsd) => "virtiofsd",
            (Self::Suse, P::QemuImg) => "qemu-img",
            (_, P::QemuAarch64) => "qemu-system-aarch64",
            (_, P::QemuX86) => "qemu-system-x86",
            (_, P::QemuImg) => "qemu-img",
            (_, P::FirmwareAarch64) => "AAVMF, the UEFI firmware for aarch64",
            (_, P::Passt) => "passt",
            (_, P::Dnsmasq) => "dnsmasq",
            (Self::Debian, P::ImageBuilder) => {
                "mmdebstrap arch-test qemu-user-static uidmap e2fsprogs grub-common qemu-utils"
            }
            (_, P::ImageBuilder) => "mmdebstrap qemu-user-static e2fsprogs grub",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, HostPackage};

    #[test]
    fn family_from_os_release() {
        let table = [
            ("ID=debian\nVERSION_ID=\"12\"\n", Distribution::Debian),
            (
                "NAME=Mint\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                Distribution::Debian,
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Distribution::Fedora,
            ),
            ("ID=arch\n", Distribution::Arch),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Distribution::Suse,
            ),
            ("ID=nixos\n", Distribution::Other),
            ("", Distribution::Other),
        ];
        for (text, expected) in table {
            assert_eq!(Distribution::from_os_release(text), expected, "{text}");
        }
    }

    #[test]
    fn install_command_is_the_distributions_own() {
        assert_eq!(
            Distribution::Debian.install_command(HostPackage::FirmwareAarch64),
            "sudo apt-get install qemu-efi-aarch64"
        );
        assert_eq!(
            Distribution::Arch.install_command(HostPackage::FirmwareAarch64),
            "sudo pacman -S edk2-aarch64"
        );
    }
}
