//! The agent's user on a device, and that user's Podman.

use super::{AGENT_HOME, AGENT_USER, DeviceError, run};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::{HostCommand, HostUser, LinuxHost};

pub(super) fn agent_user() -> HostUser {
    HostUser {
        name: AGENT_USER.to_owned(),
        home: AGENT_HOME.to_owned(),
        lingering: true,
    }
}

/// A program that runs as the agent's user, with what it needs to find that user's service manager.
async fn as_agent_user<T: LinuxHost>(
    host: &T,
    program: &str,
) -> Result<HostCommand, ExecutorError> {
    let id = HostCommand::new("id").args(["-u", AGENT_USER]);
    let output = run(host, "ask for the user id of iot-agent", id).await?;
    let uid = output.trim();
    if uid.parse::<u32>().is_err() {
        return Err(DeviceError::UserId {
            user: AGENT_USER,
            output: uid.to_owned(),
        }
        .into());
    }
    let runtime = format!("XDG_RUNTIME_DIR=/run/user/{uid}");
    let bus = format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus");
    Ok(HostCommand::new("runuser")
        .args(["-u", AGENT_USER, "--", "env", "-C", AGENT_HOME])
        .args([&runtime, &bus, program])
        .as_root())
}

/// Podman's first run makes its storage and its name space, which takes an emulated guest 3 s more than the next run.
pub(super) async fn run_podman_once<T: LinuxHost>(host: &T) -> Result<(), ExecutorError> {
    let podman = as_agent_user(host, "podman").await?.args(["ps", "--quiet"]);
    run(host, "run podman as iot-agent", podman).await?;
    Ok(())
}

/// Has the agent's own service manager listen for Podman's clients, from each boot on.
pub(super) async fn ensure_podman_socket<T: LinuxHost>(host: &T) -> Result<Change, ExecutorError> {
    let as_agent = as_agent_user(host, "systemctl").await?;
    let systemctl = |args: &[&str]| {
        let command = as_agent.clone().arg("--user");
        command.args(args.iter().copied()).arg("podman.socket")
    };
    let mut ready = true;
    for question in ["is-enabled", "is-active"] {
        let answer = host.run(&systemctl(&[question, "--quiet"]), &[]).await?;
        ready &= answer.status == 0;
    }
    if ready {
        return Ok(Change::Unchanged);
    }
    let enable = systemctl(&["enable", "--now"]);
    run(host, "enable podman.socket of iot-agent", enable).await?;
    Ok(Change::Changed)
}
