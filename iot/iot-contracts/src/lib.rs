//! The types that cross the wire between the on-device agent and the platform.
//!
//! | what | written by | read by | form |
//! |---|---|---|---|
//! | [`AgentConfig`] | the platform, at provisioning | the agent, at start | TOML file |
//! | [`IotScore`] | the platform | the agent | JSON value in the bucket [`DESIRED_STATE_BUCKET`] |
//! | [`SignedValue`] | an operator, with a score in it | the agent | in its place, where keys are configured |
//! | [`BucketMarker`] | the platform, when it makes that bucket | the agent | JSON value in the same bucket |
//! | [`AgentRelease`] | who releases the agent | the agent | JSON value in the same bucket |
//! | [`AgentStatus`] | the agent | the platform | JSON value in the bucket [`AGENT_STATUS_BUCKET`] |
//!
//! Every value here is checked when it is made, also when serde makes it: what exists is valid. The
//! crate does no I/O and knows neither NATS nor Podman; [`KvBucket`] carries the bucket settings
//! on which both sides must agree as plain data.

mod accounts;
mod config;
#[cfg(test)]
mod config_tests;
mod error;
mod hex;
mod identity;
mod kv;
mod marker;
mod name;
mod nats;
#[cfg(test)]
mod nats_tests;
mod operator;
mod podman_v1;
mod release;
#[cfg(test)]
mod schema_tests;
mod score;
mod secret;
mod separation;
mod signature;
mod signed;
mod status;
mod update;

pub use accounts::ServerAccounts;
pub use config::{
    AgentConfig, HeartbeatSeconds, PODMAN_SOCKET_VARIABLE, PodmanConfig, podman_socket,
};
pub use error::ContractError;
pub use hex::Hex;
pub use identity::{
    DEVICES_ACCOUNT, DeviceConsumer, DevicePermissions, DeviceService, PLATFORM_ACCOUNT,
    SYSTEM_ACCOUNT, UserKey, device_services, entry_subject, inbox_prefix, marker_subject,
    next_subject, status_subject,
};
pub use kv::{
    AGENT_STATUS_BUCKET, DESIRED_STATE_BUCKET, KvBucket, desired_state_key,
    desired_state_key_deployment, desired_state_watch, status_key,
};
pub use marker::{BucketMarker, DESIRED_STATE_MARKER_KEY, UNMARKED_BUCKET};
pub use name::{BucketId, DeploymentName, DeviceId, ServiceName, VolumeName};
pub use nats::{HostPort, NatsConfig, NatsCredentials, NatsTls, NatsUrl, NatsUrls};
pub use operator::{OperatorConfig, OperatorKey};
pub use podman_v1::{
    Capabilities, Capability, Content, CpuMillis, Device, FileMode, HealthCheck, HealthCommand,
    HealthSeconds, LogMib, MemoryMib, Mount, MountPath, MountedFile, OnRemoval, Pids,
    PodmanServiceV1, PodmanV1, ProcessUser, Protocol, PublishedPort, RegistryLogin, Restart,
    Retries, StartPeriod, StopSeconds, Volume, VolumeMount,
};
pub use release::{AgentRelease, ReleaseUrl, ReleasedProgram, agent_release_key};
pub use score::{EnvName, ImageReference, IotScore, PodmanService, PodmanV0, PortMapping};
pub use secret::SecretString;
pub use separation::{ServerFlaw, not_separating};
pub use signature::Signature;
pub use signed::{Refusal, SignedOrder, SignedValue};
pub use status::{
    AgentStatus, DeploymentStatus, DesiredVersion, OWN_BOOT_ID, Phase, RefusedEntry, ServiceHealth,
    ServiceState, ServiceStatus,
};
pub use update::{AgentProgram, LastUpdate, ProveWithin, UpdateConfig, UpdatePhase, UpdateStatus};
