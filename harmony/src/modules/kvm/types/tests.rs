use uuid::Uuid;

use super::{MacAddress, VmConfig, VmConfigBuilder, VmName};
use crate::domain::error::HintedError;
use crate::domain::topology::virtualization::{
    ConsoleLog, CpuProfile, DataDisk, DiskSource, FirmwareChoice, FirstBoot, KernelBoot,
    NetworkCard, PortForward, Protocol, ShareDriver, SharedDirectory, VirtualMachineSpec,
    VmArchitecture, VmNetwork,
};
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
        assert_eq!(
            (violation.field.as_str(), violation.value.as_str()),
            ("name", name)
        );
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
        "00:1a:2b:3c:4d:5e",
        "525400abcdef",
    ] {
        assert_eq!(bad.parse::<MacAddress>().expect_err(bad).value, bad);
    }
    let uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
    let first = MacAddress::for_cards(uuid, &[None]);
    assert_eq!(first[0].to_string(), "52:54:00:bc:de:f0");
}

#[test]
fn every_card_has_an_address_of_its_own_that_stays() {
    let uuid = Uuid::from_u128(0xffff_ffff);
    let addresses = MacAddress::for_cards(uuid, &[None; 8]);
    let distinct: std::collections::HashSet<String> =
        addresses.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), 8);
    assert_eq!(MacAddress::for_cards(uuid, &[None; 8]), addresses);
    // The address that the first card would derive is given to the second: the first gives way.
    let taken: MacAddress = "52:54:00:ff:ff:ff".parse().expect("valid");
    let given = MacAddress::for_cards(uuid, &[None, Some(taken)]);
    assert_eq!(given[0].to_string(), "52:54:00:00:00:00");
    assert_eq!(given[1], taken);
}

fn fields(spec: &VirtualMachineSpec) -> Vec<String> {
    match VmConfig::try_from(spec) {
        Err(KvmError::Invalid { violations }) => violations.into_iter().map(|v| v.field).collect(),
        other => panic!("must be refused: {other:?}"),
    }
}

fn card(network: VmNetwork, mac: &str) -> NetworkCard {
    NetworkCard {
        network,
        mac: Some(mac.to_owned()),
    }
}

fn file_disk(tag: &str, path: &str) -> DataDisk {
    DataDisk {
        tag: tag.to_owned(),
        source: DiskSource::File { path: path.into() },
        read_only: true,
    }
}

#[test]
fn every_violation_is_reported_at_once_with_its_path() {
    let forward = PortForward {
        host: 8080,
        guest: 0,
        protocol: Protocol::Tcp,
    };
    let spec = VirtualMachineSpec {
        name: "<x>".to_owned(),
        vcpus: 0,
        memory_mib: 64,
        disk_gib: 0,
        networks: vec![
            card(
                VmNetwork::User {
                    forwards: vec![forward, forward],
                },
                "52:54:00:00:00:01",
            ),
            card(VmNetwork::USER, "52:54:00:00:00:01"),
            card(
                VmNetwork::Bridge {
                    name: "a-name-that-is-too-long".to_owned(),
                },
                "52:54",
            ),
        ],
        disks: vec![
            file_disk("a", "/disk"),
            file_disk("a", "/disk"),
            file_disk("UPPER", "relative"),
            DataDisk {
                tag: "blank".to_owned(),
                source: DiskSource::Blank { size_gib: 0 },
                read_only: true,
            },
        ],
        shares: vec![SharedDirectory {
            tag: "9lives".to_owned(),
            path: "/a\nb".into(),
            driver: ShareDriver::Auto,
            read_only: false,
        }],
        cpu: CpuProfile::Named("a b".to_owned()),
        machine: Some("virt".to_owned()),
        kernel: Some(KernelBoot {
            image: "vmlinuz".into(),
            initrd: Some("/initrd".into()),
            arguments: vec!["quiet".to_owned(), "two words".to_owned(), "x".repeat(2047)],
        }),
        console: ConsoleLog::File { path: "log".into() },
        uuid: Some(Uuid::nil()),
        serial: Some(String::new()),
        first_boot: Some(FirstBoot {
            user: "Root".to_owned(),
            authorized_keys: vec![],
            setup_script: Some("echo".to_owned()),
        }),
        ..VirtualMachineSpec::default()
    };
    let expected = [
        "name",
        "vcpus",
        "memory_mib",
        "disk_gib",
        "image",
        "networks[0].network.forwards[0].guest",
        "networks[0].network.forwards[1].guest",
        "networks[2].network.name",
        "networks[2].mac",
        "networks[1].mac",
        "networks[0].network.forwards[1].host",
        "disks[2].source.path",
        "disks[2].tag",
        "disks[3].source.size_gib",
        "disks[3].read_only",
        "disks[1].tag",
        "disks[1].source.path",
        "shares[0].path",
        "shares[0].tag",
        "cpu",
        "machine",
        "kernel.image",
        "kernel.arguments[1]",
        "kernel.arguments",
        "console.path",
        "uuid",
        "serial",
        "first_boot.user",
        "first_boot.authorized_keys",
        "first_boot.setup_script",
    ];
    assert_eq!(fields(&spec), expected);
}

#[test]
fn a_violation_names_field_value_bound_and_fix() {
    let spec = VirtualMachineSpec {
        name: "a".to_owned(),
        image: Some("/i.qcow2".into()),
        vcpus: 0,
        ..VirtualMachineSpec::default()
    };
    let error = VmConfig::try_from(&spec).expect_err("refused");
    let expected = "the virtual machine is not valid: vcpus is '0' (expected 1 to 255)";
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.hint().as_deref(), Some("set vcpus to 1 to 255"));
}

#[test]
fn no_more_devices_than_there_is_room_for() {
    let with = |networks: usize, disks: usize, shares: usize| {
        let mut builder = VmConfigBuilder::new("a", "/i.qcow2").unconnected();
        for _ in 0..networks {
            builder.push_network(VmNetwork::USER);
        }
        for disk in 0..disks {
            builder.push_disk(file_disk(&format!("d{disk}"), &format!("/disk{disk}")));
        }
        for share in 0..shares {
            builder.push_share(SharedDirectory {
                tag: format!("s{share}"),
                path: "/srv".into(),
                driver: ShareDriver::NineP,
                read_only: true,
            });
        }
        match builder.build() {
            Ok(_) => Vec::new(),
            Err(KvmError::Invalid { violations }) => {
                violations.iter().map(ToString::to_string).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(with(0, 0, 0), Vec::<String>::new());
    assert_eq!(with(8, 63, 8), Vec::<String>::new());
    assert_eq!(
        with(9, 64, 9),
        [
            "networks is '9 entries' (expected at most 8)",
            "disks is '64 entries' (expected at most 63)",
            "shares is '9 entries' (expected at most 8)",
        ]
    );
}

#[test]
fn what_is_for_another_architecture_is_refused() {
    let spec = |architecture| VirtualMachineSpec {
        name: "a".to_owned(),
        image: Some("/i.qcow2".into()),
        architecture,
        ..VirtualMachineSpec::default()
    };
    let (x86, arm) = (spec(VmArchitecture::X86_64), spec(VmArchitecture::Aarch64));
    let pi = VirtualMachineSpec {
        cpu: CpuProfile::RaspberryPi5,
        machine: Some("virt-9.2".to_owned()),
        ..x86
    };
    assert_eq!(fields(&pi), ["cpu", "machine"]);
    let bios = VirtualMachineSpec {
        firmware: FirmwareChoice::Bios,
        machine: Some("pc-q35-9.2".to_owned()),
        ..arm
    };
    assert_eq!(fields(&bios), ["machine", "firmware"]);
}

#[test]
fn devices_are_pushed_for_a_handle() {
    let mut builder = VmConfigBuilder::new("a", "/i.qcow2");
    let disk = builder.push_disk(file_disk("data", "/data.raw"));
    let card = builder.push_network(VmNetwork::USER);
    assert_eq!((disk.tag(), card.place()), ("data", 1));
    let config = builder.build().expect("valid");
    assert_eq!(config.disks()[0].tag.as_str(), disk.tag());
    assert_eq!(config.networks().len(), 2);
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
        memory_overcommit: true,
        networks: vec![
            card(VmNetwork::USER, "52:54:00:00:00:01"),
            VmNetwork::USER.into(),
        ],
        disks: vec![file_disk("data", "/data.raw")],
        shares: vec![SharedDirectory {
            tag: "src".to_owned(),
            path: "/src".into(),
            driver: ShareDriver::Virtiofs,
            read_only: true,
        }],
        cpu: CpuProfile::RaspberryPi5,
        machine: Some("virt-9.2".to_owned()),
        firmware: FirmwareChoice::Uefi,
        kernel: Some(KernelBoot {
            image: "/vmlinuz".into(),
            initrd: None,
            arguments: vec!["console=ttyAMA0".to_owned()],
        }),
        console: ConsoleLog::Discarded,
        uuid: Some(Uuid::from_u128(1)),
        serial: Some("10000000abcdef01".to_owned()),
        first_boot: Some(FirstBoot {
            user: "harmony".to_owned(),
            authorized_keys: vec!["ssh-ed25519 AAAA a".to_owned()],
            setup_script: Some("#!/bin/sh\n".to_owned()),
        }),
        ..VirtualMachineSpec::new_aarch64("pi")
    };
    let config = VmConfig::try_from(&spec).expect("valid");
    assert_eq!(config.to_spec(), spec);
}
