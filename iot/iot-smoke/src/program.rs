//! Being a program: what it logs, when it stops, what it says.

use std::io::{IsTerminal, Write};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::Failure;

/// Logs to standard error; `RUST_LOG` says what, and `default` where it is not set.
pub fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Does some work, and leaves it when the program is asked to stop, so that what it made can be removed.
///
/// # Errors
/// Those of the work; that it was interrupted, or that signals cannot be listened to.
pub async fn unless_asked_to_stop<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        asked = asked_to_stop() => Err(asked.err().map_or_else(|| "interrupted".into(), Failure::from)),
    }
}

/// Waits for SIGINT or SIGTERM.
async fn asked_to_stop() -> Result<(), std::io::Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Prints a result.
pub fn say(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
