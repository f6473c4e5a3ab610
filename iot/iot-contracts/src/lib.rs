//! The types that cross the wire between the on-device agent and the platform.
//!
//! | what | written by | read by | form |
//! |---|---|---|---|
//! | [`AgentConfig`] | the platform, at provisioning | the agent, at start | TOML file |
//! | [`IotScore`] | the platform | the agent | JSON value in the bucket [`DESIRED_STATE_BUCKET`] |
//! | [`BucketMarker`] | the platform, when it makes that bucket | the agent | JSON value in the same bucket |
//! | [`AgentRelease`] | the platform | the agent | JSON value in the same bucket |
//! | [`AgentStatus`] | the agent | the platform | JSON value in the bucket [`AGENT_STATUS_BUCKET`] |
//!
//! Every value here is checked when it is made, also when serde makes it: what exists is valid. The
//! crate does no I/O and knows neither NATS nor Podman; [`KvBucket`] carries the bucket settings
//! on which both sides must agree as plain data.

mod config;
#[cfg(test)]
mod config_tests;
mod error;
mod hex;
mod kv;
mod marker;
mod name;
mod nats;
#[cfg(test)]
mod nats_tests;
mod release;
mod score;
mod secret;
mod status;
mod update;

pub use config::{
    AgentConfig, HeartbeatSeconds, PODMAN_SOCKET_VARIABLE, PodmanConfig, podman_socket,
};
pub use error::ContractError;
pub use hex::Hex;
pub use kv::{
    AGENT_STATUS_BUCKET, DESIRED_STATE_BUCKET, KvBucket, desired_state_key,
    desired_state_key_deployment, desired_state_watch, status_key,
};
pub use marker::{BucketMarker, DESIRED_STATE_MARKER_KEY, UNMARKED_BUCKET};
pub use name::{BucketId, DeploymentName, DeviceId, ServiceName};
pub use nats::{HostPort, NatsConfig, NatsCredentials, NatsTls, NatsUrl, NatsUrls};
pub use release::{AgentRelease, agent_release_key};
pub use score::{EnvName, ImageReference, IotScore, PodmanService, PodmanV0, PortMapping};
pub use secret::SecretString;
pub use status::{AgentStatus, DeploymentStatus, Phase, ServiceState, ServiceStatus};
pub use update::{AgentProgram, LastUpdate, ProveWithin, UpdateConfig, UpdatePhase, UpdateStatus};
