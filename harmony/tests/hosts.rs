//! The hosts of `fixtures/hosts`: some recorded there, some composed here from what their packages are known
//! to have.
//!
//! `HARMONY_UPDATE_GOLDEN=1 cargo test -p harmony` writes the composed ones anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harmony::domain::topology::virtualization::{Accelerator, VmArchitecture};
use harmony::modules::host::{
    DomainCapabilities, EmulatorFact, HostCpu, HostDistribution, HostFacts, HostPrograms, KvmProof,
    LibvirtFacts,
};

use crate::firmware_trees::candidates_of;

/// Hosts whose facts `example_iot_vm_setup --print-facts --json` wrote.
const RECORDED: [&str; 4] = [
    "debian-12",
    "debian-12-backports",
    "debian-13",
    "debian-sid",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hosts")
}

fn file(name: &str) -> PathBuf {
    directory().join(format!("{name}.json"))
}

/// The facts of the host of this name.
pub(crate) fn host(name: &str) -> HostFacts {
    let text = std::fs::read_to_string(file(name)).expect(name);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names of all hosts.
pub(crate) fn names() -> Vec<String> {
    let composed = composed().into_iter().map(|(name, _)| name.to_owned());
    RECORDED
        .map(str::to_owned)
        .into_iter()
        .chain(composed)
        .collect()
}

/// What a distribution ships.
struct Release {
    distribution: &'static str,
    qemu: &'static str,
    libvirt: &'static str,
    firmware: &'static str,
    virtiofsd: Option<&'static str>,
}

/// A host of that release, with everything else as on Debian 13: the domain capabilities are those of its
/// QEMU 10.0, with the release's machine types.
fn x86_64_host(release: &Release, kvm: KvmProof, cpus: u32, memory_mib: u64) -> HostFacts {
    let mut host = host("debian-13");
    adapt(&mut host, release);
    host.kvm = kvm;
    host.cpu.count = cpus;
    host.memory_mib = memory_mib;
    host
}

fn adapt(host: &mut HostFacts, release: &Release) {
    host.distribution = HostDistribution {
        family: harmony::modules::host::Distribution::from_os_release(release.distribution),
        name: name_of(release.distribution),
    };
    host.firmware = candidates_of(release.firmware);
    let version = release.qemu.parse().expect("a version");
    host.emulators = host
        .emulators
        .keys()
        .filter(|guest| VmArchitecture::ALL.iter().any(|a| a.as_str() == *guest))
        .map(|guest| {
            let path = format!("/usr/bin/qemu-system-{guest}").into();
            (guest.clone(), EmulatorFact::Usable { path, version })
        })
        .collect();
    host.programs = HostPrograms {
        passt: Some("/usr/bin/passt".into()),
        virtiofsd: release.virtiofsd.map(PathBuf::from),
        qemu_img: Some("/usr/bin/qemu-img".into()),
    };
    if let LibvirtFacts::Answers {
        version,
        capabilities,
        ..
    } = &mut host.libvirt
    {
        *version = release.libvirt.parse().expect("a version");
        for capability in capabilities {
            capability.machine = match capability.architecture {
                // Ubuntu has a machine type of its own for each of its releases.
                VmArchitecture::X86_64 if release.firmware == "ubuntu-24.04" => {
                    "pc-q35-noble".to_owned()
                }
                VmArchitecture::X86_64 => format!("pc-q35-{}", release.qemu),
                VmArchitecture::Aarch64 => format!("virt-{}", release.qemu),
            };
        }
    }
}

fn name_of(os_release: &str) -> String {
    let line = os_release
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.expect("has one").trim_matches('"').to_owned()
}

fn absent() -> KvmProof {
    KvmProof::Absent {
        reason: "/dev/kvm does not exist".to_owned(),
    }
}

const DEBIAN_13: Release = Release {
    distribution: "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian",
    qemu: "10.0",
    libvirt: "11.3.0",
    firmware: "debian-13",
    virtiofsd: Some("/usr/libexec/virtiofsd"),
};

/// An arm64 Debian 13 without KVM: what libvirt there says of its QEMU, recorded.
fn arm64_host(count: u32, model: &str, memory_mib: u64) -> HostFacts {
    let mut host = host("debian-13");
    host.architecture = Some(VmArchitecture::Aarch64);
    host.emulators.retain(|guest, _| guest == "aarch64");
    adapt(&mut host, &DEBIAN_13);
    host.cpu = HostCpu {
        count,
        model: model.to_owned(),
    };
    host.memory_mib = memory_mib;
    host.kvm = absent();
    let document = directory().join("debian-13-arm64-no-kvm.domcapabilities.xml");
    let xml = std::fs::read_to_string(document).expect("recorded");
    let aarch64 = VmArchitecture::Aarch64;
    let tcg = DomainCapabilities::from_xml(&xml, aarch64, Accelerator::Tcg).expect("understood");
    if let LibvirtFacts::Answers { capabilities, .. } = &mut host.libvirt {
        *capabilities = vec![tcg];
    }
    host
}

/// The same under KVM, whose interrupt controller is of the host's own kind.
fn with_kvm(mut host: HostFacts, gic: u8) -> HostFacts {
    host.kvm = KvmProof::Executes;
    if let LibvirtFacts::Answers { capabilities, .. } = &mut host.libvirt {
        let kvm = DomainCapabilities {
            accelerator: Accelerator::Kvm,
            cpu_modes: vec!["host-passthrough".to_owned(), "maximum".to_owned()],
            cpu_models: Vec::new(),
            gic_versions: vec![gic],
            ..capabilities[0].clone()
        };
        capabilities.push(kvm);
    }
    host
}

fn composed() -> Vec<(&'static str, HostFacts)> {
    let ubuntu = Release {
        distribution: "PRETTY_NAME=\"Ubuntu 24.04 LTS\"\nID=ubuntu\nID_LIKE=debian",
        qemu: "8.2",
        libvirt: "10.0.0",
        firmware: "ubuntu-24.04",
        virtiofsd: None,
    };
    let fedora = Release {
        distribution: "PRETTY_NAME=\"Fedora Linux 43 (Server Edition)\"\nID=fedora",
        qemu: "10.1",
        libvirt: "11.6.0",
        firmware: "fedora",
        virtiofsd: Some("/usr/libexec/virtiofsd"),
    };
    let arch = Release {
        distribution: "PRETTY_NAME=\"Arch Linux\"\nID=arch",
        qemu: "10.2",
        libvirt: "12.0.0",
        firmware: "arch-202608",
        virtiofsd: Some("/usr/lib/virtiofsd"),
    };
    let recorded = host("debian-13");
    let debian_13_kvm = HostFacts {
        kvm: KvmProof::Executes,
        ..recorded
    };
    let pi = arm64_host(4, HostCpu::CORTEX_A76, 7938);
    // Neoverse N1: implementer 0x41, part 0xd0c.
    let server = arm64_host(64, "arm implementer 0x41 part 0xd0c", 257_000);
    vec![
        ("debian-13-kvm", debian_13_kvm),
        (
            "ubuntu-24.04",
            x86_64_host(&ubuntu, KvmProof::Executes, 4, 15_989),
        ),
        (
            "fedora-43",
            x86_64_host(&fedora, KvmProof::Executes, 16, 63_900),
        ),
        ("arch", x86_64_host(&arch, absent(), 8, 31_900)),
        ("raspberry-pi-5", with_kvm(pi, 2)),
        ("arm64-server", with_kvm(server.clone(), 3)),
        (
            "debian-13-arm64-no-kvm",
            HostFacts {
                memory_mib: 15_989,
                ..arm64_host(4, "arm implementer 0x41 part 0xd0c", 0)
            },
        ),
    ]
}

#[test]
fn composed_hosts_are_the_golden_ones() {
    let update = std::env::var_os("HARMONY_UPDATE_GOLDEN").is_some();
    for (name, facts) in composed() {
        let json = serde_json::to_string_pretty(&facts).expect("serialisable") + "\n";
        if update {
            std::fs::write(file(name), &json).expect("written");
        }
        let golden = std::fs::read_to_string(file(name)).expect(name);
        assert_eq!(golden, json, "{name}");
    }
}

#[test]
fn facts_survive_being_stored_and_every_file_has_its_host() {
    for name in names() {
        let facts = host(&name);
        let json = serde_json::to_string_pretty(&facts).expect("serialisable") + "\n";
        let stored = std::fs::read_to_string(file(&name)).expect("readable");
        assert_eq!(stored, json, "{name}");
    }
    let entries = std::fs::read_dir(directory()).expect("the fixtures");
    let found: BTreeMap<String, ()> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| {
            (
                path.file_stem()
                    .expect("named")
                    .to_string_lossy()
                    .into_owned(),
                (),
            )
        })
        .collect();
    let expected: BTreeMap<String, ()> = names().into_iter().map(|n| (n, ())).collect();
    assert_eq!(found, expected);
}

#[test]
fn unknown_facts_are_refused() {
    let mut value = serde_json::to_value(host("debian-13")).expect("serialisable");
    value["memroy_mib"] = 1.into();
    let error = serde_json::from_value::<HostFacts>(value).expect_err("a typing error");
    assert!(error.to_string().contains("memroy_mib"), "{error}");
}
