//! Who may do what in a device, as its own system has it.

use harmony::domain::topology::linux_host::HostCommand;
use harmony::modules::iot::device::{AGENT_CONFIG, AGENT_UNIT, AGENT_USER, CONTAINERS_USER};
use iot_smoke::guest::Guest;
use iot_smoke::{Failure, expect};

/// Where Podman listens for the agent.
const SOCKET: &str = "/run/iot-agent/podman.sock";

/// Looks at the agent's unit as the device's systemd knows it, and at what each user can reach.
pub(crate) async fn examine(guest: &Guest) -> Result<String, Failure> {
    let show = HostCommand::new("systemctl").args(["show", AGENT_UNIT]);
    let show = show.arg("--property=User,Type,WatchdogUSec,MemoryMax,TasksMax,NRestarts");
    let shown = guest.output(show).await?;
    for line in [
        &format!("User={AGENT_USER}"),
        "Type=notify",
        "WatchdogUSec=2min",
        "MemoryMax=134217728",
        "TasksMax=64",
        "NRestarts=0",
    ] {
        if !shown.lines().any(|own| own == line) {
            return Err(format!("the agent's unit has no '{line}':\n{shown}").into());
        }
    }
    let can = [
        (AGENT_USER, "-r", AGENT_CONFIG, true),
        (CONTAINERS_USER, "-r", AGENT_CONFIG, false),
        ("nobody", "-r", AGENT_CONFIG, false),
        (AGENT_USER, "-w", SOCKET, true),
        ("nobody", "-w", SOCKET, false),
        (CONTAINERS_USER, "-x", "/var/lib/iot-agent-v0", false),
    ];
    for (user, how, path, expected) in can {
        let test = HostCommand::new("runuser").args(["-u", user, "--", "test", how, path]);
        let can = guest.run(&test.as_root()).await?.status == 0;
        let what = format!("whether {user} may {how} {path}");
        expect(&what, &can.to_string(), &expected.to_string())?;
    }
    let security = HostCommand::new("systemd-analyze");
    let security = security.args(["security", "--no-pager", "--threshold=15", AGENT_UNIT]);
    let judged = guest.output(security.as_root()).await?;
    let exposure = judged
        .lines()
        .find(|line| line.contains("Overall exposure"));
    let exposure = exposure.unwrap_or_default().trim_start_matches(['→', ' ']);
    Ok(format!("confinement: {exposure}"))
}
