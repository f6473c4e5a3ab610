//! The second version of what a device shall run.

mod bounds;
mod health;
mod mounts;
mod port;
mod process;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::bounds::{CpuMillis, LogMib, MemoryMib, Pids, StopSeconds};
pub use self::health::{HealthCheck, HealthCommand, HealthSeconds, Retries, StartPeriod};
pub use self::mounts::{Content, FileMode, Mount, MountPath, MountedFile, VolumeMount};
pub use self::port::{Protocol, PublishedPort};
pub use self::process::{Capabilities, Capability, Device, ProcessUser, Restart};
use crate::error::ContractError;
use crate::name::{ServiceName, VolumeName};
use crate::score::{EnvName, ImageReference, PodmanService};
use crate::secret::SecretString;

/// The most files and secrets that a service may have.
const MAX_FILES: usize = 64;

/// Containers that run side by side, and the volumes that they keep their data in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "PodmanV1Wire")]
pub struct PodmanV1 {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<VolumeName, Volume>,
    services: Vec<PodmanServiceV1>,
}

impl PodmanV1 {
    /// A deployment of these services with these volumes.
    ///
    /// # Errors
    ///
    /// A [`ContractError`] when two services bear one name or publish one port, when a service is not valid in itself,
    /// or mounts a volume that is not among `volumes`.
    pub fn new(
        volumes: BTreeMap<VolumeName, Volume>,
        services: Vec<PodmanServiceV1>,
    ) -> Result<Self, ContractError> {
        let mut names = BTreeSet::new();
        for service in &services {
            service.check()?;
            if !names.insert(&service.name) {
                return Err(ContractError::DuplicateService {
                    name: service.name.clone(),
                });
            }
            let mut mounted = service.volumes.iter().map(|mount| &mount.name);
            if let Some(unknown) = mounted.find(|name| !volumes.contains_key(name)) {
                return Err(ContractError::UnknownVolume {
                    name: unknown.clone(),
                    service: service.name.clone(),
                });
            }
        }
        let mut ports: Vec<PublishedPort> = Vec::new();
        for port in services.iter().flat_map(|service| &service.ports) {
            if ports.iter().any(|other| other.collides_with(port)) {
                return Err(ContractError::PortTwice { port: *port });
            }
            ports.push(*port);
        }
        Ok(Self { volumes, services })
    }

    /// The services, each name once.
    pub fn services(&self) -> &[PodmanServiceV1] {
        &self.services
    }

    /// The volumes that the services may mount.
    pub fn volumes(&self) -> &BTreeMap<VolumeName, Volume> {
        &self.volumes
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct PodmanV1Wire {
    #[serde(default)]
    volumes: BTreeMap<VolumeName, Volume>,
    services: Vec<PodmanServiceV1>,
}

impl TryFrom<PodmanV1Wire> for PodmanV1 {
    type Error = ContractError;

    fn try_from(wire: PodmanV1Wire) -> Result<Self, ContractError> {
        let PodmanV1Wire { volumes, services } = wire;
        Self::new(volumes, services)
    }
}

/// A named volume of a deployment. It outlives the containers that mount it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// What becomes of it when the deployment is removed.
    #[serde(default)]
    pub on_removal: OnRemoval,
}

/// What becomes of a volume when its deployment is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnRemoval {
    /// It stays, and a deployment of the same name finds it again.
    #[default]
    Keep,
    /// It goes, with what is in it.
    Remove,
}

/// One container. Everything but name and image has a default; [`PodmanServiceV1::new`] has all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PodmanServiceV1 {
    /// Its name, unique within the deployment.
    pub name: ServiceName,
    /// What it runs. A tag is pulled only when it is not there yet: name a digest to roll out what stands behind a moved
    /// tag.
    pub image: ImageReference,
    /// How the image's registry is logged in to. The container is not made from it: another login restarts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_login: Option<RegistryLogin>,
    /// Replaces the image's command when it is not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Adds to the image's environment. Whoever may ask the device's Podman sees the values: hand passwords over as
    /// [`secrets`](Self::secrets).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<EnvName, SecretString>,
    /// The ports that the device publishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// The deployment's volumes that it mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Files that it finds; everyone in the container may read them unless they say otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<MountedFile>,
    /// Files that only their owner may read unless they say otherwise. With files, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<MountedFile>,
    /// Devices that it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Who its program runs as; absent for the image's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ProcessUser>,
    /// Whether its root file system can only be read. It has a file system in memory at `/tmp`, `/run` and `/var/tmp`
    /// then, as with `podman run --read-only`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What its program may do beyond or short of Podman's default.
    #[serde(default, skip_serializing_if = "Capabilities::is_default")]
    pub capabilities: Capabilities,
    /// The most memory that it may use; beyond it the kernel ends a process of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<MemoryMib>,
    /// The most processor time, in thousandths of one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<CpuMillis>,
    /// The most processes and threads; absent for Podman's default, 2048.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// The most that is kept of its output, in a file of its own; absent for 10 MiB by the device's log driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_max_mib: Option<LogMib>,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// How long it has to stop by itself before it is killed.
    #[serde(default, skip_serializing_if = "StopSeconds::is_default")]
    pub stop_timeout_seconds: StopSeconds,
    /// How it is told whether it works; absent for no check. Only this one is heeded, an image's own is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
}

impl PodmanServiceV1 {
    /// A service with nothing but its image.
    pub fn new(name: ServiceName, image: ImageReference) -> Self {
        Self {
            name,
            image,
            registry_login: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            ports: Vec::new(),
            volumes: Vec::new(),
            files: Vec::new(),
            secrets: Vec::new(),
            devices: Vec::new(),
            user: None,
            read_only: false,
            capabilities: Capabilities::default(),
            memory_mib: None,
            cpu_millis: None,
            pids: None,
            log_max_mib: None,
            restart: Restart::default(),
            stop_timeout_seconds: StopSeconds::default(),
            health: None,
        }
    }

    /// All that is mounted from the score: each path, and what is there.
    pub fn mounts(&self) -> impl Iterator<Item = Mount<'_>> {
        let volumes = self.volumes.iter().map(Mount::Volume);
        let files = self.files.iter().map(Mount::File);
        let secrets = self.secrets.iter().map(Mount::Secret);
        volumes.chain(files).chain(secrets)
    }

    /// Whether its parts go together; that each is valid by itself its type says.
    fn check(&self) -> Result<(), ContractError> {
        let files = self.files.len() + self.secrets.len();
        if files > MAX_FILES {
            return Err(ContractError::OutOfRange {
                what: "the number of files and secrets",
                value: i64::try_from(files).unwrap_or(i64::MAX),
                min: 0,
                max: MAX_FILES as i64,
            });
        }
        let mut paths = BTreeSet::new();
        for mount in self.mounts() {
            if !paths.insert(mount.path()) {
                return Err(ContractError::PathTwice {
                    path: mount.path().clone(),
                });
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for PodmanServiceV1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The derived function of this name, which does not check.
        let service = Self::deserialize(deserializer)?;
        service.check().map_err(D::Error::custom)?;
        Ok(service)
    }
}

impl Serialize for PodmanServiceV1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The derived function of this name.
        Self::serialize(self, serializer)
    }
}

/// What the first version can say, the second says as well.
impl From<PodmanService> for PodmanServiceV1 {
    fn from(service: PodmanService) -> Self {
        let PodmanService {
            name,
            image,
            command,
            env,
            ports,
        } = service;
        Self {
            command,
            env,
            ports: ports.into_iter().map(PublishedPort::from).collect(),
            ..Self::new(name, image)
        }
    }
}

/// How a registry is logged in to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// Who.
    pub username: String,
    /// The password, or a token.
    pub password: SecretString,
}
