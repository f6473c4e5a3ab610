//! The body of `containers/create`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use iot_contracts::{
    Capability, DeploymentName, FileMode, HealthCheck, Mount, MountedFile, PodmanServiceV1,
    VolumeName,
};
use serde::Serialize;

use super::wire::{
    LABEL_DEPLOYMENT, LABEL_DIGEST, LABEL_MANAGED_BY, LABEL_SERVICE, LABEL_TERMS, MANAGED_BY,
};
use crate::container::{ContainerKey, ContainerSpec, Role};
use crate::service::Terms;

/// The most that is kept of a container's output, in bytes: without a bound it fills the disk.
const MAX_LOG_BYTES: u64 = 10 * MIB;

const MIB: u64 = 1024 * 1024;

/// The time in which a container may use so much of the processors as it is given, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// Where a container with a root file system that it cannot write to has one in memory, as with Podman's own program.
pub const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// What a container starts with that another one had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inherited {
    /// Nothing.
    Nothing,
    /// All volumes of the container with this id.
    All(String),
    /// These.
    Some(Vec<CreateVolume>),
}

/// The body of `containers/create`.
#[derive(Debug, Serialize)]
pub struct CreateContainer<'a> {
    name: String,
    image: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    command: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<&'a str, &'a str>,
    labels: BTreeMap<&'static str, Cow<'a, str>>,
    log_configuration: LogConfiguration,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    portmappings: Vec<CreatePort>,
    /// The new container has all volumes of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes_from: Option<[String; 1]>,
    #[serde(flatten)]
    more: More<'a>,
}

/// What only the second version of the score asks for.
#[derive(Debug, Default, Serialize)]
struct More<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<CreateVolume>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<CreateSecret<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<CreateMount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<CreateDevice<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read_only_filesystem: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cap_add: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cap_drop: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_limits: Option<ResourceLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthconfig: Option<HealthConfig<'a>>,
}

/// How a container's output is kept, by whatever Podman is set up with unless a driver is named.
#[derive(Debug, Serialize)]
struct LogConfiguration {
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'static str>,
    /// The most that is kept, in bytes.
    size: u64,
}

#[derive(Debug, Serialize)]
struct CreatePort {
    host_port: u16,
    container_port: u16,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_ip: Option<IpAddr>,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateVolume {
    /// Podman's name for it.
    pub name: String,
    /// Where.
    pub dest: String,
    /// How.
    pub options: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateSecret<'a> {
    source: String,
    target: &'a str,
    #[serde(rename = "UID")]
    uid: u32,
    #[serde(rename = "GID")]
    gid: u32,
    mode: u16,
}

#[derive(Debug, Serialize)]
struct CreateMount {
    destination: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    source: &'static str,
    options: [&'static str; 5],
}

#[derive(Debug, Serialize)]
struct CreateDevice<'a> {
    path: &'a str,
}

#[derive(Debug, Serialize)]
struct ResourceLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<CpuLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<PidsLimit>,
}

#[derive(Debug, Serialize)]
struct MemoryLimit {
    limit: u64,
    /// Of memory and swap together.
    swap: u64,
}

#[derive(Debug, Serialize)]
struct CpuLimit {
    quota: u64,
    period: u64,
}

#[derive(Debug, Serialize)]
struct PidsLimit {
    limit: u32,
}

/// Times are in nanoseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthConfig<'a> {
    test: Vec<&'a str>,
    start_period: u64,
    interval: u64,
    timeout: u64,
    retries: u32,
}

impl<'a> CreateContainer<'a> {
    /// The container of `spec`, which goes on with what it has `inherited`.
    pub fn new(spec: &'a ContainerSpec, inherited: Inherited) -> Self {
        let ContainerSpec { key, service, .. } = spec;
        let definition = &service.definition;
        let env = definition.env.iter();
        let ports = definition.ports.iter().map(|port| CreatePort {
            host_port: port.host(),
            container_port: port.container(),
            protocol: port.protocol().as_str(),
            host_ip: port.address(),
        });
        let mut more = More::of(key, definition);
        let volumes_from = match inherited {
            Inherited::Nothing => None,
            Inherited::All(id) => Some([id]),
            Inherited::Some(volumes) => {
                more.volumes.extend(volumes);
                None
            }
        };
        Self {
            name: key.container_name(Role::Current),
            image: definition.image.as_str(),
            command: &definition.command,
            env: env
                .map(|(name, value)| (name.as_str(), value.expose()))
                .collect(),
            labels: labels(spec),
            log_configuration: LogConfiguration {
                driver: definition.log_max_mib.map(|_| "k8s-file"),
                size: definition
                    .log_max_mib
                    .map_or(MAX_LOG_BYTES, |mib| u64::from(mib.get()) * MIB),
            },
            portmappings: ports.collect(),
            volumes_from,
            more,
        }
    }
}

fn labels(spec: &ContainerSpec) -> BTreeMap<&'static str, Cow<'_, str>> {
    let ContainerSpec { key, service, .. } = spec;
    let mut labels: BTreeMap<_, Cow<'_, str>> = [
        (LABEL_MANAGED_BY, MANAGED_BY.into()),
        (LABEL_DEPLOYMENT, key.deployment.as_str().into()),
        (LABEL_SERVICE, key.service.as_str().into()),
        (LABEL_DIGEST, service.digest.as_str().into()),
    ]
    .into();
    let terms = service.terms();
    if terms != Terms::default() {
        // Names and numbers always serialise.
        let terms = serde_json::to_string(&terms).unwrap_or_default();
        labels.insert(LABEL_TERMS, terms.into());
    }
    labels
}

impl<'a> More<'a> {
    fn of(key: &ContainerKey, service: &'a PodmanServiceV1) -> Self {
        let capabilities =
            |all: &[Capability]| all.iter().map(|one| one.as_str()).collect::<Vec<_>>();
        let volumes = service.volumes.iter().map(|mount| CreateVolume {
            name: volume_name(&key.deployment, &mount.name),
            dest: mount.path.to_string(),
            options: vec![if mount.read_only { "ro" } else { "rw" }.to_owned()],
        });
        let devices: Vec<_> = service.devices.iter().collect();
        let annotations = match devices.is_empty() {
            true => BTreeMap::new(),
            // What may be done with a device is a matter of its group.
            false => [("run.oci.keep_original_groups", "1")].into(),
        };
        let stop = service.stop_timeout_seconds;
        Self {
            volumes: volumes.collect(),
            secrets: secrets(key, service),
            mounts: writable(service),
            devices: devices
                .into_iter()
                .map(|device| CreateDevice {
                    path: device.as_str(),
                })
                .collect(),
            annotations,
            user: service.user.as_ref().map(|user| user.as_str()),
            read_only_filesystem: service.read_only,
            cap_add: capabilities(&service.capabilities.add),
            cap_drop: capabilities(&service.capabilities.drop),
            resource_limits: ResourceLimits::of(service),
            stop_timeout: (stop != Default::default()).then_some(stop.get()),
            healthconfig: service.health.as_ref().map(HealthConfig::from),
        }
    }
}

impl ResourceLimits {
    fn of(service: &PodmanServiceV1) -> Option<Self> {
        let memory = service.memory_mib.map(|mib| {
            let limit = u64::from(mib.get()) * MIB;
            MemoryLimit { limit, swap: limit }
        });
        let cpu = service.cpu_millis.map(|millis| CpuLimit {
            quota: u64::from(millis.get()) * CPU_PERIOD_US / 1000,
            period: CPU_PERIOD_US,
        });
        let pids = service.pids.map(|pids| PidsLimit { limit: pids.get() });
        let is_limited = memory.is_some() || cpu.is_some() || pids.is_some();
        is_limited.then_some(Self { memory, cpu, pids })
    }
}

impl<'a> From<&'a HealthCheck> for HealthConfig<'a> {
    fn from(check: &'a HealthCheck) -> Self {
        let nanoseconds = |seconds: u32| u64::from(seconds) * 1_000_000_000;
        let command = check.command.as_slice().iter().map(String::as_str);
        Self {
            test: ["CMD"].into_iter().chain(command).collect(),
            start_period: nanoseconds(check.start_period_seconds.get()),
            interval: nanoseconds(check.interval_seconds.get()),
            timeout: nanoseconds(check.timeout_seconds.get()),
            retries: check.retries.get(),
        }
    }
}

/// Podman's name for a volume of a deployment. No anonymous volume has a dot in its name.
pub fn volume_name(deployment: &DeploymentName, name: &VolumeName) -> String {
    format!("harmony.{deployment}.{name}")
}

/// The name under which a file of a container to be is in Podman's store meanwhile.
pub fn file_name(key: &ContainerKey, index: usize) -> String {
    format!("harmony.{key}.{index}")
}

/// The files that a service gets, in the order of their names in the store, with the mode of those that name none.
pub fn files(service: &PodmanServiceV1) -> impl Iterator<Item = (&MountedFile, FileMode)> {
    service.mounts().filter_map(|mount| match mount {
        Mount::Volume(_) => None,
        Mount::File(file) => Some((file, FileMode::FOR_ALL)),
        Mount::Secret(file) => Some((file, FileMode::FOR_OWNER)),
    })
}

fn secrets<'a>(key: &ContainerKey, service: &'a PodmanServiceV1) -> Vec<CreateSecret<'a>> {
    let user = service.user.as_ref();
    let secret = |(index, (file, mode)): (usize, (&'a MountedFile, FileMode))| CreateSecret {
        source: file_name(key, index),
        target: file.path.as_str(),
        uid: file.uid.or(user.and_then(|user| user.uid())).unwrap_or(0),
        gid: file.gid.or(user.and_then(|user| user.gid())).unwrap_or(0),
        mode: file.mode.unwrap_or(mode).bits(),
    };
    files(service).enumerate().map(secret).collect()
}

fn writable(service: &PodmanServiceV1) -> Vec<CreateMount> {
    let is_free = |path: &&str| !service.mounts().any(|mount| mount.path().as_str() == *path);
    let paths = WRITABLE.into_iter().filter(|_| service.read_only);
    let mount = |destination| CreateMount {
        destination,
        kind: "tmpfs",
        source: "tmpfs",
        options: ["rprivate", "rw", "nosuid", "nodev", "tmpcopyup"],
    };
    paths.filter(is_free).map(mount).collect()
}

/// How long a request may take beyond what the container is given for stopping.
pub const STOP_SLACK: Duration = Duration::from_secs(50);
