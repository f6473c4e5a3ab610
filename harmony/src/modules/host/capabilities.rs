//! What libvirt says of one kind of guest (`virsh domcapabilities`), reduced to what is resolved from it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::topology::virtualization::{Accelerator, VmArchitecture};

/// What libvirt can do for guests of one architecture under one accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainCapabilities {
    /// The guest's architecture.
    pub architecture: VmArchitecture,
    /// How its instructions are executed.
    pub accelerator: Accelerator,
    /// The emulator that was asked about.
    pub emulator: PathBuf,
    /// The versioned machine type behind the alias.
    pub machine: String,
    /// vCPUs at most.
    pub max_vcpus: u32,
    /// The `<cpu mode>`s that are supported.
    pub cpu_modes: Vec<String>,
    /// The CPU models that may be named.
    pub cpu_models: Vec<String>,
    /// The versions of Arm's interrupt controller.
    pub gic_versions: Vec<u8>,
    /// What serves user networking: `default`, `passt`. libvirt before 9.3 does not say.
    pub network_backends: Vec<String>,
}

impl DomainCapabilities {
    /// Whether a `<cpu mode>` is supported.
    pub fn has_cpu_mode(&self, mode: &str) -> bool {
        self.cpu_modes.iter().any(|m| m == mode)
    }
}

impl fmt::Display for DomainCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            architecture,
            accelerator,
            machine,
            max_vcpus,
            cpu_modes,
            cpu_models,
            gic_versions,
            ..
        } = self;
        write!(
            f,
            "{architecture}/{accelerator}: {machine}, at most {max_vcpus} vCPUs, CPU modes {} ({} models)",
            cpu_modes.join(" "),
            cpu_models.len()
        )?;
        if !gic_versions.is_empty() {
            let versions: Vec<String> = gic_versions.iter().map(ToString::to_string).collect();
            write!(f, ", GIC {}", versions.join(" "))?;
        }
        Ok(())
    }
}

/// A document that is not what libvirt was asked for.
#[derive(Debug, thiserror::Error)]
#[error("libvirt's domain capabilities are not understood")]
pub struct NotUnderstood(#[from] Box<quick_xml::DeError>);

impl DomainCapabilities {
    /// Reads libvirt's document.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_xml(
        xml: &str,
        architecture: VmArchitecture,
        accelerator: Accelerator,
    ) -> Result<Self, NotUnderstood> {
        let document: Document = quick_xml::de::from_str(xml).map_err(Box::new)?;
        let modes = document
            .cpu
            .modes
            .into_iter()
            .filter(|m| m.supported == "yes");
        let (mut cpu_modes, mut cpu_models) = (Vec::new(), Vec::new());
        for mode in modes {
            if mode.name == "custom" {
                let usable = mode.models.into_iter().filter(|m| m.usable != "no");
                cpu_models.extend(usable.map(|m| m.name));
            }
            cpu_modes.push(mode.name);
        }
        let gic_versions = values(document.features.gic, "version");
        let gic_versions = gic_versions.iter().filter_map(|v| v.parse().ok()).collect();
        Ok(Self {
            architecture,
            accelerator,
            emulator: document.path,
            network_backends: values(document.devices.interface, "backendType"),
            machine: document.machine,
            max_vcpus: document.vcpu.max,
            cpu_modes,
            cpu_models,
            gic_versions,
        })
    }
}

/// The values of one enumeration of what is supported.
fn values(supported: Option<Supported>, name: &str) -> Vec<String> {
    let supported = supported.filter(|s| s.supported == "yes");
    let enums = supported.into_iter().flat_map(|s| s.enums);
    enums
        .filter(|e| e.name == name)
        .flat_map(|e| e.values)
        .collect()
}

#[derive(Deserialize)]
struct Document {
    path: PathBuf,
    machine: String,
    vcpu: Vcpu,
    cpu: Cpu,
    #[serde(default)]
    features: Features,
    #[serde(default)]
    devices: Devices,
}

#[derive(Default, Deserialize)]
struct Devices {
    interface: Option<Supported>,
}

#[derive(Deserialize)]
struct Vcpu {
    #[serde(rename = "@max")]
    max: u32,
}

#[derive(Deserialize)]
struct Cpu {
    #[serde(rename = "mode", default)]
    modes: Vec<Mode>,
}

#[derive(Deserialize)]
struct Mode {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@supported")]
    supported: String,
    #[serde(rename = "model", default)]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "@usable", default)]
    usable: String,
    #[serde(rename = "$text")]
    name: String,
}

#[derive(Default, Deserialize)]
struct Features {
    gic: Option<Supported>,
}

#[derive(Deserialize)]
struct Supported {
    #[serde(rename = "@supported")]
    supported: String,
    #[serde(rename = "enum", default)]
    enums: Vec<Enum>,
}

#[derive(Deserialize)]
struct Enum {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "value", default)]
    values: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::DomainCapabilities;
    use crate::domain::topology::virtualization::{Accelerator, VmArchitecture};

    const ARM: &str = "<domainCapabilities>
  <path>/usr/bin/qemu-system-aarch64</path><domain>qemu</domain>
  <machine>virt-10.0</machine><arch>aarch64</arch><vcpu max='512'/>
  <cpu>
    <mode name='host-passthrough' supported='no'/>
    <mode name='maximum' supported='yes'><enum name='maximumMigratable'><value>on</value></enum></mode>
    <mode name='host-model' supported='no'/>
    <mode name='custom' supported='yes'>
      <model usable='unknown' vendor='unknown'>cortex-a72</model>
      <model usable='no' vendor='unknown'>cortex-m0</model>
      <blockers model='cortex-m0'><feature name='x'/></blockers>
      <model usable='unknown' deprecated='yes'>cortex-a76</model>
    </mode>
  </cpu>
  <devices><disk supported='yes'><enum name='bus'><value>virtio</value></enum></disk>
    <interface supported='yes'><enum name='backendType'><value>default</value><value>passt</value></enum></interface>
  </devices>
  <features><gic supported='yes'><enum name='version'><value>2</value><value>3</value></enum></gic>
    <genid supported='no'/></features>
</domainCapabilities>";

    #[test]
    fn the_document_is_reduced() {
        let arm = DomainCapabilities::from_xml(ARM, VmArchitecture::Aarch64, Accelerator::Tcg);
        let arm = arm.expect("readable");
        assert_eq!(
            arm,
            DomainCapabilities {
                architecture: VmArchitecture::Aarch64,
                accelerator: Accelerator::Tcg,
                emulator: "/usr/bin/qemu-system-aarch64".into(),
                machine: "virt-10.0".to_owned(),
                max_vcpus: 512,
                cpu_modes: vec!["maximum".to_owned(), "custom".to_owned()],
                cpu_models: vec!["cortex-a72".to_owned(), "cortex-a76".to_owned()],
                gic_versions: vec![2, 3],
                network_backends: vec!["default".to_owned(), "passt".to_owned()],
            }
        );
        assert!(arm.has_cpu_mode("maximum") && !arm.has_cpu_mode("host-model"));
    }

    #[test]
    fn another_document_is_an_error() {
        for bad in ["", "<capabilities/>", "<domainCapabilities><path>/x</path>"] {
            let read = DomainCapabilities::from_xml(bad, VmArchitecture::Aarch64, Accelerator::Tcg);
            assert!(read.is_err(), "{bad}");
        }
    }
}
