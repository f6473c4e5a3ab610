//! What is done while the configuration is not there yet: all that does not depend on it.

use std::path::{Path, PathBuf};

use tokio::time::Instant;

use crate::await_file::{AwaitError, await_file};
use crate::podman::Podman;
use crate::reconcile::Executor;
use crate::watchdog::ServiceManager;

/// A Podman that had no container of the agent's.
pub struct NothingThere {
    /// Where it listens.
    pub socket: PathBuf,
    /// When that was.
    pub since: Instant,
}

/// Returns when there is a configuration. Looks at the device's Podman meanwhile: on a device that is saved and taken
/// up again many times, nobody has to ask it again before there is something to run.
///
/// # Errors
///
/// As [`await_file`].
pub fn await_configuration(
    config: &Path,
    manager: &ServiceManager,
) -> Result<Option<NothingThere>, AwaitError> {
    let is_there = config.try_exists().unwrap_or(false);
    let nothing = if is_there { None } else { look() };
    await_file(config, manager)?;
    Ok(nothing)
}

fn look() -> Option<NothingThere> {
    let socket = crate::config::default_podman_socket();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    match runtime.block_on(Podman::new(socket.clone()).observe()) {
        Ok(containers) => containers.is_empty().then(|| NothingThere {
            socket,
            since: Instant::now(),
        }),
        // It is seen to when there is a configuration.
        Err(error) => {
            tracing::debug!(
                error = crate::error::chain(&error),
                "Podman is not seen yet"
            );
            None
        }
    }
}
