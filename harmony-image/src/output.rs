//! What is printed.

use std::io::{self, Write};
use std::path::PathBuf;

use harmony::domain::error::{ErrorKind, HintedError};

/// Standard output, or a file that was asked for, cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", to.as_ref().map_or("to standard output".to_owned(), |to| to.display().to_string()))]
pub(crate) struct OutputError {
    /// The file; none for standard output.
    pub(crate) to: Option<PathBuf>,
    /// What the system says.
    #[source]
    pub(crate) source: io::Error,
}

impl HintedError for OutputError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }
}

/// Prints data.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| OutputError { to: None, source })
}

/// Prints a value as JSON.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> Result<(), OutputError> {
    let text = serde_json::to_string_pretty(value).map_err(|source| OutputError {
        to: None,
        source: source.into(),
    })?;
    print(&format!("{text}\n"))
}

/// Says something to the person at the terminal.
pub(crate) fn complain(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A number of bytes as people read it.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}
