//! The report as table and JSON, and the images that are really built.

use serde_json::json;

use super::super::ClauseId::{self, Gic, HotplugBus, Uefi};
use super::super::{Clause, ConformanceReport, Level, Limits, Verdict, conformance, inspect};
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64};
use crate::modules::image::test_images::TestImages;

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
