//! The containers of a device, as Podman in it has them.

use std::time::Duration;

use harmony::domain::topology::linux_host::HostCommand;
use harmony::modules::iot::device::CONTAINERS_USER;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::guest::Guest;

/// How long a container's output may take to reach the journal.
const LOG_TIMEOUT: Duration = Duration::from_secs(30);

impl Guest {
    /// A command of the containers' user's Podman.
    async fn podman(&self, arguments: &[&str]) -> Result<String, Failure> {
        let uid = self
            .output(HostCommand::new("id").args(["-u", CONTAINERS_USER]))
            .await?;
        let runtime_dir = format!("XDG_RUNTIME_DIR=/run/user/{}", uid.trim());
        let command = HostCommand::new("runuser")
            .args([
                "-u",
                CONTAINERS_USER,
                "--",
                "env",
                "--chdir=/",
                &runtime_dir,
                "podman",
            ])
            .args(arguments.iter().copied())
            .as_root();
        self.output(command).await
    }

    /// All containers of that user.
    ///
    /// # Errors
    /// When Podman does not list them.
    pub async fn containers(&self) -> Result<Vec<Value>, Failure> {
        let listed = self.podman(&["ps", "--all", "--format", "json"]).await?;
        Ok(serde_json::from_str(&listed)?)
    }

    /// All containers of that user, and what only Podman's storage has of others.
    ///
    /// # Errors
    /// When Podman does not list them.
    pub async fn containers_and_leftovers(&self) -> Result<Vec<Value>, Failure> {
        let listed = self
            .podman(&["ps", "--all", "--external", "--format", "json"])
            .await?;
        Ok(serde_json::from_str(&listed)?)
    }

    /// Waits until Podman itself says that the one container runs. The agent has said so already, but a
    /// container may end right after its start; then the journal of Podman tells why.
    ///
    /// # Errors
    /// When it does not run within `bound`.
    pub async fn wait_for_running_container(&self, bound: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + bound;
        let mut told = false;
        loop {
            let containers = self.containers().await?;
            if matches!(containers.as_slice(), [only] if only["State"] == "running") {
                return Ok(());
            }
            if !told {
                told = true;
                tracing::warn!(?containers, "does not run, although the agent said so");
                let journal = HostCommand::new("journalctl")
                    .args([
                        "--no-pager",
                        "-b",
                        "-n",
                        "60",
                        "_COMM=conmon",
                        "+",
                        "_COMM=podman",
                    ])
                    .as_root();
                tracing::warn!("{}", self.output(journal).await?);
            }
            if Instant::now() >= deadline {
                return Err(format!("expected one running container, found {containers:?}").into());
            }
            sleep(Duration::from_secs(2)).await;
        }
    }

    /// Waits until the one container has printed this line; the journal may lag behind a start.
    ///
    /// # Errors
    /// When it has not within 30 s.
    pub async fn wait_for_container_log(&self, expected: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + LOG_TIMEOUT;
        loop {
            let said = self.container_log().await?;
            if said.lines().any(|line| line == expected) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(
                    format!("the container printed '{said}', expected '{expected}'").into(),
                );
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// What the one container has printed.
    async fn container_log(&self) -> Result<String, Failure> {
        let containers = self.containers().await?;
        let [container] = containers.as_slice() else {
            return Err(format!("expected one container, found {containers:?}").into());
        };
        let id = container["Id"]
            .as_str()
            .ok_or("a container without an id")?;
        // Podman's default on Debian is to log to the system's journal, which the containers' user may not read.
        let command = HostCommand::new("journalctl")
            .args(["--no-pager", "--output=cat"])
            .arg(format!("CONTAINER_ID_FULL={id}"))
            .as_root();
        self.output(command).await
    }
}
