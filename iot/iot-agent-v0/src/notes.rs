//! Small things that the agent writes down for its next life, each in a file of the state directory.
//!
//! They are for better decisions and for no obligation: a file that is not there or cannot be read counts as empty.

use std::io::{self, Read};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable;
use crate::error::chain;

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Nothing outlives the agent without one.
    dir: Option<PathBuf>,
    file: &'static str,
}

impl Notes {
    /// The file of this name in `dir`.
    pub fn new(dir: Option<PathBuf>, file: &'static str) -> Self {
        Self { dir, file }
    }

    /// What was written last.
    pub fn recall<T: DeserializeOwned + Default>(&self) -> T {
        let Some(path) = self.dir.as_ref().map(|dir| dir.join(self.file)) else {
            return T::default();
        };
        let read = || -> io::Result<T> {
            let mut json = Vec::new();
            let file = std::fs::File::open(&path)?;
            file.take(MAX_BYTES).read_to_end(&mut json)?;
            Ok(serde_json::from_slice(&json)?)
        };
        read().unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), error = chain(&error), "ignored");
            }
            T::default()
        })
    }

    /// This takes the place of what was written last, as a whole and for good. What cannot be written is known until the
    /// agent ends.
    pub async fn write<T: Serialize>(&self, content: &T) {
        let Some(dir) = self.dir.clone() else {
            return;
        };
        let file = self.file;
        let written = match serde_json::to_vec(content) {
            Ok(json) => {
                let unfinished = format!("{file}.new");
                // The disk may be slow.
                let write = move || durable::replace(&dir, file, &unfinished, &json);
                let written = tokio::task::spawn_blocking(write).await;
                written.unwrap_or_else(|error| Err(error.into()))
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            tracing::warn!(file, error = chain(&error), "not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, Notes};

    #[tokio::test]
    async fn what_is_written_is_recalled_and_anything_else_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::new(Some(dir.path().to_owned()), "numbers");
        assert_eq!(notes.recall::<Vec<u8>>(), [0; 0]);
        notes.write(&[1, 2]).await;
        assert_eq!(notes.recall::<Vec<u8>>(), [1, 2]);
        let long = " ".repeat(usize::try_from(MAX_BYTES).unwrap()) + "[1]";
        for content in ["", "[1", "{}", &long] {
            std::fs::write(dir.path().join("numbers"), content).unwrap();
            assert_eq!(notes.recall::<Vec<u8>>(), [0; 0]);
        }
        // Nowhere to write to.
        let notes = Notes::new(Some(dir.path().join("none")), "numbers");
        notes.write(&[1]).await;
        assert_eq!(notes.recall::<Vec<u8>>(), [0; 0]);
    }
}
