use uuid::Uuid;

use super::{MacAddress, VmConfig, VmConfigBuilder, VmName};
use crate::domain::topology::virtualization::{FirstBoot, VirtualMachineSpec, VmNetwork};
use crate::modules::kvm::error::KvmError;

#[test]
fn names() {
    let good = ["a", "edge-01", "Edge_01.lab", "0", &"x".repeat(63)];
    for name in good {
        assert_eq!(name.parse::<VmName>().expect(name).as_str(), name);
    }
    let bad = [
        "",
        "../x",
        "a b",
        "<x>",
        ".",
        "-x",
        "a/b",
        "a&b",
        "a\"b",
        "é",
        "a\n",
        &"x".repeat(64),
        &"x".repeat(80),
    ];
    for name in bad {
        let violation = name.parse::<VmName>().expect_err(name);
        assert_eq!((violation.field, violation.value.as_str()), ("name", name));
    }
    assert!(
        serde_json::from_str::<VmName>("\"../x\"").is_err_and(|e| e.to_string().contains("../x"))
    );
}

#[test]
fn hostnames_are_valid() {
    for (name, expected) in [("Edge_01.lab", "edge-01-lab"), ("a.", "a"), ("pi", "pi")] {
        assert_eq!(name.parse::<VmName>().expect(name).hostname(), expected);
    }
}

#[test]
fn mac_addresses() {
    let mac: MacAddress = "52:54:00:ab:cd:ef".parse().expect("valid");
    assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
    for bad in [
        "",
        "52:54:00:ab:cd",
        "52:54:00:ab:cd:eg",
        "52:54:00:ab:cd:+1",
        "01:00:5e:00:00:01",
        "525400abcdef",
    ] {
        assert_eq!(bad.parse::<MacAddress>().expect_err(bad).value, bad);
    }
    let uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
    assert_eq!(MacAddress::for_vm(uuid).to_string(), "52:54:00:bc:de:f0");
}

#[test]
fn every_violation_is_reported_at_once() {
    let spec = VirtualMachineSpec {
        name: "<x>".to_owned(),
        vcpus: 0,
        memory_mib: 64,
        disk_gib: 0,
        network: VmNetwork::Bridge {
            name: "a-name-that-is-too-long".to_owned(),
        },
        first_boot: Some(FirstBoot {
            user: "Root".to_owned(),
            authorized_keys: vec![],
        }),
        ..VirtualMachineSpec::default()
    };
    let Err(KvmError::Invalid { violations }) = VmConfig::try_from(&spec) else {
        panic!("must be refused");
    };
    let fields: Vec<&str> = violations.iter().map(|v| v.field).collect();
    assert_eq!(
        fields,
        [
            "name",
            "vcpus",
            "memory_mib",
            "disk_gib",
            "image",
            "network.name",
            "first_boot.user"
        ]
    );
    assert_eq!(
        violations[1].to_string(),
        "vcpus is '0' (expected 1 to 255)"
    );
}

#[test]
fn bounds_are_inclusive() {
    let with = |vcpus, memory_mib, disk_gib| {
        VmConfigBuilder::new("a", "/i.qcow2")
            .vcpus(vcpus)
            .memory_mib(memory_mib)
            .disk_gib(disk_gib)
            .build()
            .is_ok()
    };
    assert!(with(1, 128, 1) && with(255, 16_777_216, 65_536));
    assert!(!with(256, 128, 1) && !with(1, 127, 1) && !with(1, 128, 65_537));
}

#[test]
fn the_checked_configuration_gives_its_spec_back() {
    let spec = VirtualMachineSpec {
        image: Some("/images/a.qcow2".into()),
        first_boot: Some(FirstBoot {
            user: "harmony".to_owned(),
            authorized_keys: vec!["ssh-ed25519 AAAA a".to_owned()],
        }),
        ..VirtualMachineSpec::new_aarch64("pi")
    };
    let config = VmConfig::try_from(&spec).expect("valid");
    assert_eq!(config.to_spec(), spec);
}
