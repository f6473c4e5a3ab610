//! What a host refuses, and what it says: field, value, bound.

use harmony::domain::error::{ErrorKind, HintedError};
use harmony::domain::topology::virtualization::{
    AcceleratorChoice, CpuProfile, FirmwareChoice, ShareDriver, SharedDirectory,
    VirtualMachineSpec, VmArchitecture,
};
use harmony::modules::host::{EmulatorFact, HostFacts, LibvirtFacts};
use harmony::modules::kvm::KvmError;
use harmony::modules::kvm::preview::preview;

use crate::hosts::host;

fn spec() -> VirtualMachineSpec {
    VirtualMachineSpec {
        image: Some("/images/device.qcow2".into()),
        ..VirtualMachineSpec::new_aarch64("edge")
    }
}

fn refused(spec: &VirtualMachineSpec, host: &HostFacts) -> KvmError {
    preview(spec, host).expect_err("refused")
}

/// Every violation, as people read it, and what to do.
fn violations(spec: &VirtualMachineSpec, host: &HostFacts) -> (Vec<String>, String) {
    match refused(spec, host) {
        KvmError::Invalid { violations } => {
            let fixes: Vec<&str> = violations.iter().map(|v| v.fix.as_str()).collect();
            let fixes = fixes.join("; ");
            (violations.iter().map(ToString::to_string).collect(), fixes)
        }
        other => panic!("{other:?}"),
    }
}

fn share(driver: ShareDriver, read_only: bool) -> SharedDirectory {
    SharedDirectory {
        tag: "src".to_owned(),
        path: "/srv".into(),
        driver,
        read_only,
    }
}

#[test]
fn a_host_lists_all_that_it_cannot_do() {
    let wanted = VirtualMachineSpec {
        vcpus: 9,
        memory_mib: 8192,
        shares: vec![share(ShareDriver::Virtiofs, false)],
        ..spec()
    };
    let mut host = host("raspberry-pi-5");
    host.programs.virtiofsd = None;
    host.programs.passt = None;
    let (found, fixes) = violations(&wanted, &host);
    assert_eq!(
        found,
        [
            "vcpus is '9' (expected 1 to 8 with the interrupt controller GICv2, the only one that this host has for guests)",
            "memory_mib is '8192' (expected at most 7938 MiB, which is what this host has)",
            "shares[0].driver is 'virtiofs' (expected 9p or auto: this host has no virtiofsd)",
            "networks[0].network is 'user' (expected nat or bridge: this host has no passt)",
        ]
    );
    assert_eq!(
        fixes,
        "set vcpus to 1 to 8 with the interrupt controller GICv2, the only one that this host has for guests; ask for less, or set memory_overcommit; set the driver of 'src' to 9p; install passt"
    );
    let overcommitted = VirtualMachineSpec {
        memory_mib: 8192,
        memory_overcommit: true,
        networks: Vec::new(),
        ..spec()
    };
    preview(&overcommitted, &host).expect("told to");
}

#[test]
fn what_an_old_libvirt_cannot_do_is_said_with_its_version() {
    let host = host("debian-12");
    let (found, _) = violations(&spec(), &host);
    assert_eq!(
        found,
        [
            "networks[0].network is 'user' (expected nat or bridge: libvirt 9.0.0 cannot use passt (it can since 9.2.0))"
        ]
    );
    let read_only = VirtualMachineSpec {
        networks: Vec::new(),
        shares: vec![share(ShareDriver::Virtiofs, true)],
        ..spec()
    };
    let (found, _) = violations(&read_only, &host);
    assert_eq!(
        found,
        [
            "shares[0].driver is 'virtiofs' (expected 9p or auto: read-only virtiofs needs libvirt 11.0.0, and this is 9.0.0)"
        ]
    );
}

#[test]
fn cpus_that_a_lane_cannot_show() {
    let with = |architecture, cpu: &str, accelerator| VirtualMachineSpec {
        architecture,
        cpu: CpuProfile::from(cpu.to_owned()),
        accelerator,
        ..spec()
    };
    let (found, fix) = violations(
        &with(VmArchitecture::Aarch64, "host", AcceleratorChoice::Auto),
        &host("debian-13"),
    );
    assert_eq!(
        found,
        [
            "cpu is 'host' (expected fastest, raspberry-pi-5, max or a model's name under TCG, which has no host CPU to show)"
        ]
    );
    assert!(fix.starts_with("set cpu to fastest"), "{fix}");
    let unknown = with(
        VmArchitecture::Aarch64,
        "cortex-a999",
        AcceleratorChoice::Auto,
    );
    let (found, fix) = violations(&unknown, &host("debian-13"));
    assert!(
        found[0].starts_with(
            "cpu is 'cortex-a999' (expected a model that /usr/bin/qemu-system-aarch64 has: "
        ),
        "{found:?}"
    );
    assert!(found[0].contains("cortex-a76, "), "{found:?}");
    assert_eq!(fix, "set cpu to one of those, or to fastest");

    // KVM shows a guest the host's own core and no other.
    let pi_here = with(
        VmArchitecture::Aarch64,
        "raspberry-pi-5",
        AcceleratorChoice::Kvm,
    );
    let error = refused(&pi_here, &host("arm64-server"));
    assert_eq!(
        error.to_string(),
        "KVM was asked for, but cannot run an aarch64 guest here: KVM shows the guest the host's own core, which is no Cortex-A76"
    );
    preview(&pi_here, &host("raspberry-pi-5")).expect("it is one");
}

#[test]
fn kvm_that_cannot_be_had_is_an_error_only_when_it_was_asked_for() {
    for name in crate::hosts::names() {
        for architecture in VmArchitecture::ALL {
            let mut facts = host(&name);
            facts.programs.passt = Some("/usr/bin/passt".into());
            let wanted = |accelerator| VirtualMachineSpec {
                architecture,
                accelerator,
                networks: Vec::new(),
                ..spec()
            };
            if !facts.emulators.contains_key(architecture.as_str()) {
                let error = refused(&wanted(AcceleratorChoice::Auto), &facts);
                let expected = format!("qemu-system-{architecture} is not on PATH");
                assert!(error.to_string().ends_with(&expected), "{name}: {error}");
                continue;
            }
            preview(&wanted(AcceleratorChoice::Auto), &facts).expect(&name);
            preview(&wanted(AcceleratorChoice::Tcg), &facts).expect(&name);
            let kvm = preview(&wanted(AcceleratorChoice::Kvm), &facts);
            let native = facts.architecture == Some(architecture);
            let works = facts.kvm == harmony::modules::host::KvmProof::Executes;
            assert_eq!(
                kvm.is_ok(),
                native && works,
                "{name} {architecture}: {kvm:?}"
            );
            if let Err(error) = kvm {
                assert!(matches!(error, KvmError::NoKvm { .. }), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Unavailable);
            }
        }
    }
}

#[test]
fn what_a_host_lacks_has_an_error_of_its_own() {
    let complete = host("debian-13");
    let mut broken = complete.clone();
    let path = "/usr/bin/qemu-system-aarch64".into();
    let said = "cannot open shared object file".to_owned();
    broken
        .emulators
        .insert("aarch64".to_owned(), EmulatorFact::Broken { path, said });
    assert_eq!(
        refused(&spec(), &broken).to_string(),
        "the emulator /usr/bin/qemu-system-aarch64 did not tell its version (it said: 'cannot open shared object file')"
    );

    let mut silent = complete.clone();
    silent.libvirt = LibvirtFacts::Silent {
        reason: "connection refused".to_owned(),
    };
    assert_eq!(
        refused(&spec(), &silent).to_string(),
        "libvirt offers no aarch64 guests under tcg: connection refused"
    );

    let mut bare = complete;
    bare.firmware.clear();
    let error = refused(&spec(), &bare);
    assert!(
        matches!(&error, KvmError::MissingFirmware { architecture: VmArchitecture::Aarch64, rejected } if rejected.is_empty()),
        "{error:?}"
    );
    let uefi = VirtualMachineSpec {
        architecture: VmArchitecture::X86_64,
        firmware: FirmwareChoice::Uefi,
        ..spec()
    };
    let error = refused(&uefi, &bare);
    assert_eq!(
        error.to_string(),
        "no UEFI firmware for x86_64 guests found; tried nothing"
    );
    let bios = VirtualMachineSpec {
        firmware: FirmwareChoice::Auto,
        ..uefi
    };
    preview(&bios, &bare).expect("BIOS is part of QEMU");
}
