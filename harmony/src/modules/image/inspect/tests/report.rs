//! The machine's clauses, the report as table and JSON, and the images that are really built.

use std::path::Path;

use serde_json::json;

use super::super::ClauseId::{
    self, DeviceTree, FirmwareOutside, Gic, HotplugBus, PersistentVariables, Rtc, SerialConsole,
    Uefi, VirtualTimer,
};
use super::super::{
    Clause, ConformanceReport, Level, Limits, Verdict, conformance, domain_conformance, inspect,
};
use crate::domain::topology::virtualization::VirtualMachineSpec;
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};
use crate::modules::host::HostFacts;
use crate::modules::image::test_images::TestImages;
use crate::modules::kvm::VmConfig;
use crate::modules::kvm::params::{DomainXmlParams, Firmware, SerialPort};

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

#[test]
fn the_report_is_a_table_and_json() {
    let clause = |id, level, verdict| Clause::new(id, level, verdict);
    let machine = ConformanceReport {
        architecture: Aarch64,
        clauses: vec![clause(
            HotplugBus,
            Level::Should,
            Verdict::fail("none", "one"),
        )],
    };
    let report = ConformanceReport {
        architecture: Aarch64,
        clauses: vec![
            clause(Uefi, Level::Must, Verdict::Pass),
            clause(Gic, Level::Must, Verdict::unknown("left out")),
        ],
    }
    .with(machine);
    assert_eq!(
        report.to_string(),
        "\
Virtual Firmware      uefi                    must    pass
VM Platform           gic                     must    not decidable: left out
VM Platform           hotplug-bus             should  FAIL: none (expected one)
aarch64: conforms"
    );
    assert_eq!(
        serde_json::to_value(&report).expect("serialised"),
        json!({"architecture": "aarch64", "clauses": [
            {"id": "uefi", "section": "virtual-firmware", "level": "must",
             "text": "the machine starts UEFI firmware", "verdict": "pass"},
            {"id": "gic", "section": "vm-platform", "level": "must",
             "text": "the machine has a GICv2 or newer",
             "verdict": "not-decidable", "reason": "left out"},
            {"id": "hotplug-bus", "section": "vm-platform", "level": "should",
             "text": "disks and network cards can be plugged in while the guest runs",
             "verdict": "fail", "found": "none", "expected": "one"},
        ]})
    );
}

#[tokio::test]
#[ignore = "needs root or subordinate ids, mmdebstrap and a Debian mirror: builds images of both architectures, 5 min"]
async fn built_images_conform() {
    let images = TestImages::new();
    for architecture in VmArchitecture::ALL {
        let image = images.debian_12(architecture).await;
        let facts = inspect(&image, &Limits::default()).expect("readable");
        let report = conformance(&facts, architecture);
        assert_eq!(
            report.failures().next(),
            None,
            "{}\n{report}",
            image.display()
        );
        assert!(report.conforms());
    }
}

#[test]
fn a_clause_in_a_sentence_has_its_section() {
    let verdict = Verdict::fail("PE32", "PE32+");
    let clause = Clause::new(ClauseId::LoaderApplication, Level::Must, verdict);
    assert_eq!(
        clause.to_string(),
        "loader-application (Image Format): found PE32, expected PE32+"
    );
}
