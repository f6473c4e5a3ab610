//! The checked configuration of a virtual machine.
//!
//! [`VmConfig`] has private fields and exists only valid. It is made from a
//! [`VirtualMachineSpec`] or through [`VmConfigBuilder`]; either way all broken rules are reported at
//! once. Checking never touches the host.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::topology::virtualization::{
    AcceleratorChoice, FirstBoot, VirtualMachineSpec, VmArchitecture, VmNetwork,
};

use super::error::KvmError;

/// One rule that is broken, with the field, the value and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is '{value}' (expected {expected})")]
pub struct Violation {
    /// The field's path in the spec.
    pub field: &'static str,
    /// The value that was given.
    pub value: String,
    /// What is allowed.
    pub expected: &'static str,
}

/// The name of a domain: also a file name, a host name and a part of paths, so it is strict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// What a name looks like.
    pub const EXPECTED: &'static str =
        "1 to 63 letters, digits, '-', '_' or '.', beginning with a letter or digit";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a host name: lower case, with `-` for what a host name must not contain.
    pub fn hostname(&self) -> String {
        let text: String = self
            .0
            .to_ascii_lowercase()
            .chars()
            .map(|c| if matches!(c, '_' | '.') { '-' } else { c })
            .collect();
        text.trim_end_matches('-').to_owned()
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VmName {
    type Err = Violation;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let good_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good_first = value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if good_first && value.len() <= 63 && value.chars().all(good_char) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Violation {
                field: "name",
                value: value.to_owned(),
                expected: Self::EXPECTED,
            })
        }
    }
}

impl TryFrom<String> for VmName {
    type Error = Violation;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// The address of a VM's network card: QEMU's locally administered prefix 52:54:00 and three
    /// bytes of the VM's UUID, so that it is the same as long as the UUID is.
    pub fn for_vm(uuid: Uuid) -> Self {
        let bytes = uuid.as_bytes();
        Self([0x52, 0x54, 0x00, bytes[13], bytes[14], bytes[15]])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = Violation;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let bad = || Violation {
            field: "mac",
            value: value.to_owned(),
            expected: "six colon-separated pairs of hexadecimal digits, of a unicast address",
        };
        let parts: Vec<&str> = value.split(':').collect();
        let mut bytes = [0_u8; 6];
        if parts.len() != bytes.len() {
            return Err(bad());
        }
        for (byte, part) in bytes.iter_mut().zip(parts) {
            if part.len() != 2 || !part.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if bytes[0] & 1 == 1 {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Violation;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// A virtual machine whose every value is within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmConfig {
    name: VmName,
    architecture: VmArchitecture,
    vcpus: u32,
    memory_mib: u64,
    disk_gib: u64,
    image: PathBuf,
    network: VmNetwork,
    accelerator: AcceleratorChoice,
    first_boot: Option<FirstBoot>,
}

impl VmConfig {
    /// The domain's name.
    pub fn name(&self) -> &VmName {
        &self.name
    }
    /// The guest's instruction set.
    pub fn architecture(&self) -> VmArchitecture {
        self.architecture
    }
    /// Virtual CPUs.
    pub fn vcpus(&self) -> u32 {
        self.vcpus
    }
    /// Memory in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.memory_mib
    }
    /// The disk's size in GiB.
    pub fn disk_gib(&self) -> u64 {
        self.disk_gib
    }
    /// The absolute path of the backing image.
    pub fn image(&self) -> &Path {
        &self.image
    }
    /// How the guest is connected.
    pub fn network(&self) -> &VmNetwork {
        &self.network
    }
    /// Which accelerator was asked for.
    pub fn accelerator(&self) -> AcceleratorChoice {
        self.accelerator
    }
    /// What cloud-init sets up.
    pub fn first_boot(&self) -> Option<&FirstBoot> {
        self.first_boot.as_ref()
    }

    /// The spec that this configuration was made from, for storing.
    pub fn to_spec(&self) -> VirtualMachineSpec {
        let Self {
            name,
            architecture,
            vcpus,
            memory_mib,
            disk_gib,
            image,
            network,
            accelerator,
            first_boot,
        } = self.clone();
        VirtualMachineSpec {
            name: name.into(),
            architecture,
            vcpus,
            memory_mib,
            disk_gib,
            image: Some(image),
            network,
            accelerator,
            first_boot,
        }
    }
}

impl TryFrom<&VirtualMachineSpec> for VmConfig {
    type Error = KvmError;

    fn try_from(spec: &VirtualMachineSpec) -> Result<Self, KvmError> {
        VmConfigBuilder::from(spec.clone()).build()
    }
}

/// Collects what a [`VmConfig`] is made of, and checks it.
#[derive(Debug, Clone, Default)]
pub struct VmConfigBuilder {
    spec: VirtualMachineSpec,
}

impl From<VirtualMachineSpec> for VmConfigBuilder {
    fn from(spec: VirtualMachineSpec) -> Self {
        Self { spec }
    }
}

impl VmConfigBuilder {
    /// A builder for a VM of that name, backed by that image, otherwise with the spec's defaults.
    pub fn new(name: impl Into<String>, image: impl Into<PathBuf>) -> Self {
        Self::from(VirtualMachineSpec {
            name: name.into(),
            image: Some(image.into()),
            ..VirtualMachineSpec::default()
        })
    }

    /// The guest's instruction set.
    #[must_use]
    pub fn architecture(mut self, architecture: VmArchitecture) -> Self {
        self.spec.architecture = architecture;
        self
    }

    /// Virtual CPUs.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.spec.vcpus = vcpus;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.spec.memory_mib = memory_mib;
        self
    }

    /// The disk's size in GiB.
    #[must_use]
    pub fn disk_gib(mut self, disk_gib: u64) -> Self {
        self.spec.disk_gib = disk_gib;
        self
    }

    /// How the guest is connected.
    #[must_use]
    pub fn network(mut self, network: VmNetwork) -> Self {
        self.spec.network = network;
        self
    }

    /// Which accelerator to use.
    #[must_use]
    pub fn accelerator(mut self, accelerator: AcceleratorChoice) -> Self {
        self.spec.accelerator = accelerator;
        self
    }

    /// What cloud-init sets up.
    #[must_use]
    pub fn first_boot(mut self, first_boot: FirstBoot) -> Self {
        self.spec.first_boot = Some(first_boot);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`KvmError::Invalid`] with every rule that is broken.
    pub fn build(self) -> Result<VmConfig, KvmError> {
        // Exhaustive, so that a new field cannot be forgotten here.
        let VirtualMachineSpec {
            name,
            architecture,
            vcpus,
            memory_mib,
            disk_gib,
            image,
            network,
            accelerator,
            first_boot,
        } = self.spec;
        let mut violations = Vec::new();
        let name = keep(name.parse::<VmName>(), &mut violations);
        let range = |value: u64, bounds: std::ops::RangeInclusive<u64>, field, expected| {
            (!bounds.contains(&value)).then(|| Violation {
                field,
                value: value.to_string(),
                expected,
            })
        };
        violations.extend(range(vcpus.into(), 1..=255, "vcpus", "1 to 255"));
        violations.extend(range(
            memory_mib,
            128..=16_777_216,
            "memory_mib",
            "128 to 16777216 MiB",
        ));
        violations.extend(range(disk_gib, 1..=65_536, "disk_gib", "1 to 65536 GiB"));
        let image = keep(check_image(image), &mut violations);
        violations.extend(check_network(&network));
        violations.extend(first_boot.iter().filter_map(check_first_boot));
        match (name, image) {
            (Some(name), Some(image)) if violations.is_empty() => Ok(VmConfig {
                name,
                architecture,
                vcpus,
                memory_mib,
                disk_gib,
                image,
                network,
                accelerator,
                first_boot,
            }),
            _ => Err(KvmError::Invalid { violations }),
        }
    }
}

fn keep<T>(result: Result<T, Violation>, violations: &mut Vec<Violation>) -> Option<T> {
    result.map_err(|violation| violations.push(violation)).ok()
}

fn check_image(image: Option<PathBuf>) -> Result<PathBuf, Violation> {
    match image {
        Some(path) if path.is_absolute() => Ok(path),
        other => Err(Violation {
            field: "image",
            value: other.map_or_else(|| "none".to_owned(), |p| p.display().to_string()),
            expected: "the absolute path of a qcow2 or raw disk image",
        }),
    }
}

fn check_network(network: &VmNetwork) -> Option<Violation> {
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    match network {
        VmNetwork::User => None,
        VmNetwork::Nat { network } => (!plain(network) || network.len() > 50).then(|| Violation {
            field: "network.network",
            value: network.clone(),
            expected: "a libvirt network's name of 1 to 50 letters, digits, '-', '_' or '.'",
        }),
        // The kernel's IFNAMSIZ is 16 with the terminating NUL.
        VmNetwork::Bridge { name } => (!plain(name) || name.len() > 15).then(|| Violation {
            field: "network.name",
            value: name.clone(),
            expected: "an interface's name of 1 to 15 letters, digits, '-', '_' or '.'",
        }),
    }
}

fn check_first_boot(first_boot: &FirstBoot) -> Option<Violation> {
    let FirstBoot {
        user,
        authorized_keys,
    } = first_boot;
    let good_user = user.len() <= 32
        && user.starts_with(|c: char| c.is_ascii_lowercase())
        && user
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !good_user {
        return Some(Violation {
            field: "first_boot.user",
            value: user.clone(),
            expected: "1 to 32 lower-case letters, digits or '-', beginning with a letter",
        });
    }
    let one_line = |key: &String| !key.is_empty() && !key.chars().any(char::is_control);
    if authorized_keys.is_empty() || !authorized_keys.iter().all(one_line) {
        return Some(Violation {
            field: "first_boot.authorized_keys",
            value: format!("{} keys", authorized_keys.len()),
            expected: "at least one public key, each on one line",
        });
    }
    None
}

#[cfg(test)]
mod tests;
