//! The JSON of Podman's API, as far as the agent uses it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::container::{ContainerKey, ContainerState, Health, ObservedContainer, Role};
use crate::room::Image;
use crate::service::Terms;

/// Whose container it is.
pub const LABEL_MANAGED_BY: &str = "harmony.managed-by";
/// The value of [`LABEL_MANAGED_BY`] on this agent's containers.
pub const MANAGED_BY: &str = "iot-agent-v0";
/// The deployment that it is of.
pub const LABEL_DEPLOYMENT: &str = "harmony.deployment";
/// The service of that.
pub const LABEL_SERVICE: &str = "harmony.service";
/// The digest of what the container was made from.
pub const LABEL_DIGEST: &str = "harmony.digest";
/// [`Terms`] in JSON, where they are not the defaults.
pub const LABEL_TERMS: &str = "harmony.terms";

/// The answer of `containers/create`.
#[derive(Debug, Deserialize)]
pub struct CreatedContainer {
    /// The container.
    #[serde(rename = "Id")]
    pub id: String,
    /// What Podman does not like about it.
    #[serde(rename = "Warnings", default)]
    pub warnings: Option<Vec<String>>,
}

/// The value of `containers/json`'s parameter `filters` that selects the agent's containers.
pub fn own_containers_filter() -> String {
    serde_json::json!({ "label": [format!("{LABEL_MANAGED_BY}={MANAGED_BY}")] }).to_string()
}

/// One element of the answer of `containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedContainer {
    id: String,
    state: String,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// In seconds since the Unix epoch; far in the past when it was never started.
    #[serde(default)]
    started_at: i64,
    #[serde(default)]
    exited_at: i64,
    #[serde(default)]
    image: String,
    /// Of the image as the device has it.
    #[serde(default, rename = "ImageID")]
    image_id: String,
    /// Of its main process; 0 when it does not run.
    #[serde(default)]
    pid: u32,
    /// What its health check says; empty, or absent, for one that has none.
    #[serde(default)]
    status: Option<String>,
}

/// What is listed of a container and matters to Podman's client only.
pub struct More {
    /// The id of its image.
    pub image_id: String,
    /// Its main process.
    pub pid: u32,
}

impl ListedContainer {
    /// The container, when its labels are the agent's.
    pub fn observed(self) -> Option<(ObservedContainer, More)> {
        let Self {
            id,
            state,
            exit_code,
            labels,
            names,
            started_at,
            exited_at,
            image,
            image_id,
            pid,
            status,
        } = self;
        let mut labels = labels.unwrap_or_default();
        if labels.get(LABEL_MANAGED_BY).map(String::as_str) != Some(MANAGED_BY) {
            return None;
        }
        let key = labels
            .get(LABEL_DEPLOYMENT)
            .and_then(|name| name.parse().ok())
            .zip(labels.get(LABEL_SERVICE).and_then(|name| name.parse().ok()));
        let Some((deployment, service)) = key else {
            tracing::warn!(
                id,
                "a container with this agent's label names no service; it is left"
            );
            return None;
        };
        let key = ContainerKey {
            deployment,
            service,
        };
        let terms = labels
            .get(LABEL_TERMS)
            .map(|terms| serde_json::from_str(terms));
        let terms: Terms = terms
            .transpose()
            .unwrap_or_else(|error| {
                tracing::warn!(id, %error, "a container's terms cannot be read; the defaults hold");
                None
            })
            .unwrap_or_default();
        let name = names.and_then(|names| names.into_iter().next());
        let observed = ObservedContainer {
            id,
            role: Role::of(&key, &name.unwrap_or_default()),
            key,
            digest: labels.remove(LABEL_DIGEST).unwrap_or_default(),
            health: terms
                .healthy_within()
                .map(|_| health(status.as_deref().unwrap_or_default())),
            terms,
            state: container_state(&state, exit_code),
            image,
            image_digest: None,
            started_at: started_at.max(0),
            exited_at: exited_at.max(0),
        };
        Some((observed, More { image_id, pid }))
    }
}

/// Some versions say more around it.
fn health(status: &str) -> Health {
    match status {
        status if status.contains("unhealthy") => Health::Unhealthy,
        status if status.contains("healthy") => Health::Healthy,
        _ => Health::Starting,
    }
}

fn container_state(state: &str, code: i32) -> ContainerState {
    match state {
        "running" => ContainerState::Running,
        "created" | "configured" | "initialized" => ContainerState::Created,
        "exited" | "stopped" | "dead" => ContainerState::Exited { code },
        "paused" => ContainerState::Paused,
        _ => ContainerState::Between,
    }
}

/// The answer of `containers/ID/json`, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectedContainer {
    /// What is mounted in it.
    #[serde(default)]
    pub mounts: Option<Vec<InspectedMount>>,
}

/// Something that is mounted in a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectedMount {
    /// `volume` is a volume.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The volume's name.
    #[serde(default)]
    pub name: String,
    /// Where.
    pub destination: String,
}

/// The answer of `images/NAME/json`, as far as it matters.
#[derive(Debug, Deserialize)]
pub struct InspectedImage {
    /// The digest of its manifest.
    #[serde(rename = "Digest")]
    pub digest: String,
}

/// One element of the answer of `images/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedImage {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    /// How many containers are of it.
    #[serde(default)]
    containers: i64,
}

impl From<ListedImage> for Image {
    fn from(listed: ListedImage) -> Self {
        let ListedImage {
            id,
            repo_tags,
            repo_digests,
            containers,
        } = listed;
        Self {
            id,
            tags: repo_tags.unwrap_or_default(),
            digests: repo_digests.unwrap_or_default(),
            is_used: containers != 0,
        }
    }
}

/// One element of the answer of `secrets/json`, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedSecret {
    /// What it was made as.
    pub spec: SecretSpec,
}

/// What a secret was made as.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecretSpec {
    /// Its name.
    pub name: String,
}

/// The answer of `info`, as far as it matters.
#[derive(Debug, Deserialize)]
pub struct Info {
    /// Where things are.
    pub store: Store,
}

/// Podman's storage.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// Its directory.
    pub graph_root: PathBuf,
}

/// Podman's words for why it refused.
pub fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// Why a pull failed, when it did: its answer is one JSON document a step, and an error is one of
/// them. A log which ends without the image's id is a failure as well.
pub fn pull_error(log: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct PullStep {
        error: Option<String>,
        id: Option<String>,
    }
    let mut pulled = false;
    for step in serde_json::Deserializer::from_slice(log).into_iter::<PullStep>() {
        match step {
            Ok(PullStep {
                error: Some(error), ..
            }) => return Some(error),
            Ok(PullStep { id, .. }) => pulled |= id.is_some(),
            Err(error) => return Some(format!("unreadable progress report: {error}")),
        }
    }
    (!pulled).then(|| "the registry's answer broke off".to_owned())
}

/// What the runtime wrote into a container's log, as crun does: one JSON document with `msg` and `level`. What the
/// container's own program wrote there is not looked at.
pub fn words_of_the_runtime(log: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        msg: String,
        #[serde(rename = "level")]
        _level: String,
    }
    let log = String::from_utf8_lossy(log);
    // Each line has a header of eight bytes before it.
    log.lines().find_map(|line| {
        let document = &line[line.find('{')?..];
        let Line { msg, .. } = serde_json::from_str(document).ok()?;
        msg.starts_with("exec container process").then_some(msg)
    })
}
