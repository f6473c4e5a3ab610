//! What the guest's service manager tells of its boot.

use std::collections::BTreeMap;

use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::{HostCommand, LinuxHost};
use crate::modules::iot::device::DeviceError;

/// Prints the seconds since the guest's clock began, and blocks of properties: the manager's, and one for each unit. A
/// unit that is not there has no times.
const SCRIPT: &str = "\
set -eu
read -r up _ </proc/uptime
echo \"$up\"
echo
systemctl show --property=UserspaceTimestampMonotonic
echo
exec systemctl show --property=Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic -- \"$@\"
";

/// What takes part in a device's boot: what sets it up, with cloud-init's stages under their names before and after
/// 24.3, the network, and what is waited for.
const UNITS: [&str; 12] = [
    "systemd-udev-trigger.service",
    "harmony-first-boot.service",
    "cloud-init-main.service",
    "cloud-init-local.service",
    "systemd-networkd-wait-online.service",
    "NetworkManager-wait-online.service",
    "cloud-init.service",
    "cloud-init-network.service",
    "ssh.service",
    "cloud-config.service",
    "cloud-final.service",
    "iot-agent.service",
];

/// Times by the guest's clock, which began with its kernel.
#[derive(Debug, Default, PartialEq)]
pub(super) struct GuestTimes {
    pub(super) up_seconds: f64,
    pub(super) user_space_seconds: Option<f64>,
    pub(super) units: Vec<Unit>,
}

/// A unit that was started.
#[derive(Debug, PartialEq)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) began_seconds: f64,
    pub(super) ready_seconds: f64,
}

pub(super) async fn read(guest: &impl LinuxHost) -> Result<GuestTimes, ExecutorError> {
    let command = HostCommand::new("sh").args(["-c", SCRIPT, "boot-times"]);
    let output = guest.run(&command.args(UNITS), &[]).await?;
    let times = parse(&output.stdout).filter(|_| output.status == 0);
    Ok(times.ok_or(DeviceError::Command {
        action: "tell of its boot",
        status: output.status,
        stderr: output.stderr,
    })?)
}

fn parse(printed: &str) -> Option<GuestTimes> {
    let mut blocks = printed.split("\n\n");
    let up_seconds = blocks.next()?.trim().parse().ok()?;
    let manager = properties(blocks.next()?);
    let units = blocks.map(properties).filter_map(|unit| {
        Some(Unit {
            name: (*unit.get("Id")?).to_owned(),
            began_seconds: seconds(&unit, "InactiveExitTimestampMonotonic")?,
            ready_seconds: seconds(&unit, "ActiveEnterTimestampMonotonic")?,
        })
    });
    Some(GuestTimes {
        up_seconds,
        user_space_seconds: seconds(&manager, "UserspaceTimestampMonotonic"),
        units: units.collect(),
    })
}

fn properties(block: &str) -> BTreeMap<&str, &str> {
    block
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

/// systemd counts microseconds; zero is never.
fn seconds(properties: &BTreeMap<&str, &str>, name: &str) -> Option<f64> {
    let microseconds: f64 = properties.get(name)?.parse().ok()?;
    (microseconds > 0.0).then_some(microseconds / 1e6)
}

#[cfg(test)]
mod tests {
    use super::{GuestTimes, Unit, parse};

    #[test]
    fn only_what_was_started_has_times() {
        let printed = "52.24\n\nUserspaceTimestampMonotonic=6928000\n\n\
                       Id=ssh.service\nInactiveExitTimestampMonotonic=36226000\n\
                       ActiveEnterTimestampMonotonic=37630000\n\n\
                       Id=cloud-init-main.service\nInactiveExitTimestampMonotonic=0\n\
                       ActiveEnterTimestampMonotonic=0\n";
        let expected = GuestTimes {
            up_seconds: 52.24,
            user_space_seconds: Some(6.928),
            units: vec![Unit {
                name: "ssh.service".to_owned(),
                began_seconds: 36.226,
                ready_seconds: 37.63,
            }],
        };
        assert_eq!(parse(printed), Some(expected));
        for printed in ["", "x", "1.0"] {
            assert_eq!(parse(printed), None, "{printed:?}");
        }
    }
}
