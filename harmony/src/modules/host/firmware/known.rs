//! Where distributions put firmware, for hosts whose descriptors are missing or useless.

use super::candidate::FlashFormat::{self, Qcow2, Raw};
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};

/// A pair of code and variable template at a known place: UEFI without Secure Boot, for every version
/// of the architecture's machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownPair {
    pub(super) architecture: VmArchitecture,
    pub(super) code: &'static str,
    pub(super) vars_template: &'static str,
    pub(super) format: FlashFormat,
}

impl KnownPair {
    /// The machines that a pair of this architecture runs on.
    pub(super) fn machines(&self) -> &'static str {
        match self.architecture {
            Aarch64 => "virt-*",
            X86_64 => "pc-q35-*",
        }
    }
}

const fn pair(
    architecture: VmArchitecture,
    format: FlashFormat,
    code: &'static str,
    vars_template: &'static str,
) -> KnownPair {
    KnownPair {
        architecture,
        code,
        vars_template,
        format,
    }
}

/// The pairs, in the order to try them.
#[rustfmt::skip] // one line a pair
pub(super) const KNOWN_PAIRS: &[KnownPair] = &[
    // Debian, Ubuntu
    pair(Aarch64, Raw, "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    pair(Aarch64, Raw, "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    // Arch, before and since 202608
    pair(Aarch64, Raw, "/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
    pair(Aarch64, Raw, "/usr/share/edk2/aarch64/QEMU_EFI.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
    // Fedora, RHEL
    pair(Aarch64, Qcow2, "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.qcow2", "/usr/share/edk2/aarch64/vars-template-pflash.qcow2"),
    pair(Aarch64, Raw, "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
    pair(Aarch64, Raw, "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
    // openSUSE
    pair(Aarch64, Raw, "/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"),
    // NixOS
    pair(Aarch64, Raw, "/run/libvirt/nix-ovmf/AAVMF_CODE.fd", "/run/libvirt/nix-ovmf/AAVMF_VARS.fd"),
    // QEMU's own build
    pair(Aarch64, Raw, "/usr/share/qemu/edk2-aarch64-code.fd", "/usr/share/qemu/edk2-arm-vars.fd"),
    pair(Aarch64, Raw, "/usr/local/share/qemu/edk2-aarch64-code.fd", "/usr/local/share/qemu/edk2-arm-vars.fd"),
    // Debian, Ubuntu
    pair(X86_64, Raw, "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    pair(X86_64, Raw, "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    // Arch
    pair(X86_64, Raw, "/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    // Fedora, RHEL
    pair(X86_64, Qcow2, "/usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2", "/usr/share/edk2/ovmf/OVMF_VARS_4M.qcow2"),
    pair(X86_64, Raw, "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    // openSUSE
    pair(X86_64, Raw, "/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    // NixOS
    pair(X86_64, Raw, "/run/libvirt/nix-ovmf/OVMF_CODE.fd", "/run/libvirt/nix-ovmf/OVMF_VARS.fd"),
    // QEMU's own build
    pair(X86_64, Raw, "/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
    pair(X86_64, Raw, "/usr/local/share/qemu/edk2-x86_64-code.fd", "/usr/local/share/qemu/edk2-i386-vars.fd"),
];
