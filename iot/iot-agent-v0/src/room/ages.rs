//! For how long images have been unused, for an agent's next life.
//!
//! What is written down is a time of the agent's running: a device without a battery for its clock begins each life at
//! another time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::{MAX_AGE, Unused};
use crate::notes::Notes;

/// The file's name in the state directory.
const FILE: &str = "unused-images";

/// Seconds, by the ids of images.
type Seconds = BTreeMap<String, u64>;

/// The ages of images.
#[derive(Debug, Clone)]
pub struct Ages(Notes);

impl Ages {
    /// Those that are written down in `dir`.
    pub fn of(dir: Option<PathBuf>) -> Self {
        Self(Notes::new(dir, FILE))
    }

    /// Since when each image has been unused.
    pub fn recall(&self, now: Instant) -> Unused {
        let ages: Seconds = self.0.recall();
        let since = |seconds| {
            let age = MAX_AGE.min(Duration::from_secs(seconds));
            now.checked_sub(age).unwrap_or(now)
        };
        ages.into_iter()
            .map(|(id, seconds)| (id, since(seconds)))
            .collect()
    }

    /// Writes it down.
    pub async fn keep(&self, unused: &Unused) {
        let ages: Seconds = unused
            .iter()
            .map(|(id, since)| (id.clone(), since.elapsed().as_secs()))
            .collect();
        if ages != self.0.recall::<Seconds>() {
            self.0.write(&ages).await;
        }
    }
}
