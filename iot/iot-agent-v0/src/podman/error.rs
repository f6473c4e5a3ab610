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
