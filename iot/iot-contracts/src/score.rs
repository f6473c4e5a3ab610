//! What a device shall run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::name::ServiceName;
use crate::podman_v1::PodmanV1;
use crate::secret::SecretString;

/// The longest image reference, in characters.
const MAX_IMAGE_CHARS: usize = 512;

/// The desired state of one deployment: `{"type": "PodmanV0", "data": {…}}`. The type names the
/// interpreter and its version; an agent refuses a type that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", content = "data", deny_unknown_fields)]
pub enum IotScore {
    /// Containers under the device's rootless Podman.
    PodmanV0(PodmanV0),
    /// The same, with volumes, files, limits and checks.
    PodmanV1(PodmanV1),
}

/// Containers that run side by side. Without a service there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "PodmanV0Wire")]
pub struct PodmanV0 {
    services: Vec<PodmanService>,
}

impl PodmanV0 {
    /// A deployment of these services.
    ///
    /// # Errors
    ///
    /// [`ContractError::DuplicateService`] when two bear one name.
    pub fn new(services: Vec<PodmanService>) -> Result<Self, ContractError> {
        let mut seen = BTreeSet::new();
        for service in &services {
            if !seen.insert(&service.name) {
                return Err(ContractError::DuplicateService {
                    name: service.name.clone(),
                });
            }
        }
        Ok(Self { services })
    }

    /// The services, each name once.
    pub fn services(&self) -> &[PodmanService] {
        &self.services
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct PodmanV0Wire {
    services: Vec<PodmanService>,
}

impl TryFrom<PodmanV0Wire> for PodmanV0 {
    type Error = ContractError;

    fn try_from(wire: PodmanV0Wire) -> Result<Self, Self::Error> {
        let PodmanV0Wire { services } = wire;
        Self::new(services)
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PodmanService {
    /// Its name, unique within the deployment.
    pub name: ServiceName,
    /// What it runs. A tag is pulled only when it is not there yet: name a digest to roll out what
    /// stands behind a moved tag.
    pub image: ImageReference,
    /// Replaces the image's command when it is not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Adds to the image's environment. The values are taken for secrets: [`Debug`] does not show
    /// them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<EnvName, SecretString>,
    /// The TCP ports that the device publishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
}

/// The reference of a container image: `registry/path[:tag][@digest]`, at most 512 characters.
/// Which references exist is the registry's business; only the alphabet is checked here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}$")))]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference(String);

impl ImageReference {
    /// The reference.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        let starts = value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts && value.len() <= MAX_IMAGE_CHARS && value.chars().all(allowed) {
            return Ok(Self(value));
        }
        Err(ContractError::Image {
            value,
            max_chars: MAX_IMAGE_CHARS,
        })
    }
}

impl FromStr for ImageReference {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::try_from(value.to_owned())
    }
}

impl From<ImageReference> for String {
    fn from(image: ImageReference) -> Self {
        image.0
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^[^=\u{0}]+$")))]
#[serde(try_from = "String", into = "String")]
pub struct EnvName(String);

impl EnvName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EnvName {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        if let Some((name, _)) = value.split_once('=') {
            // Someone wrote `NAME=VALUE`, and the value may be a secret.
            let value = format!("{name}=…");
            return Err(ContractError::EnvName { value });
        }
        if value.is_empty() || value.contains('\0') {
            return Err(ContractError::EnvName { value });
        }
        Ok(Self(value))
    }
}

impl From<EnvName> for String {
    fn from(name: EnvName) -> Self {
        name.0
    }
}

/// A TCP port of the device that leads to one of the container: `HOST:CONTAINER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^[0-9]{1,5}:[0-9]{1,5}$")))]
#[serde(try_from = "String", into = "String")]
pub struct PortMapping {
    host: NonZeroU16,
    container: NonZeroU16,
}

impl PortMapping {
    /// The device's port.
    pub fn host(self) -> u16 {
        self.host.get()
    }

    /// The container's port.
    pub fn container(self) -> u16 {
        self.container.get()
    }
}

impl PortMapping {
    /// The device's and the container's port.
    pub(crate) fn numbers(self) -> (NonZeroU16, NonZeroU16) {
        (self.host, self.container)
    }
}

impl FromStr for PortMapping {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<NonZeroU16>().ok()).flatten()
        };
        value
            .split_once(':')
            .and_then(|(host, container)| {
                Some(Self {
                    host: port(host)?,
                    container: port(container)?,
                })
            })
            .ok_or_else(|| ContractError::Port {
                value: value.to_owned(),
            })
    }
}

impl TryFrom<String> for PortMapping {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<PortMapping> for String {
    fn from(port: PortMapping) -> Self {
        port.to_string()
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.container)
    }
}

#[cfg(test)]
mod tests {
    use super::{EnvName, ImageReference, IotScore, PodmanService, PodmanV0, PortMapping};
    use crate::error::ContractError;
    use crate::secret::SecretString;

    fn service(name: &str) -> PodmanService {
        PodmanService {
            name: name.parse().unwrap(),
            image: "registry.example/web:1.2".parse().unwrap(),
            command: Vec::new(),
            env: [].into(),
            ports: Vec::new(),
        }
    }

    #[test]
    fn golden() {
        let full = PodmanService {
            command: vec!["serve".to_owned(), "--quiet".to_owned()],
            env: [(
                EnvName::try_from("LEVEL".to_owned()).unwrap(),
                SecretString::new("debug"),
            )]
            .into(),
            ports: vec!["8080:80".parse().unwrap()],
            ..service("front")
        };
        let score = IotScore::PodmanV0(PodmanV0::new(vec![full, service("back")]).unwrap());
        let golden = concat!(
            r#"{"type":"PodmanV0","data":{"services":[{"name":"front","#,
            r#""image":"registry.example/web:1.2","command":["serve","--quiet"],"#,
            r#""env":{"LEVEL":"debug"},"ports":["8080:80"]},"#,
            r#"{"name":"back","image":"registry.example/web:1.2"}]}}"#
        );
        assert_eq!(serde_json::to_string(&score).unwrap(), golden);
        assert_eq!(serde_json::from_str::<IotScore>(golden).unwrap(), score);
        assert!(!format!("{score:?}").contains("debug"));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let cases = [
            (
                r#"{"type":"PodmanV9","data":{"services":[]}}"#,
                "unknown variant `PodmanV9`",
            ),
            (
                r#"{"type":"PodmanV0","data":{"services":[]},"x":1}"#,
                "\"x\"",
            ),
            (
                r#"{"type":"PodmanV0","data":{"services":[],"x":1}}"#,
                "unknown field `x`",
            ),
            (
                r#"{"type":"PodmanV0","data":{}}"#,
                "missing field `services`",
            ),
            (
                r#"{"type":"PodmanV0","data":{"services":[{"name":"a","image":"b","x":1}]}}"#,
                "unknown field `x`",
            ),
            (
                r#"{"type":"PodmanV0","data":{"services":[{"name":"a","image":"b"},{"name":"a","image":"c"}]}}"#,
                "service 'a' is there more than once",
            ),
        ];
        for (json, part) in cases {
            let message = serde_json::from_str::<IotScore>(json)
                .unwrap_err()
                .to_string();
            assert!(message.contains(part), "{json}: {message}");
        }
    }

    #[test]
    fn a_duplicate_service_is_named() {
        assert_eq!(
            PodmanV0::new(vec![service("a"), service("a")]),
            Err(ContractError::DuplicateService {
                name: "a".parse().unwrap()
            })
        );
    }

    #[test]
    fn ports() {
        let port: PortMapping = "8080:80".parse().unwrap();
        assert_eq!((port.host(), port.container()), (8080, 80));
        for value in [
            "",
            "80",
            "0:80",
            "80:0",
            "65536:80",
            "80:80:80",
            "+1:80",
            "a:b",
            "80:80/udp",
        ] {
            assert_eq!(
                value.parse::<PortMapping>(),
                Err(ContractError::Port {
                    value: value.to_owned()
                })
            );
        }
    }

    #[test]
    fn images_and_environment_names() {
        let digest = format!("host:5000/a/b@sha256:{}", "0".repeat(64));
        for value in ["busybox", "host:5000/a/b:c", &digest] {
            assert_eq!(value.parse::<ImageReference>().unwrap().as_str(), value);
        }
        for value in ["", "a b", "-rm", "/x", "a\nb", "a?b", &"a".repeat(513)] {
            assert_eq!(
                value.parse::<ImageReference>(),
                Err(ContractError::Image {
                    value: value.to_owned(),
                    max_chars: 512
                })
            );
        }
        for (value, told) in [("", ""), ("A=B", "A=…"), ("A\0", "A\0"), ("A\0=B", "A\0=…")] {
            assert_eq!(
                EnvName::try_from(value.to_owned()),
                Err(ContractError::EnvName {
                    value: told.to_owned()
                })
            );
        }
    }
}
