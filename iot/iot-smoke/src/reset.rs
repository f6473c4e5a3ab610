//! The sixth phase: a device that was used goes back to its checkpoint.

use harmony::domain::topology::linux_host::HostCommand;
use harmony::domain::topology::virtualization::VirtualMachineHost;
use iot_smoke::guest::Guest;
use iot_smoke::options::Surroundings;
use iot_smoke::{Failure, expect};

use crate::phases::Smoke;

/// What a used device has in a directory that outlives its power.
const USED: &str = "harmony-smoke-used";
const DIRECTORY: &str = "/var/tmp";

/// Leaves a trace of the device's use.
pub(crate) async fn use_it(guest: &Guest) -> Result<(), Failure> {
    let touch = HostCommand::new("touch").arg(format!("{DIRECTORY}/{USED}"));
    guest.output(touch.as_root()).await?;
    Ok(())
}

/// The used device, which is off, goes back and is the same machine, without what it wrote.
pub(crate) async fn phase_6(smoke: &Smoke, setting: &Surroundings) -> Result<String, Failure> {
    let host = smoke.host.as_ref().ok_or("no host")?;
    let name = &smoke.args.device.name;
    let identity = host.identity(name).await?;
    let device = smoke.set_up(setting, &["--reset"]).await?;
    expect("went back", &device.forked.to_string(), "true")?;
    if host.identity(name).await? != identity {
        return Err("the device that went back is another machine".into());
    }
    let guest = Guest::log_in(&device.ssh).await?;
    let find = HostCommand::new("find").args([DIRECTORY, "-name", USED]);
    let found = guest.output(find.as_root()).await?;
    expect("what is left of its use", found.trim(), "")?;
    let containers = guest.containers().await?.len();
    expect("the containers left", &containers.to_string(), "0")?;
    let seconds: f64 = device.stages.iter().map(|stage| stage.seconds).sum();
    Ok(format!(
        "back to its checkpoint and reporting in {seconds:.1} s"
    ))
}
