//! What a container shall be, whatever version of the score says it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use iot_contracts::{
    ImageReference, IotScore, OnRemoval, PodmanService, PodmanServiceV1, PodmanV0, PodmanV1,
    Restart, ServiceName, VolumeName,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::budget::Size;
use crate::digest::sha256;

/// The shortest piece of text in a binary file that is looked for in what is told.
const MIN_PIECE_CHARS: usize = 8;

/// The services of a deployment.
pub type Services = Arc<[Service]>;

/// A container to be. The newest version of the score can say all that an older one can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Tells whether a container was made from this.
    pub digest: String,
    /// What it is made from.
    pub definition: PodmanServiceV1,
    /// Those of its volumes that go with the deployment.
    pub passing_volumes: BTreeSet<VolumeName>,
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.definition.name
    }

    /// What it runs.
    pub fn image(&self) -> &ImageReference {
        &self.definition.image
    }

    /// What has to be known of its container when the service itself is not any more.
    pub fn terms(&self) -> Terms {
        let definition = &self.definition;
        let names = |passing: bool| {
            let volumes = definition.volumes.iter().map(|mount| &mount.name);
            let volumes =
                volumes.filter(move |name| self.passing_volumes.contains(*name) == passing);
            volumes.cloned().collect()
        };
        Terms {
            restart: definition.restart,
            stop_seconds: definition.stop_timeout_seconds.get(),
            healthy_within_seconds: definition
                .health
                .as_ref()
                .map(|check| check.bound().as_secs()),
            files: definition.files.len() + definition.secrets.len(),
            volumes: names(false),
            passing_volumes: names(true),
        }
    }

    /// All of it that may be a secret.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let definition = &self.definition;
        let env = definition
            .env
            .values()
            .map(iot_contracts::SecretString::expose);
        let files = definition.files.iter().chain(&definition.secrets);
        let files = files.flat_map(|file| texts(file.content.expose()));
        let login = definition.registry_login.iter();
        env.chain(files)
            .chain(login.map(|login| login.password.expose()))
    }

    fn of_v0(service: &PodmanService) -> Self {
        Self {
            digest: digest_of_v0(service),
            definition: service.clone().into(),
            passing_volumes: BTreeSet::new(),
        }
    }

    fn of_v1(service: &PodmanServiceV1, score: &PodmanV1) -> Self {
        let passes = |name: &&VolumeName| {
            let volume = score.volumes().get(*name);
            volume.is_some_and(|volume| volume.on_removal == OnRemoval::Remove)
        };
        let volumes = service.volumes.iter().map(|mount| &mount.name);
        let passing_volumes = volumes.filter(passes).cloned().collect();
        Self {
            digest: digest_of_v1(service, &passing_volumes),
            definition: service.clone(),
            passing_volumes,
        }
    }
}

/// What of a file's content somebody may quote: a text as a whole, and of anything else each long piece of text in it. A
/// short piece would be found in every message.
fn texts(content: &[u8]) -> impl Iterator<Item = &str> {
    let is_text = std::str::from_utf8(content).is_ok();
    // Text files end with a line's end, which whoever quotes one leaves out.
    let pieces = content.utf8_chunks().map(|chunk| chunk.valid().trim_end());
    pieces.filter(move |piece| is_text || piece.chars().count() >= MIN_PIECE_CHARS)
}

/// The digest by which a change of a service of the first version is noticed: SHA-256 of its JSON, in hexadecimal.
fn digest_of_v0(service: &PodmanService) -> String {
    digest(service)
}

/// The same of one of the second version. A registry's login is no part of it: the container is not made from that.
fn digest_of_v1(service: &PodmanServiceV1, passing_volumes: &BTreeSet<VolumeName>) -> String {
    #[derive(Serialize)]
    #[serde(rename = "PodmanV1")]
    struct MadeFrom<'a> {
        service: &'a PodmanServiceV1,
        #[serde(skip_serializing_if = "BTreeSet::is_empty")]
        passing_volumes: &'a BTreeSet<VolumeName>,
    }
    let service = &PodmanServiceV1 {
        registry_login: None,
        ..service.clone()
    };
    digest(&MadeFrom {
        service,
        passing_volumes,
    })
}

fn digest(value: &impl Serialize) -> String {
    // Strings, numbers, lists and maps with string keys always serialise.
    let json = serde_json::to_vec(value).unwrap_or_default();
    sha256(&json).to_string()
}

/// A score of any version. All that know it share it: it may be large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score(Arc<Shared>);

#[derive(Debug, PartialEq, Eq)]
struct Shared {
    score: IotScore,
    services: Services,
    size: Size,
}

impl Score {
    /// Of what was read.
    pub fn new(score: IotScore) -> Self {
        let services = match &score {
            IotScore::PodmanV0(score) => score.services().iter().map(Service::of_v0).collect(),
            IotScore::PodmanV1(score) => {
                let services = score.services().iter();
                services
                    .map(|service| Service::of_v1(service, score))
                    .collect()
            }
        };
        let size = Size::of(&score);
        Self(Arc::new(Shared {
            score,
            services,
            size,
        }))
    }

    /// As it was read.
    #[cfg(any(test, fuzzing))]
    pub fn read(&self) -> &IotScore {
        &self.0.score
    }

    /// The services that it asks for.
    pub fn services(&self) -> Services {
        Arc::clone(&self.0.services)
    }

    /// How much it is.
    pub fn size(&self) -> Size {
        self.0.size
    }
}

/// On the device's disk the first version has no type: the agents that knew no other wrote it so, and read it so.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept<S, V0> {
    Typed(S),
    V0(V0),
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.score {
            IotScore::PodmanV0(score) => Kept::<&IotScore, _>::V0(score).serialize(serializer),
            score @ IotScore::PodmanV1(_) => {
                Kept::<_, &PodmanV0>::Typed(score).serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Kept::<IotScore, PodmanV0>::deserialize(deserializer)? {
            Kept::Typed(score) => Ok(Self::new(score)),
            Kept::V0(score) => Ok(Self::new(IotScore::PodmanV0(score))),
        }
    }
}

/// What a container is looked after by. It is on the container, so that it holds while nobody knows what is desired; of
/// one without it the defaults hold, which are those of the first version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// When it is started again.
    pub restart: Restart,
    /// How long it has to stop by itself.
    pub stop_seconds: u32,
    /// How long it has for becoming healthy; absent for one whose health nobody asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_within_seconds: Option<u64>,
    /// How many files it was given.
    pub files: usize,
    /// Those of its named volumes that outlive the deployment.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<VolumeName>,
    /// Those that do not.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub passing_volumes: BTreeSet<VolumeName>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            restart: Restart::Always,
            stop_seconds: 10,
            healthy_within_seconds: None,
            files: 0,
            volumes: BTreeSet::new(),
            passing_volumes: BTreeSet::new(),
        }
    }
}

impl Terms {
    /// How long it has for becoming healthy.
    pub fn healthy_within(&self) -> Option<Duration> {
        self.healthy_within_seconds.map(Duration::from_secs)
    }

    /// Whether it has named volumes.
    pub fn has_volumes(&self) -> bool {
        !self.volumes.is_empty() || !self.passing_volumes.is_empty()
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
