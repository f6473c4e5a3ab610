//! Golden domain XML with the decisions behind it: whole documents, reviewed as diffs.
//!
//! Each scenario is a spec on a host of `fixtures/hosts`. `HARMONY_UPDATE_GOLDEN=1 cargo test -p harmony`
//! writes its document and its table anew; `HARMONY_UPDATE_GOLDEN=1` with the ignored test as well writes the
//! arguments that libvirt makes of the document for QEMU.

use std::path::{Path, PathBuf};
use std::process::Command;

use harmony::domain::topology::virtualization::{
    AcceleratorChoice, ConsoleLog, CpuProfile, DataDisk, DiskSource, FirmwareChoice, FirstBoot,
    KernelBoot, NetworkCard, ShareDriver, SharedDirectory, VirtualMachineSpec, VmArchitecture,
    VmNetwork,
};
use harmony::modules::kvm::preview::{Preview, preview};

use crate::hosts::host;

use AcceleratorChoice::{Auto, Kvm, Tcg};
use VmArchitecture::{Aarch64, X86_64};

struct Scenario {
    name: &'static str,
    host: &'static str,
    spec: VirtualMachineSpec,
}

impl Scenario {
    fn new(name: &'static str, host: &'static str, architecture: VmArchitecture) -> Self {
        Self {
            name,
            host,
            spec: VirtualMachineSpec {
                name: "harmony-test-edge".to_owned(),
                architecture,
                image: Some("/images/device.qcow2".into()),
                first_boot: Some(FirstBoot {
                    user: "harmony".to_owned(),
                    authorized_keys: vec!["ssh-ed25519 AAAA \"a\" <b> & 'c'".to_owned()],
                    ..FirstBoot::default()
                }),
                ..VirtualMachineSpec::default()
            },
        }
    }

    fn with(mut self, change: impl FnOnce(&mut VirtualMachineSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    fn cpu(self, cpu: &str) -> Self {
        let cpu = CpuProfile::from(cpu.to_owned());
        self.with(|spec| spec.cpu = cpu)
    }

    fn network(self, network: &str) -> Self {
        let network: VmNetwork = network.parse().expect("a network");
        self.with(|spec| spec.networks = vec![network.into()])
    }

    fn file(&self, extension: &str) -> PathBuf {
        let architecture = self.spec.architecture;
        directory().join(format!("{}.{architecture}.{extension}", self.name))
    }

    fn preview(&self) -> Preview {
        preview(&self.spec, &host(self.host)).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// What people read of the decisions.
    fn explanation(&self, preview: &Preview) -> String {
        let mut text = format!("on {}\n\n{}", self.host, preview.decisions);
        for warning in &preview.warnings {
            text.push_str(&format!("\nwarning: {warning}\n"));
        }
        text
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/domain")
}

/// Everything that a device can have, on a host where libvirt of this kind of machine can follow.
fn full_featured(name: &'static str, host: &'static str, architecture: VmArchitecture) -> Scenario {
    let disk = |tag: &str, source, read_only| DataDisk {
        tag: tag.to_owned(),
        source,
        read_only,
    };
    let share = |tag: &str, driver, read_only| SharedDirectory {
        tag: tag.to_owned(),
        path: "/srv/<shared> & 'more'".into(),
        driver,
        read_only,
    };
    let networks = [
        "user:8080:80,8443:443,5353:53/udp",
        "nat:default",
        "nat:lab",
        "bridge:br0",
        "bridge:br1",
        "user:9090:90",
        "nat:third",
        "bridge:br2",
    ];
    Scenario::new(name, host, architecture).with(|spec| {
        spec.vcpus = 16;
        spec.memory_mib = 4096;
        spec.networks = networks
            .map(|text| text.parse::<VmNetwork>().expect("a network").into())
            .into();
        spec.networks[1] = NetworkCard {
            network: VmNetwork::Nat {
                network: "default".to_owned(),
            },
            mac: Some("02:00:00:00:00:0a".to_owned()),
        };
        spec.disks = vec![
            disk("data", DiskSource::Blank { size_gib: 32 }, false),
            disk(
                "media",
                DiskSource::File {
                    path: "/srv/media.raw".into(),
                },
                true,
            ),
            disk(
                "logs",
                DiskSource::File {
                    path: "/srv/logs.qcow2".into(),
                },
                false,
            ),
        ];
        spec.shares = vec![
            share("sources", ShareDriver::NineP, true),
            share("results", ShareDriver::NineP, false),
        ];
        spec.firmware = FirmwareChoice::Uefi;
        spec.kernel = Some(KernelBoot {
            image: "/boot/vmlinuz".into(),
            initrd: Some("/boot/initrd.img".into()),
            arguments: ["root=LABEL=root", "console=ttyAMA0", "quiet"]
                .map(str::to_owned)
                .into(),
        });
        spec.console = ConsoleLog::File {
            path: "/var/log/edge.log".into(),
        };
        spec.uuid = Some(uuid::Uuid::from_u128(
            0x6ba7_b810_9dad_41d1_80b4_00c0_4fd4_30c8,
        ));
        spec.serial = Some("10000000abcdef01".to_owned());
    })
}

fn scenarios() -> Vec<Scenario> {
    const HERE: &str = "debian-12-backports";
    let new = Scenario::new;
    vec![
        // Lanes.
        new("lane-kvm", "debian-13-kvm", X86_64),
        new("lane-tcg-bios", HERE, X86_64),
        new("lane-tcg-uefi", HERE, X86_64).with(|s| s.firmware = FirmwareChoice::Uefi),
        new("lane-tcg", HERE, Aarch64),
        new("lane-kvm", "arm64-server", Aarch64),
        new("lane-tcg-native", "debian-13-arm64-no-kvm", Aarch64),
        // Hosts.
        new("host-debian-12", "debian-12", Aarch64).network("nat"),
        new("host-debian-13", "debian-13", Aarch64),
        new("host-debian-sid", "debian-sid", Aarch64),
        new("host-ubuntu-24.04", "ubuntu-24.04", X86_64)
            .with(|s| s.firmware = FirmwareChoice::Uefi),
        new("host-ubuntu-24.04", "ubuntu-24.04", Aarch64),
        new("host-fedora-43", "fedora-43", Aarch64),
        new("host-arch", "arch", Aarch64),
        new("host-raspberry-pi-5", "raspberry-pi-5", Aarch64).cpu("raspberry-pi-5"),
        // CPU profiles.
        new("cpu-raspberry-pi-5", HERE, Aarch64).cpu("raspberry-pi-5"),
        new("cpu-max", HERE, Aarch64).cpu("max"),
        new("cpu-named", HERE, Aarch64).cpu("neoverse-v1"),
        new("cpu-max-old-qemu", "debian-12", Aarch64)
            .cpu("max")
            .network("nat"),
        new("cpu-fastest-old-machine", HERE, Aarch64)
            .with(|s| s.machine = Some("virt-9.2".to_owned())),
        new("cpu-max-old-machine", HERE, Aarch64)
            .cpu("max")
            .with(|s| s.machine = Some("virt-9.2".to_owned())),
        new("cpu-host", "debian-13-kvm", X86_64)
            .cpu("host")
            .with(|s| s.accelerator = Kvm),
        new("cpu-named", HERE, X86_64)
            .cpu("qemu64")
            .with(|s| s.accelerator = Tcg),
        // Connections.
        new("network-nat", HERE, Aarch64).network("nat"),
        new("network-bridge", HERE, Aarch64).network("bridge:br0"),
        new("network-none-no-seed", HERE, Aarch64).with(|s| {
            s.networks.clear();
            s.first_boot = None;
            s.accelerator = Auto;
        }),
        new("share-virtiofs", "debian-13", Aarch64).with(|s| {
            s.shares = vec![SharedDirectory {
                tag: "src".to_owned(),
                path: "/srv".into(),
                driver: ShareDriver::Auto,
                read_only: true,
            }];
        }),
        // Everything at once.
        full_featured("full", HERE, Aarch64),
        full_featured("full", HERE, X86_64),
    ]
}

#[test]
fn documents_and_decisions_are_the_golden_ones() {
    let update = std::env::var_os("HARMONY_UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for scenario in scenarios() {
        let preview = scenario.preview();
        let explanation = scenario.explanation(&preview);
        for (extension, text) in [("xml", &preview.xml), ("explain", &explanation)] {
            let file = scenario.file(extension);
            if update {
                std::fs::write(&file, text).expect("written");
            }
            if std::fs::read_to_string(&file).unwrap_or_default() != *text {
                differing.push(format!("--- {}\n{text}", file.display()));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "differ from the golden files:\n{}",
        differing.join("\n")
    );
}

/// What harmony makes of Arm's machines is what Arm's specification asks of one.
#[test]
fn every_arm_machine_conforms() {
    for scenario in scenarios() {
        let report = scenario.preview().conformance;
        assert_eq!(
            report.is_some(),
            scenario.spec.architecture == Aarch64,
            "{}",
            scenario.name
        );
        let failed = report.map(|r| r.failures().map(|c| c.id).collect::<Vec<_>>());
        assert_eq!(failed.unwrap_or_default(), [], "{}", scenario.name);
    }
}

#[test]
fn every_golden_file_has_its_scenario() {
    let scenarios = scenarios();
    let entries = std::fs::read_dir(directory()).expect("the golden directory");
    for entry in entries {
        let path = entry.expect("readable").path();
        let Some(extension) = path.extension().and_then(|e| e.to_str()) else {
            continue;
        };
        let expected = scenarios.iter().any(|s| s.file(extension) == path);
        assert!(expected, "{} has no scenario", path.display());
    }
}

#[test]
#[ignore = "needs virt-xml-validate and xmllint: reads the golden files"]
fn golden_files_fit_libvirts_schema() {
    for scenario in scenarios() {
        let output = Command::new("virt-xml-validate")
            .arg(scenario.file("xml"))
            .arg("domain")
            .output()
            .expect("virt-xml-validate on PATH");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {said}",
            scenario.file("xml").display()
        );
    }
}

/// Documents that a libvirt 11.3 with QEMU 10.0 on x86_64 does not take, and what it says of each.
const FOR_ANOTHER_HOST: [(&str, &str); 6] = [
    (
        "host-debian-sid.aarch64",
        "does not support machine type 'virt-11.1'",
    ),
    (
        "host-ubuntu-24.04.x86_64",
        "does not support machine type 'pc-q35-noble'",
    ),
    (
        "host-fedora-43.aarch64",
        "does not support machine type 'virt-10.1'",
    ),
    (
        "host-arch.aarch64",
        "does not support machine type 'virt-10.2'",
    ),
    (
        "host-raspberry-pi-5.aarch64",
        "does not support virt type 'kvm'",
    ),
    ("lane-kvm.aarch64", "does not support virt type 'kvm'"),
];

/// One that it takes, but whose arguments depend on a program that it looks for.
const NEEDS_VIRTIOFSD: &str = "share-virtiofs.aarch64";

fn virsh(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("virsh");
    command.args(["-c", "qemu:///system"]).args(arguments);
    let output = command.output().expect("virsh on PATH");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// libvirt defines every document with its schema's checks on, and makes the golden arguments of it: whatever
/// changes in what QEMU is told is seen here.
#[test]
#[ignore = "needs libvirt 11.3 with QEMU 10.0 on x86_64, /dev/kvm and root: defines harmony-test-edge"]
fn libvirt_accepts_every_document_and_makes_the_golden_arguments_of_it() {
    let update = std::env::var_os("HARMONY_UPDATE_GOLDEN").is_some();
    // What an interrupted run left.
    let _ = virsh(&["undefine", "--nvram", "harmony-test-edge"]);
    let mut differing = Vec::new();
    for scenario in scenarios() {
        let name = format!("{}.{}", scenario.name, scenario.spec.architecture);
        let document = scenario.file("xml");
        let document = document.to_str().expect("UTF-8");
        let defined = virsh(&["define", "--validate", document]);
        if let Some((_, refusal)) = FOR_ANOTHER_HOST.iter().find(|(other, _)| *other == name) {
            let said = defined.expect_err(&name);
            assert!(said.contains(refusal), "{name}: {said}");
            continue;
        }
        defined.unwrap_or_else(|said| panic!("{name}: {said}"));
        virsh(&["undefine", "--nvram", "harmony-test-edge"]).expect("undefined");
        if name == NEEDS_VIRTIOFSD {
            continue;
        }
        let arguments = virsh(&["domxml-to-native", "qemu-argv", document]);
        let arguments = arguments.unwrap_or_else(|said| panic!("{name}: {said}"));
        let host_model = scenario
            .preview()
            .xml
            .contains("<cpu mode=\"host-model\"/>");
        let arguments = one_a_line(&arguments, host_model);
        let file = scenario.file("args");
        if update {
            std::fs::write(&file, &arguments).expect("written");
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != arguments {
            differing.push(format!("--- {}\n{arguments}", file.display()));
        }
    }
    assert!(
        differing.is_empty(),
        "differ from the golden arguments:\n{}",
        differing.join("\n")
    );
}

/// The command line from the emulator on, an option a line, without what differs from call to call: the
/// numbers of open files.
fn one_a_line(native: &str, host_model: bool) -> String {
    let start = native.find("/usr/bin/qemu-system-").expect("an emulator");
    let options = native[start..].trim_end().replace(" -", "\n-");
    let mut text = String::new();
    for line in options.lines() {
        // What the model close to the host's is, is a matter of the host that runs the test.
        let cpu = host_model && line.starts_with("-cpu ");
        text.push_str(if cpu { "-cpu HOST-MODEL" } else { line });
        text.push('\n');
    }
    let mut clean = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\"fd\":\"") {
        clean.push_str(before);
        clean.push_str("\"fd\":\"N");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    clean.push_str(rest);
    clean
}

/// Pointer authentication by QARMA5 would come back unnoticed: it costs more than half of an emulated boot.
#[test]
fn no_golden_arguments_have_pointer_authentication_by_accident() {
    let mut seen = 0;
    for scenario in scenarios() {
        let Ok(arguments) = std::fs::read_to_string(scenario.file("args")) else {
            continue;
        };
        let option = |name: &str| {
            let mut lines = arguments.lines().filter_map(|line| line.strip_prefix(name));
            lines.next().unwrap_or_default().trim().to_owned()
        };
        let (machine, cpu) = (option("-machine "), option("-cpu "));
        if !machine.starts_with("virt-") || !cpu.starts_with("max") {
            continue;
        }
        seen += 1;
        let impdef_by_default = machine.starts_with("virt-10.");
        let impdef = arguments.contains("-global max-arm-cpu.pauth-impdef=on");
        let without = cpu.contains("pauth=off");
        assert!(
            impdef_by_default || impdef || without,
            "{}: {machine} {cpu}",
            scenario.name
        );
    }
    assert!(
        seen >= 10,
        "only {seen} arm64 guests with CPU max were looked at"
    );
}
