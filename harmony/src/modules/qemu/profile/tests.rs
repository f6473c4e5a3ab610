use super::{GuestOs, ProfileError, QemuProfile, WorkloadMode, select_profile};
use crate::domain::topology::virtualization::{Accelerator, VmArchitecture};
use crate::modules::host::KvmProof;

use GuestOs::{Linux, Other, Windows};
use QemuProfile::{EmulateForeign, EmulateX86, KvmLinux, KvmUefi};
use VmArchitecture::{Aarch64, X86_64};
use WorkloadMode::{Default, HybridEmulated, HybridKvm};

#[derive(Debug, PartialEq)]
enum Outcome {
    Profile(QemuProfile),
    Foreign,
    NotProven,
}

fn outcome(
    mode: WorkloadMode,
    guest: VmArchitecture,
    host: Option<VmArchitecture>,
    os: GuestOs,
    kvm: &KvmProof,
) -> Outcome {
    match select_profile(mode, guest, host, os, kvm) {
        Ok(selection) => {
            assert!(!selection.reason.is_empty());
            Outcome::Profile(selection.profile)
        }
        Err(error) if error == ProfileError::KvmForeignGuest { guest, host } => Outcome::Foreign,
        Err(ProfileError::KvmNotProven { reason }) => {
            assert_eq!(reason, "the reason");
            Outcome::NotProven
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Each row is one cell of mode × guest × host × proof, with the outcome for Linux, Windows and Other: all 54.
#[test]
fn the_full_matrix() {
    let yes = KvmProof::Executes;
    let reason = || "the reason".to_owned();
    let proofs = [
        KvmProof::Absent { reason: reason() },
        KvmProof::Broken { reason: reason() },
    ];
    let p = Outcome::Profile;
    let all = |profile| [p(profile), p(profile), p(profile)];
    let hosts = [Some(X86_64), Some(Aarch64), None];
    let mut cells = 0;
    for guest in VmArchitecture::ALL {
        for host in hosts {
            let emulation = match (guest, host) {
                (X86_64, Some(X86_64)) => EmulateX86,
                _ => EmulateForeign,
            };
            for kvm in proofs.iter().chain([&yes]) {
                for mode in WorkloadMode::ALL {
                    let expected = match (mode, host == Some(guest), kvm == &yes) {
                        (HybridEmulated, _, _) | (Default, false, _) | (Default, _, false) => {
                            all(emulation)
                        }
                        (HybridKvm, false, _) => {
                            [Outcome::Foreign, Outcome::Foreign, Outcome::Foreign]
                        }
                        (HybridKvm, true, false) => {
                            [Outcome::NotProven, Outcome::NotProven, Outcome::NotProven]
                        }
                        (HybridKvm | Default, true, true) => match guest {
                            X86_64 => [p(KvmLinux), p(KvmUefi), p(KvmUefi)],
                            Aarch64 => all(KvmUefi),
                        },
                    };
                    let found = GuestOs::ALL.map(|os| outcome(mode, guest, host, os, kvm));
                    assert_eq!(found, expected, "{mode} {guest} on {host:?}, {kvm:?}");
                    cells += 1;
                }
            }
        }
    }
    assert_eq!(cells, 54);
}

/// The same, spelt out where it matters.
#[test]
fn the_lanes_by_name() {
    let broken = KvmProof::Broken {
        reason: "the reason".to_owned(),
    };
    let table = [
        (
            Default,
            X86_64,
            X86_64,
            Linux,
            KvmProof::Executes,
            KvmLinux,
            "KVM executes x86_64 guests; Linux on x86_64 needs no UEFI firmware",
        ),
        (
            Default,
            X86_64,
            X86_64,
            Windows,
            KvmProof::Executes,
            KvmUefi,
            "KVM executes x86_64 guests; Windows needs UEFI firmware",
        ),
        (
            Default,
            X86_64,
            X86_64,
            Other,
            KvmProof::Executes,
            KvmUefi,
            "KVM executes x86_64 guests; UEFI firmware, since nothing is known of the guest",
        ),
        (
            HybridKvm,
            Aarch64,
            Aarch64,
            Linux,
            KvmProof::Executes,
            KvmUefi,
            "KVM executes aarch64 guests; aarch64 guests boot through UEFI firmware",
        ),
        (
            Default,
            X86_64,
            X86_64,
            Linux,
            broken.clone(),
            EmulateX86,
            "KVM does not execute: the reason",
        ),
        (
            Default,
            Aarch64,
            Aarch64,
            Linux,
            broken.clone(),
            EmulateForeign,
            "KVM does not execute: the reason",
        ),
        (
            Default,
            Aarch64,
            X86_64,
            Linux,
            KvmProof::Executes,
            EmulateForeign,
            "aarch64 guests are foreign to an x86_64 host",
        ),
        (
            HybridEmulated,
            X86_64,
            X86_64,
            Linux,
            KvmProof::Executes,
            EmulateX86,
            "mode hybrid-emulated",
        ),
        (
            HybridEmulated,
            X86_64,
            Aarch64,
            Windows,
            broken,
            EmulateForeign,
            "mode hybrid-emulated",
        ),
    ];
    for (mode, guest, host, os, kvm, profile, reason) in table {
        let found = select_profile(mode, guest, Some(host), os, &kvm).expect("a profile");
        assert_eq!((found.profile, found.reason.as_str()), (profile, reason));
    }
}

#[test]
fn names_round_trip_in_text_and_json() {
    for profile in QemuProfile::ALL {
        assert_eq!(profile.to_string().parse(), Ok(profile));
        let json = serde_json::to_string(&profile).expect("a string");
        assert_eq!(json, format!("\"{profile}\""));
    }
    for mode in WorkloadMode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(
            serde_json::to_string(&mode).expect("a string"),
            format!("\"{mode}\"")
        );
    }
    for os in GuestOs::ALL {
        assert_eq!(os.to_string().parse(), Ok(os));
        assert_eq!(
            serde_json::to_string(&os).expect("a string"),
            format!("\"{os}\"")
        );
    }
    assert_eq!(
        "kvm_linux".parse::<QemuProfile>(),
        Err(ProfileError::Unknown {
            what: "QEMU profile",
            value: "kvm_linux".to_owned(),
            expected: "kvm-linux, kvm-uefi, emulate-x86, emulate-foreign".to_owned(),
        })
    );
}

#[test]
fn binaries_and_accelerators() {
    let table = [
        (
            KvmLinux,
            X86_64,
            Some("qemu-system-x86_64"),
            Accelerator::Kvm,
        ),
        (KvmLinux, Aarch64, None, Accelerator::Kvm),
        (
            KvmUefi,
            X86_64,
            Some("qemu-system-x86_64"),
            Accelerator::Kvm,
        ),
        (
            KvmUefi,
            Aarch64,
            Some("qemu-system-aarch64"),
            Accelerator::Kvm,
        ),
        (
            EmulateX86,
            X86_64,
            Some("qemu-system-x86_64"),
            Accelerator::Tcg,
        ),
        (EmulateX86, Aarch64, None, Accelerator::Tcg),
        (
            EmulateForeign,
            X86_64,
            Some("qemu-system-x86_64"),
            Accelerator::Tcg,
        ),
        (
            EmulateForeign,
            Aarch64,
            Some("qemu-system-aarch64"),
            Accelerator::Tcg,
        ),
    ];
    for (profile, guest, binary, accelerator) in table {
        let expected = binary.ok_or(ProfileError::NotForGuest { profile, guest });
        assert_eq!(profile.binary_name(guest), expected);
        assert_eq!(profile.accelerator(), accelerator);
    }
}
