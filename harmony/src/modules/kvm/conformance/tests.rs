//! The machine's clauses.

use std::path::Path;

use super::domain_conformance;
use crate::domain::topology::virtualization::VirtualMachineSpec;
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};
use crate::modules::host::HostFacts;
use crate::modules::image::inspect::ClauseId::{
    self, DeviceTree, FirmwareOutside, Gic, HotplugBus, PersistentVariables, Rtc, SerialConsole,
    Uefi, VirtualTimer,
};
use crate::modules::image::inspect::Verdict;
use crate::modules::kvm::params::{DomainXmlParams, Firmware, SerialPort};
use crate::modules::kvm::types::VmConfig;

fn resolved(architecture: VmArchitecture) -> DomainXmlParams {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hosts/debian-12-backports.json");
    let text = std::fs::read_to_string(file).expect("the fixture");
    let host: HostFacts = serde_json::from_str(&text).expect("facts");
    let spec = VirtualMachineSpec {
        architecture,
        image: Some("/images/device.qcow2".into()),
        ..VirtualMachineSpec::new_aarch64("edge-01")
    };
    let config = VmConfig::try_from(&spec).expect("valid");
    DomainXmlParams::resolve(&config, &host).expect("resolved")
}

/// The clauses that do not pass.
fn exceptions(params: &DomainXmlParams) -> Vec<(ClauseId, Verdict)> {
    let report = domain_conformance(params);
    let clauses = report.clauses.into_iter();
    clauses
        .filter(|clause| clause.verdict != Verdict::Pass)
        .map(|clause| (clause.id, clause.verdict))
        .collect()
}

#[test]
fn the_resolved_arm_machine_keeps_every_clause() {
    let params = resolved(Aarch64);
    assert_eq!(exceptions(&params), []);
    let ids: Vec<ClauseId> = domain_conformance(&params)
        .clauses
        .iter()
        .map(|clause| clause.id)
        .collect();
    assert_eq!(
        ids,
        [
            Uefi,
            FirmwareOutside,
            PersistentVariables,
            Rtc,
            DeviceTree,
            SerialConsole,
            Gic,
            VirtualTimer,
            HotplugBus
        ]
    );
}

#[test]
fn each_knob_of_the_machine_has_its_clause() {
    type Change = fn(&mut DomainXmlParams);
    type Expected = &'static [(ClauseId, &'static str)];
    const NONE: &str = "not decidable: the machine has no UEFI firmware";
    const SBSA: &str = "not decidable: what machine sbsa-ref has is not known here";
    let table: [(Change, Expected); 6] = [
        (
            |p| p.firmware = Firmware::Bios,
            &[
                (Uefi, "FAIL: BIOS (expected UEFI)"),
                (FirmwareOutside, NONE),
                (PersistentVariables, NONE),
                (DeviceTree, NONE),
            ],
        ),
        (
            |p| p.gic = Some(1),
            &[(Gic, "FAIL: GICv1 (expected GICv2 or newer)")],
        ),
        (
            |p| p.gic = None,
            &[(Gic, "not decidable: the version is left to QEMU")],
        ),
        (
            |p| p.serial_port = SerialPort::Isa,
            &[(SerialConsole, "FAIL: an ISA serial port (expected a pl011)")],
        ),
        (
            |p| p.spare_root_ports = 0,
            &[(
                HotplugBus,
                "FAIL: no empty PCIe root port (expected at least one)",
            )],
        ),
        (
            |p| p.machine = "sbsa-ref".to_owned(),
            &[(Rtc, SBSA), (DeviceTree, SBSA), (VirtualTimer, SBSA)],
        ),
    ];
    for (change, expected) in table {
        let mut params = resolved(Aarch64);
        change(&mut params);
        let found: Vec<(ClauseId, String)> = exceptions(&params)
            .into_iter()
            .map(|(id, verdict)| (id, verdict.to_string()))
            .collect();
        let expected: Vec<(ClauseId, String)> = expected
            .iter()
            .map(|(id, text)| (*id, (*text).to_owned()))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn an_x86_64_machine_may_have_a_bios() {
    let report = domain_conformance(&resolved(X86_64));
    assert!(report.conforms(), "{report}");
    assert_eq!(
        report.verdict(Uefi),
        Some(&Verdict::fail("BIOS", "UEFI")),
        "{report}"
    );
    assert_eq!(report.verdict(Gic), None);
}
