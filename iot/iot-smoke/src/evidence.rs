//! What the guest says from inside, and what is kept when something fails.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use harmony::domain::topology::linux_host::HostCommand;
use harmony::domain::topology::virtualization::{VirtualMachineHost, VmArchitecture};
use iot_smoke::Failure;
use iot_smoke::example::Device;
use iot_smoke::expect;
use iot_smoke::guest::{Guest, Login};

use crate::phases::{Smoke, elf_machine};

/// Checks that this is the guest that was asked for, booted as it should be.
pub(crate) async fn examine(
    guest: &Guest,
    device: &Device,
    architecture: VmArchitecture,
) -> Result<Vec<String>, Failure> {
    let mut findings = Vec::new();
    let machine = guest.output(HostCommand::new("uname").arg("-m")).await?;
    expect("uname -m", machine.trim(), architecture.as_str())?;
    let kernel = guest.output(HostCommand::new("uname").arg("-sr")).await?;
    findings.push(format!("guest: {} {}", machine.trim(), kernel.trim()));

    let agent =
        HostCommand::new("od").args(["-An", "-tx2", "-j18", "-N2", "/usr/local/bin/iot-agent-v0"]);
    let elf = guest.output(agent).await?;
    expect(
        "the agent's ELF machine",
        elf.trim(),
        elf_machine(architecture),
    )?;
    findings.push(format!(
        "agent: ELF machine 0x{} ({architecture})",
        elf.trim()
    ));

    // What goes on from a checkpoint has not been started by its own firmware yet.
    if !device.forked {
        findings.extend(examine_boot(guest, device, architecture).await?);
    }
    Ok(findings)
}

/// Checks that the image of the built-in recipe set itself up, and not cloud-init, which does it when that fails.
pub(crate) async fn examine_set_up(guest: &Guest) -> Result<String, Failure> {
    let done = HostCommand::new("test").args(["-e", "/run/harmony/first-boot"]);
    guest.output(done).await?;
    let cloud_init = HostCommand::new("systemctl").args([
        "show",
        "--value",
        "--property=ConditionResult",
        "cloud-init-local.service",
    ]);
    let ran = guest.output(cloud_init).await?;
    expect("cloud-init's condition", ran.trim(), "no")?;
    let key = "/etc/ssh/ssh_host_ed25519_key";
    let mode = HostCommand::new("stat").args(["-c", "%U %a", key]);
    let mode = guest.output(mode).await?;
    expect("the host key's owner and mode", mode.trim(), "root 600")?;
    Ok("set up: by harmony's seed, without cloud-init".to_owned())
}

/// Checks that the firmware started the guest as it should.
pub(crate) async fn examine_boot(
    guest: &Guest,
    device: &Device,
    architecture: VmArchitecture,
) -> Result<Vec<String>, Failure> {
    Ok(match architecture {
        VmArchitecture::Aarch64 => vec![
            removable_path(guest, &device.console_log).await?,
            nvram(&device.nvram)?,
        ],
        VmArchitecture::X86_64 => Vec::new(),
    })
}

/// The firmware's own words: the boot option that it started. An option without a file path stands for
/// the removable media path, which on arm64 is `\EFI\BOOT\BOOTAA64.EFI`.
async fn removable_path(guest: &Guest, console_log: &Path) -> Result<String, Failure> {
    let loader = HostCommand::new("test")
        .args(["-s", "/boot/efi/EFI/BOOT/BOOTAA64.EFI"])
        .as_root();
    guest.output(loader).await?;
    guest
        .output(HostCommand::new("test").args(["-d", "/sys/firmware/efi"]))
        .await?;
    let console = std::fs::read(console_log)?;
    let console = String::from_utf8_lossy(&console);
    let started = console
        .lines()
        .find_map(|line| line.split_once("BdsDxe: starting "))
        .map(|(_, option)| option.trim().trim_end_matches('\r'))
        .ok_or("the firmware's boot line is not in the console log")?;
    if started.contains('\\') {
        return Err(format!("the firmware did not start the removable path but {started}").into());
    }
    Ok(format!(
        "firmware: started \\EFI\\BOOT\\BOOTAA64.EFI as {started}"
    ))
}

/// The variable store must be there, of pflash size, and the firmware must have written to it.
fn nvram(path: &Path) -> Result<String, Failure> {
    use std::os::unix::fs::MetadataExt;
    let mut file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    let mut beginning = vec![0_u8; 1 << 20];
    file.read_exact(&mut beginning)?;
    let written = beginning.iter().filter(|byte| **byte != 0).count();
    if written == 0 {
        return Err(format!("{} has not been written to", path.display()).into());
    }
    Ok(format!(
        "NVRAM: {}, {} KiB on disk of {} MiB",
        path.display(),
        metadata.blocks() / 2,
        metadata.len() >> 20
    ))
}

/// Prints what can be said about a failure and keeps it in the data directory.
pub(crate) async fn keep(smoke: &Smoke, cause: &str) {
    let mut text = format!("{cause}\n\n");
    if let Some(host) = &smoke.host {
        text.push_str(&host.diagnose_vm(&smoke.args.device.name).await);
    }
    text.push_str("\nthe agent's journal:\n");
    text.push_str(&match journal(smoke).await {
        Ok(journal) => journal,
        Err(error) => format!("(not to be had: {error})\n"),
    });
    tracing::error!("{text}");
    let directory = smoke.data_dir.join("failures");
    let file = directory.join(format!("{}.log", smoke.args.device.name));
    let written = std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&file, &text));
    match written {
        Ok(()) => tracing::error!("kept in {}", file.display()),
        Err(error) => tracing::error!(%error, "could not be kept in {}", file.display()),
    }
}

/// How the example logs in, also when it did not get as far as telling.
async fn login(smoke: &Smoke) -> Result<Login, Failure> {
    if let Some(device) = &smoke.device {
        return Ok(device.ssh.clone());
    }
    let host = smoke.host.as_ref().ok_or("no VM was made")?;
    let wait = Duration::from_secs(10);
    let address = host.wait_for_address(&smoke.args.device.name, wait).await?;
    Login::at(address, &smoke.data_dir.join("keys/id_ed25519"))
}

async fn journal(smoke: &Smoke) -> Result<String, Failure> {
    let guest = Guest::log_in(&login(smoke).await?).await?;
    let command = HostCommand::new("journalctl")
        .args([
            "--no-pager",
            "-n",
            "200",
            "-u",
            "iot-agent",
            "-u",
            "cloud-final",
        ])
        .as_root();
    guest.output(command).await
}
