//! Golden domain XML: whole documents, reviewed as diffs.
//!
//! `HARMONY_UPDATE_GOLDEN=1 cargo test -p harmony` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harmony::domain::topology::virtualization::{
    AcceleratorChoice, FirstBoot, VmArchitecture, VmNetwork,
};
use harmony::modules::host::{Emulator, HostFacts, KvmProof, QemuVersion};
use harmony::modules::kvm::firmware::FlashFormat;
use harmony::modules::kvm::params::DomainXmlParams;
use harmony::modules::kvm::xml::{Placement, domain_xml};
use harmony::modules::kvm::{AarchFirmware, MacAddress, VmConfig, VmConfigBuilder};

struct Scenario {
    name: &'static str,
    architecture: VmArchitecture,
    host: VmArchitecture,
    kvm: KvmProof,
    qemu: (u32, u32),
    network: VmNetwork,
    seed: bool,
}

impl Scenario {
    fn new(name: &'static str, architecture: VmArchitecture) -> Self {
        Self {
            name,
            architecture,
            host: VmArchitecture::X86_64,
            kvm: KvmProof::Absent {
                reason: "no device".to_owned(),
            },
            qemu: (10, 0),
            network: VmNetwork::User,
            seed: true,
        }
    }

    fn file(&self) -> PathBuf {
        golden_dir().join(format!("{}.{}.xml", self.name, self.architecture))
    }

    fn config(&self) -> VmConfig {
        let builder = VmConfigBuilder::new("edge-01", "/images/device.qcow2")
            .architecture(self.architecture)
            .accelerator(AcceleratorChoice::Auto)
            .network(self.network.clone());
        let builder = if self.seed {
            builder.first_boot(FirstBoot {
                user: "harmony".to_owned(),
                authorized_keys: vec!["ssh-ed25519 AAAA \"a\" <b> & 'c'".to_owned()],
            })
        } else {
            builder
        };
        builder.build().expect("a valid configuration")
    }

    fn xml(&self) -> String {
        let (major, minor) = self.qemu;
        let machine = match self.architecture {
            VmArchitecture::X86_64 => format!("pc-q35-{major}.{minor}"),
            VmArchitecture::Aarch64 => format!("virt-{major}.{minor}"),
        };
        let emulators: BTreeMap<_, _> = VmArchitecture::ALL
            .map(|guest| {
                let path = format!("/usr/bin/qemu-system-{guest}").into();
                let version = QemuVersion { major, minor };
                (guest, Emulator { path, version })
            })
            .into();
        let facts = HostFacts {
            architecture: Some(self.host),
            emulators,
            kvm: self.kvm.clone(),
        };
        let firmware = AarchFirmware {
            code: "/usr/share/AAVMF/AAVMF_CODE.fd".into(),
            vars_template: "/usr/share/AAVMF/AAVMF_VARS.fd".into(),
            format: FlashFormat::Raw,
        };
        let config = self.config();
        let params = DomainXmlParams::resolve(&config, &facts, machine, Some(firmware))
            .expect("the host can run it");
        let uuid = uuid::Uuid::from_u128(0x6ba7_b810_9dad_41d1_80b4_00c0_4fd4_30c8);
        let pool = Path::new("/var/lib/libvirt/images");
        let placement = Placement {
            uuid,
            mac: MacAddress::for_vm(uuid),
            overlay: pool.join("edge-01.qcow2"),
            seed: self.seed.then(|| pool.join("edge-01-seed.img")),
            nvram: pool.join("edge-01-VARS.fd"),
            console_log: pool.join("edge-01-console.log"),
            ssh_port: (self.network == VmNetwork::User).then_some(20_022),
        };
        domain_xml(&config, &params, &placement).expect("serialisable")
    }
}

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/domain")
}

fn scenarios() -> Vec<Scenario> {
    use VmArchitecture::{Aarch64, X86_64};
    let nat = VmNetwork::Nat {
        network: "default".to_owned(),
    };
    let bridge = VmNetwork::Bridge {
        name: "br0".to_owned(),
    };
    vec![
        Scenario::new("tcg-user", Aarch64),
        Scenario::new("tcg-user", X86_64),
        Scenario {
            network: nat,
            ..Scenario::new("tcg-nat", Aarch64)
        },
        Scenario {
            network: bridge,
            seed: false,
            ..Scenario::new("tcg-bridge-no-seed", Aarch64)
        },
        Scenario {
            qemu: (8, 2),
            ..Scenario::new("tcg-old-qemu", Aarch64)
        },
        Scenario {
            kvm: KvmProof::Executes,
            ..Scenario::new("kvm-user", X86_64)
        },
        Scenario {
            host: Aarch64,
            kvm: KvmProof::Executes,
            ..Scenario::new("kvm-user", Aarch64)
        },
    ]
}

#[test]
fn documents_are_the_golden_ones() {
    let update = std::env::var_os("HARMONY_UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for scenario in scenarios() {
        let (file, xml) = (scenario.file(), scenario.xml());
        if update {
            std::fs::write(&file, &xml).expect("written");
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        if golden != xml {
            differing.push(format!("--- {}\n{xml}", file.display()));
        }
    }
    assert!(
        differing.is_empty(),
        "differ from the golden files:\n{}",
        differing.join("\n")
    );
}

#[test]
fn every_golden_file_has_its_scenario() {
    let mut expected: Vec<PathBuf> = scenarios().iter().map(Scenario::file).collect();
    expected.sort();
    let mut found: Vec<PathBuf> = std::fs::read_dir(golden_dir())
        .expect("the golden directory")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "xml"))
        .collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
#[ignore = "needs virt-xml-validate and xmllint: reads the golden files"]
fn golden_files_fit_libvirts_schema() {
    for scenario in scenarios() {
        let output = std::process::Command::new("virt-xml-validate")
            .arg(scenario.file())
            .arg("domain")
            .output()
            .expect("virt-xml-validate on PATH");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {said}",
            scenario.file().display()
        );
    }
}
