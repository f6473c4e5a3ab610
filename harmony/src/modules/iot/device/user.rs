//! The users of a device: the agent's, and the one whose Podman runs the containers.

use super::files::{
    SERVICE_CONTENT, SOCKET_CONTENT, TMPFILES_CONTENT, TMPFILES_FILE, podman_files,
};
use super::{AGENT_HOME, AGENT_USER, CONTAINERS_HOME, CONTAINERS_USER, DeviceError, run};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::{HostCommand, HostUser, LinuxHost};

/// Has the containers' Podman listen for the agent.
const SOCKET_UNIT: &str = "iot-containers.socket";

/// What is installed so that Podman listens.
pub(super) const PODMAN_CONTENTS: [&str; 3] = [TMPFILES_CONTENT, SOCKET_CONTENT, SERVICE_CONTENT];

/// Runs the agent, and nothing else: it has no subordinate ids, so that none of its files are in a container's reach.
pub(super) fn agent_user() -> HostUser {
    HostUser {
        name: AGENT_USER.to_owned(),
        home: AGENT_HOME.to_owned(),
        lingering: false,
    }
}

/// Runs rootless Podman and with it the containers.
pub(super) fn containers_user() -> HostUser {
    HostUser {
        name: CONTAINERS_USER.to_owned(),
        home: CONTAINERS_HOME.to_owned(),
        lingering: true,
    }
}

/// A program that runs as the containers' user, with what it needs to find that user's service manager.
async fn as_containers_user<T: LinuxHost>(
    host: &T,
    program: &str,
) -> Result<HostCommand, ExecutorError> {
    let id = HostCommand::new("id").args(["-u", CONTAINERS_USER]);
    let output = run(host, "ask for the user id of iot-agent", id).await?;
    let uid = output.trim();
    if uid.parse::<u32>().is_err() {
        return Err(DeviceError::UserId {
            user: CONTAINERS_USER,
            output: uid.to_owned(),
        }
        .into());
    }
    let runtime = format!("XDG_RUNTIME_DIR=/run/user/{uid}");
    let bus = format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus");
    Ok(HostCommand::new("runuser")
        .args(["-u", CONTAINERS_USER, "--", "env", "-C", CONTAINERS_HOME])
        .args([&runtime, &bus, program])
        .as_root())
}

/// Podman's first run makes its storage and its name space, which takes an emulated guest 3 s more than the next run.
pub(super) async fn run_podman_once<T: LinuxHost>(host: &T) -> Result<(), ExecutorError> {
    let podman = as_containers_user(host, "podman").await?;
    run(
        host,
        "run podman as iot-agent",
        podman.args(["ps", "--quiet"]),
    )
    .await?;
    Ok(())
}

/// Has the service manager of the containers' user listen for the agent, from each boot on.
pub(super) async fn ensure_podman_socket<T: LinuxHost>(host: &T) -> Result<Change, ExecutorError> {
    let systemctl = as_containers_user(host, "systemctl").await?.arg("--user");
    let written = host.ensure_files(&podman_files()).await?;
    let is_active = systemctl
        .clone()
        .args(["is-active", "--quiet", SOCKET_UNIT]);
    let is_enabled = globally("is-enabled").arg("--quiet").arg(SOCKET_UNIT);
    let mut ready = written
        .into_iter()
        .all(|change| change == Change::Unchanged);
    for question in [is_enabled, is_active] {
        ready &= host.run(&question, &[]).await?.status == 0;
    }
    if ready {
        return Ok(Change::Unchanged);
    }
    let directory = HostCommand::new("systemd-tmpfiles").args(["--create", TMPFILES_FILE]);
    let enable = globally("enable").arg(SOCKET_UNIT);
    let reload = systemctl.clone().arg("daemon-reload");
    // What serves by an earlier unit ends with its socket; containers go on.
    let restart = systemctl.args(["restart", SOCKET_UNIT]);
    run(host, "make Podman's directory", directory.as_root()).await?;
    run(host, "enable Podman's socket", enable).await?;
    run(host, "read the user's units anew", reload).await?;
    run(host, "have Podman listen", restart).await?;
    Ok(Change::Changed)
}

/// A command for the units of all users' service managers.
fn globally(verb: &str) -> HostCommand {
    HostCommand::new("systemctl")
        .args(["--global", verb])
        .as_root()
}
