use std::collections::BTreeMap;

use super::{Accelerator, CpuModel, DomainXmlParams, Firmware, signs_pointers_cheaply};
use crate::domain::topology::virtualization::{AcceleratorChoice, VmArchitecture};
use crate::modules::host::{Emulator, HostFacts, KvmProof, QemuVersion};
use crate::modules::kvm::error::KvmError;
use crate::modules::kvm::firmware::{AarchFirmware, FlashFormat};
use crate::modules::kvm::types::VmConfigBuilder;

fn host(own: VmArchitecture, kvm: KvmProof, qemu: (u32, u32)) -> HostFacts {
    let emulators: BTreeMap<_, _> = VmArchitecture::ALL
        .into_iter()
        .map(|guest| {
            let emulator = Emulator {
                path: format!("/usr/bin/qemu-system-{guest}").into(),
                version: QemuVersion {
                    major: qemu.0,
                    minor: qemu.1,
                },
            };
            (guest, emulator)
        })
        .collect();
    HostFacts {
        architecture: Some(own),
        emulators,
        kvm,
    }
}

fn resolve(
    guest: VmArchitecture,
    choice: AcceleratorChoice,
    host: &HostFacts,
    machine: &str,
) -> Result<DomainXmlParams, KvmError> {
    let config = VmConfigBuilder::new("a", "/i.qcow2")
        .architecture(guest)
        .accelerator(choice)
        .build()?;
    let firmware = AarchFirmware {
        code: "/fw/code".into(),
        vars_template: "/fw/vars".into(),
        format: FlashFormat::Raw,
    };
    DomainXmlParams::resolve(&config, host, machine.to_owned(), Some(firmware))
}

fn broken() -> KvmProof {
    KvmProof::Broken {
        reason: "emulation failure".to_owned(),
    }
}

fn absent() -> KvmProof {
    KvmProof::Absent {
        reason: "no device".to_owned(),
    }
}

#[test]
fn lanes() {
    use AcceleratorChoice::{Auto, Kvm, Tcg};
    use VmArchitecture::{Aarch64, X86_64};
    let table = [
        (
            X86_64,
            X86_64,
            Auto,
            KvmProof::Executes,
            Accelerator::Kvm,
            CpuModel::HostModel,
        ),
        (
            X86_64,
            X86_64,
            Kvm,
            KvmProof::Executes,
            Accelerator::Kvm,
            CpuModel::HostModel,
        ),
        (
            X86_64,
            X86_64,
            Tcg,
            KvmProof::Executes,
            Accelerator::Tcg,
            CpuModel::Maximum,
        ),
        (
            X86_64,
            X86_64,
            Auto,
            absent(),
            Accelerator::Tcg,
            CpuModel::Maximum,
        ),
        (
            X86_64,
            X86_64,
            Auto,
            broken(),
            Accelerator::Tcg,
            CpuModel::Maximum,
        ),
        (
            X86_64,
            Aarch64,
            Auto,
            KvmProof::Executes,
            Accelerator::Tcg,
            CpuModel::Maximum,
        ),
        (
            Aarch64,
            Aarch64,
            Auto,
            KvmProof::Executes,
            Accelerator::Kvm,
            CpuModel::HostPassthrough,
        ),
        (
            Aarch64,
            Aarch64,
            Auto,
            absent(),
            Accelerator::Tcg,
            CpuModel::Maximum,
        ),
    ];
    for (own, guest, choice, kvm, accelerator, cpu) in table {
        let facts = host(own, kvm.clone(), (10, 0));
        let params = resolve(guest, choice, &facts, "virt-10.0").expect("resolves");
        let case = format!("{own} host, {guest} guest, {choice:?}, {kvm:?}");
        assert_eq!(
            (params.accelerator, params.cpu),
            (accelerator, cpu),
            "{case}"
        );
        assert_eq!(params.firmware == Firmware::Bios, guest == X86_64, "{case}");
        assert_eq!(
            params.warnings.len(),
            usize::from(kvm == broken()),
            "{case}"
        );
    }
}

#[test]
fn kvm_on_request_is_kvm_or_an_error() {
    let own = host(VmArchitecture::X86_64, broken(), (10, 0));
    let error = resolve(VmArchitecture::X86_64, AcceleratorChoice::Kvm, &own, "q35");
    assert!(
        matches!(&error, Err(KvmError::NoKvm { reason, .. }) if reason == "emulation failure"),
        "{error:?}"
    );
    let working = host(VmArchitecture::X86_64, KvmProof::Executes, (10, 0));
    let error = resolve(
        VmArchitecture::Aarch64,
        AcceleratorChoice::Kvm,
        &working,
        "virt-10.0",
    );
    assert!(matches!(error, Err(KvmError::NoKvm { .. })), "{error:?}");
}

#[test]
fn pointer_authentication_never_runs_on_qarma5() {
    let v = |major, minor| QemuVersion { major, minor };
    let table = [
        (v(10, 0), "virt-10.0", true),
        (v(10, 1), "virt-10.1", true),
        (v(11, 0), "virt-11.0", true),
        (v(10, 0), "virt-9.2", false),
        (v(9, 2), "virt-9.2", false),
        (v(10, 0), "virt", false),
        (v(10, 0), "q35", false),
    ];
    for (qemu, machine, cheap) in table {
        assert_eq!(
            signs_pointers_cheaply(qemu, machine),
            cheap,
            "{qemu} {machine}"
        );
    }
    let old = host(VmArchitecture::X86_64, absent(), (8, 2));
    let params = resolve(
        VmArchitecture::Aarch64,
        AcceleratorChoice::Auto,
        &old,
        "virt-8.2",
    )
    .expect("resolves");
    assert_eq!(params.cpu, CpuModel::MaximumWithoutPointerAuthentication);
    assert_eq!(
        params.warnings,
        ["QEMU 8.2 is older than 9.1: emulated arm64 guests run slower"]
    );
}

#[test]
fn a_missing_emulator_is_named() {
    let mut facts = host(VmArchitecture::X86_64, absent(), (10, 0));
    facts.emulators.remove(&VmArchitecture::Aarch64);
    let error = resolve(
        VmArchitecture::Aarch64,
        AcceleratorChoice::Auto,
        &facts,
        "virt-10.0",
    );
    assert!(
        matches!(
            error,
            Err(KvmError::MissingEmulator {
                architecture: VmArchitecture::Aarch64
            })
        ),
        "{error:?}"
    );
}
