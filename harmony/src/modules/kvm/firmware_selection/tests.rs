use super::{
    CandidateContent, DescribedFirmware, FirmwareCandidate, FirmwareFile, FirmwareRequest,
    FlashFormat, FlashState, RejectedFirmware, RejectionReason, UefiFirmware, select_firmware,
};
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};
use crate::modules::host::firmware::{FirmwareMapping, FirmwareTarget};

const MIB: u64 = 1024 * 1024;

fn file(path: &str, flash_bytes: u64) -> Option<FirmwareFile> {
    Some(FirmwareFile {
        path: path.into(),
        format: FlashFormat::Raw,
        state: FlashState::Present { flash_bytes },
    })
}

/// A firmware that fits every request of this module's architecture without features.
fn fitting(architecture: VmArchitecture) -> DescribedFirmware {
    let (machine, code_bytes, vars_bytes) = match architecture {
        Aarch64 => ("virt-*", 64 * MIB, 64 * MIB),
        X86_64 => ("pc-q35-*", 3_653_632, 540_672),
    };
    DescribedFirmware {
        interface_types: vec!["uefi".to_owned()],
        targets: vec![FirmwareTarget {
            architecture: architecture.as_str().to_owned(),
            machines: vec![machine.to_owned()],
        }],
        features: vec!["verbose-static".to_owned()],
        mapping: FirmwareMapping {
            device: "flash".to_owned(),
            mode: None,
        },
        code: file("/code", code_bytes),
        vars_template: file("/vars", vars_bytes),
    }
}

fn candidate(origin: &str, described: DescribedFirmware) -> FirmwareCandidate {
    FirmwareCandidate {
        origin: origin.into(),
        content: CandidateContent::Described(described),
    }
}

fn plain(architecture: VmArchitecture) -> FirmwareRequest<'static> {
    FirmwareRequest {
        architecture,
        machine: match architecture {
            Aarch64 => "virt-10.0",
            X86_64 => "pc-q35-10.0",
        },
        secure_boot: false,
        enrolled_keys: false,
        raw_only: false,
    }
}

/// Why the only candidate is rejected; none when it is taken.
fn reason(described: DescribedFirmware, request: &FirmwareRequest<'_>) -> Option<RejectionReason> {
    match select_firmware(&[candidate("/d.json", described)], request) {
        Ok(selection) => {
            assert_eq!(selection.rejected, []);
            None
        }
        Err(mut rejected) => {
            assert_eq!(rejected.len(), 1);
            Some(rejected.remove(0).reason)
        }
    }
}

type Change = fn(&mut DescribedFirmware);

/// Changes of a firmware that fits, each with the reason for which it then does not.
fn rejections() -> Vec<(VmArchitecture, Change, Option<RejectionReason>)> {
    use RejectionReason as R;
    let strings = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>();
    let chip_size = |path: &str, bytes| R::ChipSize {
        path: path.into(),
        bytes,
        expected: 64 * MIB,
    };
    let block_size = |path: &str, bytes| R::BlockSize {
        path: path.into(),
        bytes,
        block: 4096,
    };
    vec![
        (Aarch64, |_| {}, None),
        (X86_64, |_| {}, None),
        (
            Aarch64,
            |d| d.interface_types = vec!["bios".to_owned()],
            Some(R::Interface {
                found: strings(&["bios"]),
            }),
        ),
        (
            Aarch64,
            |d| d.interface_types = vec!["bios".to_owned(), "uefi".to_owned()],
            None,
        ),
        (
            Aarch64,
            |d| d.targets[0].architecture = "arm".to_owned(),
            Some(R::Architecture {
                found: strings(&["arm"]),
                wanted: Aarch64,
            }),
        ),
        (
            Aarch64,
            |d| d.targets.insert(0, fitting(X86_64).targets.remove(0)),
            None,
        ),
        (
            Aarch64,
            |d| d.targets.clear(),
            Some(R::Architecture {
                found: Vec::new(),
                wanted: Aarch64,
            }),
        ),
        (
            Aarch64,
            |d| d.targets[0].machines = vec!["virt-[".to_owned()],
            Some(R::Glob {
                glob: "virt-[".to_owned(),
                problem: "invalid range pattern",
            }),
        ),
        (
            Aarch64,
            |d| d.mapping.device = "memory".to_owned(),
            Some(R::Device {
                device: "memory".to_owned(),
            }),
        ),
        (Aarch64, |d| d.mapping.mode = Some("split".to_owned()), None),
        (
            Aarch64,
            |d| d.mapping.mode = Some("stateless".to_owned()),
            Some(R::Mode {
                mode: "stateless".to_owned(),
            }),
        ),
        (
            Aarch64,
            |d| d.code = None,
            Some(R::NoFile { part: "executable" }),
        ),
        (
            Aarch64,
            |d| d.vars_template = None,
            Some(R::NoFile {
                part: "nvram-template",
            }),
        ),
        (
            Aarch64,
            |d| d.vars_template.as_mut().expect("named").format = FlashFormat::Qcow2,
            Some(R::MixedFormats {
                code: FlashFormat::Raw,
                vars_template: FlashFormat::Qcow2,
            }),
        ),
        (
            Aarch64,
            |d| {
                d.vars_template.as_mut().expect("named").state = FlashState::Unusable {
                    reason: "gone".to_owned(),
                }
            },
            Some(R::File {
                path: "/vars".into(),
                reason: "gone".to_owned(),
            }),
        ),
        (
            Aarch64,
            |d| d.code = file("/code", 2 * MIB),
            Some(chip_size("/code", 2 * MIB)),
        ),
        (
            Aarch64,
            |d| d.vars_template = file("/vars", 64 * MIB + 1),
            Some(chip_size("/vars", 64 * MIB + 1)),
        ),
        (
            X86_64,
            |d| d.code = file("/code", 4095),
            Some(block_size("/code", 4095)),
        ),
        (
            X86_64,
            |d| d.vars_template = file("/vars", 0),
            Some(block_size("/vars", 0)),
        ),
        (X86_64, |d| d.code = file("/code", 8 * MIB - 540_672), None),
        (
            X86_64,
            |d| d.code = file("/code", 8 * MIB - 540_672 + 4096),
            Some(R::TotalSize {
                bytes: 8 * MIB + 4096,
                limit: 8 * MIB,
            }),
        ),
        (
            X86_64,
            |d| {
                d.code = file("/code", u64::MAX - 4095);
                d.vars_template = file("/vars", u64::MAX - 4095);
            },
            Some(R::TotalSize {
                bytes: u64::MAX,
                limit: 8 * MIB,
            }),
        ),
    ]
}

#[test]
fn each_rule_rejects_with_its_value_and_bound() {
    for (index, (architecture, change, expected)) in rejections().into_iter().enumerate() {
        let mut described = fitting(architecture);
        change(&mut described);
        assert_eq!(
            reason(described, &plain(architecture)),
            expected,
            "case {index}"
        );
    }
}

#[test]
fn the_glob_is_matched_against_the_resolved_machine() {
    let table = [
        ("virt-*", "virt-10.0", true),
        ("virt-*", "virt", false),
        ("virt", "virt", true),
        ("virt-10.?", "virt-10.1", true),
        ("virt-10.?", "virt-9.2", false),
        ("*", "virt-9.2", true),
        ("xvirt-*", "virt-9.2", false),
    ];
    for (glob, machine, fits) in table {
        let mut described = fitting(Aarch64);
        described.targets[0].machines = vec!["sbsa-ref".to_owned(), glob.to_owned()];
        let expected = (!fits).then(|| RejectionReason::Machine {
            found: vec!["sbsa-ref".to_owned(), glob.to_owned()],
            wanted: machine.to_owned(),
        });
        let request = FirmwareRequest {
            machine,
            ..plain(Aarch64)
        };
        assert_eq!(reason(described, &request), expected, "{glob} {machine}");
    }
}

#[test]
fn features_must_be_those_that_are_asked_for() {
    use RejectionReason::{MissingFeature, NeedsSmm, UnwantedFeature};
    let (boot, keys) = ("secure-boot", "enrolled-keys");
    let table = [
        (&[][..], false, false, None),
        (&[][..], true, false, Some(MissingFeature { feature: boot })),
        (&[boot], true, false, None),
        (
            &[boot],
            false,
            false,
            Some(UnwantedFeature { feature: boot }),
        ),
        (&[boot], true, true, Some(MissingFeature { feature: keys })),
        (&[boot, keys], true, true, None),
        (
            &[boot, keys],
            true,
            false,
            Some(UnwantedFeature { feature: keys }),
        ),
        (&[boot, "requires-smm"], true, false, None),
        (&["requires-smm"], false, false, Some(NeedsSmm)),
    ];
    for (features, secure_boot, enrolled_keys, expected) in table {
        let mut described = fitting(X86_64);
        described.features = features.iter().map(|f| (*f).to_owned()).collect();
        let request = FirmwareRequest {
            secure_boot,
            enrolled_keys,
            ..plain(X86_64)
        };
        assert_eq!(reason(described, &request), expected, "{features:?}");
    }
}

#[test]
fn qcow2_is_taken_unless_only_raw_can_be_used() {
    let mut described = fitting(Aarch64);
    for file in [&mut described.code, &mut described.vars_template] {
        file.as_mut().expect("named").format = FlashFormat::Qcow2;
    }
    let raw_only = FirmwareRequest {
        raw_only: true,
        ..plain(Aarch64)
    };
    assert_eq!(
        reason(described.clone(), &raw_only),
        Some(RejectionReason::Format {
            found: FlashFormat::Qcow2
        })
    );
    let chosen = select_firmware(&[candidate("/q.json", described)], &plain(Aarch64));
    assert_eq!(
        chosen.map(|selection| selection.firmware),
        Ok(UefiFirmware {
            code: "/code".into(),
            vars_template: "/vars".into(),
            format: FlashFormat::Qcow2,
        })
    );
}

#[test]
fn the_first_that_fits_is_taken_and_every_other_has_its_reason() {
    let broken = FirmwareCandidate {
        origin: "/1.json".into(),
        content: CandidateContent::Broken {
            reason: "not JSON".to_owned(),
        },
    };
    let candidates = [
        broken.clone(),
        candidate("/2.json", fitting(Aarch64)),
        candidate("/3.json", fitting(Aarch64)),
        candidate("/4.json", fitting(X86_64)),
    ];
    let selection = select_firmware(&candidates, &plain(Aarch64)).expect("there is one");
    assert_eq!(selection.origin.to_str(), Some("/2.json"));
    let texts: Vec<_> = selection.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "/1.json (not JSON)",
            "/3.json (fits, and comes after /2.json)",
            "/4.json (is for x86_64, not for aarch64)",
        ]
    );
    assert_eq!(
        select_firmware(&[broken], &plain(Aarch64)),
        Err(vec![RejectedFirmware {
            candidate: "/1.json".into(),
            reason: RejectionReason::Broken {
                reason: "not JSON".to_owned()
            },
        }])
    );
    assert_eq!(select_firmware(&[], &plain(Aarch64)), Err(Vec::new()));
}
