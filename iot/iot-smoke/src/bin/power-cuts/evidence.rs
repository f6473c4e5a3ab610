//! What is kept of a device that did not come back as it should.

use std::path::Path;

use harmony::domain::topology::linux_host::HostCommand;
use harmony::domain::topology::virtualization::VirtualMachineHost;
use harmony::modules::iot::device::{AGENT_HOME, CONTAINERS_USER};
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::example::Device;
use iot_smoke::guest::Guest;

/// Prints what the device says of itself, of this boot and of the one before. `$1` is the agent's state directory, `$2` the
/// containers' user. What cannot be had says so.
const SCRIPT: &str = r#"
podman() { runuser -u "$user" -- env --chdir=/ "XDG_RUNTIME_DIR=/run/user/$(id -u "$user")" podman "$@"; }
state=$1 user=$2
exec 2>&1
echo '--- containers'; podman ps --all --external
echo '--- images'; podman images --all
echo '--- state directory'; ls -lAR "$state"
echo '--- record'; cat "$state/slots/record"; echo
echo '--- failed units'; systemctl --no-pager list-units --failed
echo '--- the journal before the power was cut'; journalctl --no-pager --boot=-1 --lines=80
echo '--- the kernel'; journalctl --no-pager --boot --dmesg --priority=warning
echo '--- the agent and Podman'
journalctl --no-pager --boot --lines=200 _SYSTEMD_UNIT=iot-agent.service + _COMM=podman + _COMM=conmon + _PID=1 UNIT=iot-agent.service
"#;

/// Prints what can be said about a failure and keeps it in the data directory.
pub(crate) async fn keep(
    host: &KvmVirtualMachineHost,
    device: &Device,
    data_dir: &Path,
    cause: &str,
) {
    let diagnosis = host.diagnose_vm(&device.name).await;
    let inside = match from_inside(device).await {
        Ok(inside) => inside,
        Err(error) => format!("(not to be had from inside: {error})\n"),
    };
    let text = format!("{cause}\n\n{diagnosis}\n{inside}");
    tracing::error!("{text}");
    let directory = data_dir.join("failures");
    let file = directory.join(format!("{}.log", device.name));
    let written = std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&file, &text));
    match written {
        Ok(()) => tracing::error!("kept in {}", file.display()),
        Err(error) => tracing::error!(%error, "could not be kept in {}", file.display()),
    }
}

async fn from_inside(device: &Device) -> Result<String, Failure> {
    let guest = Guest::log_in(&device.ssh).await?;
    let script = HostCommand::new("sh").args(["-c", SCRIPT, "evidence"]);
    let script = script.args([AGENT_HOME, CONTAINERS_USER]);
    Ok(guest.run(&script.as_root()).await?.stdout)
}
