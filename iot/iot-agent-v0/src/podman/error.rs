//! Why Podman did not do what it was asked for.

use std::path::PathBuf;

use iot_contracts::ImageReference;

/// Podman did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PodmanError {
    /// Nobody listens.
    #[error("cannot connect to Podman at '{socket}'")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("{what}: no answer from Podman")]
    Exchange {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer came in time.
    #[error("{what}: no answer from Podman within {seconds} s")]
    TimedOut {
        /// What was asked for.
        what: String,
        /// The bound, in seconds.
        seconds: u64,
    },
    /// Podman refused.
    #[error("{what}: Podman answered {status}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Podman's own words.
        message: String,
    },
    /// The image could not be had.
    #[error("cannot pull image '{image}': {message}")]
    Pull {
        /// The image.
        image: ImageReference,
        /// Podman's own words.
        message: String,
    },
    /// The image is there, and nothing can be run from it.
    #[error("{what}: the image is damaged or made for another machine: {message}")]
    Damaged {
        /// What was asked for.
        what: String,
        /// Podman's or its runtime's own words.
        message: String,
    },
    /// The disk is full.
    #[error("{what}: no space left on the device: {message}")]
    NoSpace {
        /// What was asked for.
        what: String,
        /// Podman's own words.
        message: String,
    },
    /// The answer is not what the API promises.
    #[error("{what}: the answer from Podman cannot be read")]
    Decode {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What Podman's storage and its runtimes say of an image that is damaged. An empty program is not executable, whatever
/// it was meant to be.
const SIGNS_OF_DAMAGE: [&str; 5] = [
    "exec format error",
    "layer not known",
    "unexpected end of json input",
    "structure needs cleaning",
    "input/output error",
];

/// Whether `message` is about a damaged image.
pub fn is_about_damage(message: &str) -> bool {
    let message = message.to_lowercase();
    let layer_is_gone = message.contains("/overlay/") && message.contains("no such file");
    layer_is_gone || SIGNS_OF_DAMAGE.iter().any(|sign| message.contains(sign))
}

/// Whether `message` is about a full disk.
fn is_about_space(message: &str) -> bool {
    let message = message.to_lowercase();
    ["no space left on device", "disk quota exceeded"]
        .iter()
        .any(|sign| message.contains(sign))
}

impl PodmanError {
    /// Podman's refusal to do `what`, with this status.
    pub fn refused(what: String, status: u16, message: String) -> Self {
        match is_about_space(&message) {
            true => Self::NoSpace { what, message },
            false => Self::Refused {
                what,
                status,
                message,
            },
        }
    }

    /// Podman's report that `image` could not be had.
    pub fn not_pulled(image: &ImageReference, message: String) -> Self {
        let what = format!("pull image '{image}'");
        // A registry is asked for its manifest before the storage is looked at.
        let is_damaged = is_about_damage(&message) && !message.contains("input/output error");
        match is_about_space(&message) {
            true => Self::NoSpace { what, message },
            false if is_damaged => Self::Damaged { what, message },
            false => Self::Pull {
                image: image.clone(),
                message,
            },
        }
    }

    /// This error, as one about the image when it is.
    pub fn or_damage(self) -> Self {
        match self {
            Self::Refused { what, message, .. } if is_about_damage(&message) => {
                Self::Damaged { what, message }
            }
            other => other,
        }
    }
}
