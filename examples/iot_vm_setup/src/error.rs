//! What can be wrong with a request before anything is done.

use std::path::PathBuf;
use std::time::Duration;

use harmony::domain::error::{ErrorKind, HintedError};
use harmony::domain::topology::virtualization::VmArchitecture;
use iot_contracts::{DeploymentName, DeviceId, NatsUrl, Refusal, ReleaseUrl};

/// What can be wrong with the request itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The agent's binary is not where it is looked for.
    #[error("there is no agent for {architecture} at {}", join(looked_at))]
    NoAgent {
        architecture: VmArchitecture,
        looked_at: Vec<PathBuf>,
    },
    /// A recipe's image and a plain one.
    #[error("both --recipe and --image name the device's image (expected one of them)")]
    ImageAndRecipe,
    /// A loopback address that a guest on a bridge cannot reach.
    #[error("'{address}' is this host's loopback, which a guest on a bridge cannot reach")]
    LoopbackOnBridge { address: String },
    /// A file with credentials cannot be used.
    #[error("the credentials in {} cannot be used: {reason}", path.display())]
    Credentials { path: PathBuf, reason: String },
    /// Devices would be anybody, or the platform.
    #[error("no device gets the credentials of --nats-credentials, and there are none for devices")]
    NoDeviceKey,
    /// An authority, and nothing that it is of use for.
    #[error("'{url}' is plain text, and --nats-ca is for TLS (expected tls://HOST[:PORT])")]
    CaWithoutTls { url: NatsUrl },
    /// A file with a host's facts cannot be used.
    #[error("the facts in {} cannot be used: {reason}", path.display())]
    Facts { path: PathBuf, reason: String },
    /// A file with a score cannot be used.
    #[error("the score in {} cannot be used: {reason}", path.display())]
    Score { path: PathBuf, reason: String },
    /// The device does not obey what it was told.
    #[error("{device_id} refuses {deployment}: {why}")]
    Refused {
        device_id: DeviceId,
        deployment: DeploymentName,
        why: Refusal,
    },
    /// What was asked for did not come about, and the device says why.
    #[error("{awaited} of device {device_id} did not come within {} s; the device says: {reason}", bound.as_secs())]
    Late {
        device_id: DeviceId,
        awaited: String,
        bound: Duration,
        reason: String,
    },
    /// A device fetches by itself, and would ask itself.
    #[error(
        "'{url}' names a loopback, at which each device finds itself (expected a host that devices reach)"
    )]
    LoopbackRelease { url: ReleaseUrl },
    /// The device does not take a release of its agent.
    #[error("{device_id} refuses the release: {why}")]
    ReleaseRefused { device_id: DeviceId, why: String },
    /// The new agent did not work.
    #[error("the release did not prove itself on {device_id}, which runs the agent before: {why}")]
    ReleaseFailed { device_id: DeviceId, why: String },
    /// Somebody else asked for something else meanwhile.
    #[error("another release was put for {device_id} meanwhile, with revision {revision}")]
    ReleaseReplaced { device_id: DeviceId, revision: u64 },
    /// A value does not fit the agent's configuration.
    #[error("the agent's configuration is not valid")]
    Config(#[source] iot_contracts::ContractError),
    /// Standard output could not be written.
    #[error("the result could not be printed")]
    Output(#[source] std::io::Error),
}

fn join(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(", ")
}

impl HintedError for SetupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoAgent { .. }
            | Self::ImageAndRecipe
            | Self::NoDeviceKey
            | Self::CaWithoutTls { .. }
            | Self::LoopbackOnBridge { .. }
            | Self::LoopbackRelease { .. }
            | Self::Credentials { .. }
            | Self::Facts { .. }
            | Self::Score { .. }
            | Self::Config(_) => ErrorKind::InvalidRequest,
            Self::Refused { .. }
            | Self::ReleaseRefused { .. }
            | Self::ReleaseFailed { .. }
            | Self::ReleaseReplaced { .. }
            | Self::Output(_) => ErrorKind::Failed,
            Self::Late { .. } => ErrorKind::TimedOut,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoAgent { architecture, .. } => Some(format!(
                "build it with 'iot/scripts/build-agent.sh --arch {architecture}', or name it with --agent-binary"
            )),
            Self::LoopbackOnBridge { .. } => Some(
                "give the host's address on the bridge's network, and have the server listen there"
                    .to_owned(),
            ),
            Self::Credentials { .. } => Some(
                "expected TOML: type = \"user-password\", username, password; type = \"token\", token; or type = \"creds-file\", path"
                    .to_owned(),
            ),
            Self::NoDeviceKey => Some(
                "give each a key of its own with --nats-registry or --nats-account, or all the same with --device-credentials"
                    .to_owned(),
            ),
            Self::CaWithoutTls { .. } => Some(
                "give the server as --nats-url tls://HOST[:PORT], or leave --nats-ca out".to_owned(),
            ),
            Self::Facts { .. } => Some(
                "make it on that host with this version: example_iot_vm_setup --print-facts --json"
                    .to_owned(),
            ),
            Self::ImageAndRecipe => Some(
                "a recipe's base is named in the recipe; --recipe none goes with --image".to_owned(),
            ),
            Self::Score { .. } => Some(
                "expected JSON: {\"type\": \"PodmanV0\", \"data\": {\"services\": [{\"name\": …, \"image\": …}]}}"
                    .to_owned(),
            ),
            Self::Refused { .. } => Some(
                "sign it with a key that the device obeys: --operator-key of its setup".to_owned(),
            ),
            Self::LoopbackRelease { .. } => Some(
                "with --network user a guest reaches this host by its default gateway, which --json prints"
                    .to_owned(),
            ),
            Self::ReleaseRefused { .. } => Some(
                "the device trusts the --release-key of its setup, and takes no serial below one that it has taken"
                    .to_owned(),
            ),
            Self::Late { .. } | Self::ReleaseFailed { .. } => Some(
                "look at the agent's journal in the guest: journalctl -u iot-agent".to_owned(),
            ),
            Self::ReleaseReplaced { .. } | Self::Config(_) | Self::Output(_) => None,
        }
    }
}
