//! From nothing to a heartbeat.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harmony::domain::error::ExecutorError;
use harmony::domain::inventory::Inventory;
use harmony::domain::maestro::{Maestro, Performance};
use harmony::domain::topology::linux_host::LinuxHost;
use harmony::domain::topology::virtualization::{
    FirstBoot, GuestAddress, OnChange, VirtualMachineHost, VirtualMachineSpec, while_running,
};
use harmony::modules::host::HostFacts;
use harmony::modules::iot::assets;
use harmony::modules::iot::device::{PACKAGES_STEP, ProvisionIotAgentScore};
use harmony::modules::iot::platform::Platform;
use harmony::modules::iot::preflight::{PreflightOptions, run_preflight, run_preflight_on};
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::preview::{Preview, preview};
use harmony::modules::kvm::score::ProvisionVmScore;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::kvm::{VmConfig, VmName};
use harmony::modules::ssh::{SshKeyPair, SshLinuxHost, SshTarget, ensure_key_pair};
use iot_contracts::{AgentStatus, DeviceId};
use tracing::info;

use crate::agent::{agent_binary, agent_config, check_reach};
use crate::args::Args;
use crate::error::SetupError;
use crate::image::{self, DeviceImage};
use crate::inspect;
use crate::output::{Device, SshLogin, Stage, explanation, print, print_json};
use crate::warm;

/// The user that cloud-init makes in the guest.
const LOGIN_USER: &str = "harmony";

/// How long one attempt to log in may take; an emulated guest needs seconds for the key exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one command in the guest may take: installing packages under emulation is the longest.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);

/// Times the stages of a run.
pub(crate) struct Stages {
    done: Vec<Stage>,
    since: Instant,
}

impl Stages {
    fn new() -> Self {
        Self {
            done: Vec::new(),
            since: Instant::now(),
        }
    }

    pub(crate) fn end(&mut self, name: &'static str, outcome: impl Into<String>) {
        let seconds = self.since.elapsed().as_secs_f64();
        let outcome = outcome.into();
        info!(stage = name, seconds = format!("{seconds:.1}"), "{outcome}");
        self.done.push(Stage {
            name,
            outcome,
            seconds,
        });
        self.since = Instant::now();
    }
}

/// Does what the command line says.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, ExecutorError> {
    if let Some(image) = &args.inspect {
        return inspect::run(args, image);
    }
    // The name is checked first: it becomes part of paths and keys.
    let name: VmName = args.vm_name().parse().map_err(invalid_name)?;
    let data_dir = assets::data_dir()?;
    if args.preflight {
        return preflight_only(args, &data_dir).await;
    }
    if let Some(file) = &args.facts {
        return dry_run_elsewhere(args, &name, &data_dir, file);
    }
    let uri = ConnectionUri::choose(args.connect).await?;
    let host = KvmVirtualMachineHost::new(uri, &data_dir);
    if args.print_facts {
        let facts = host.facts().await;
        return if args.json {
            print_json(facts)
        } else {
            print(&facts.to_string())
        };
    }
    if args.destroy {
        let existed = host.destroy_vm(name.as_str()).await?;
        let what = if existed {
            "destroyed"
        } else {
            "was not there"
        };
        if args.json {
            return print_json(&serde_json::json!({ "name": name, "existed": existed }));
        }
        return print(&format!("{name}: {what}\n"));
    }
    if args.dry_run {
        let spec = planned_spec(args, &name, &data_dir, host.facts().await)?;
        let preview = host.preview(&spec).await?;
        return print_preview(args, &preview);
    }
    let device = set_up(args, &name, host, &data_dir).await?;
    if args.json {
        print_json(&device)
    } else {
        print(&device.to_text())
    }
}

fn invalid_name(violation: harmony::modules::kvm::types::Violation) -> ExecutorError {
    harmony::modules::kvm::KvmError::Invalid {
        violations: vec![violation],
    }
    .into()
}

/// The spec before there is an image or a key.
fn planned_spec(
    args: &Args,
    name: &VmName,
    data_dir: &Path,
    facts: &HostFacts,
) -> Result<VirtualMachineSpec, ExecutorError> {
    let image = image::planned(args, facts, &images_dir(data_dir))?;
    Ok(spec(args, name, image, &planned_keys(data_dir)))
}

/// What would be made on the host that a file tells of. libvirt is not asked for anything.
fn dry_run_elsewhere(
    args: &Args,
    name: &VmName,
    data_dir: &Path,
    file: &Path,
) -> Result<ExitCode, ExecutorError> {
    let unreadable = |reason: String| SetupError::Facts {
        path: file.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(e.to_string()))?;
    let facts: HostFacts = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    let preview = preview(&planned_spec(args, name, data_dir, &facts)?, &facts)?;
    print_preview(args, &preview)
}

fn print_preview(args: &Args, preview: &Preview) -> Result<ExitCode, ExecutorError> {
    for warning in &preview.warnings {
        tracing::warn!("{warning}");
    }
    match (args.json, args.explain) {
        (true, _) => print_json(preview),
        (false, true) => print(&format!("{}\n{}", preview.xml, explanation(preview))),
        (false, false) => print(&preview.xml),
    }
}

fn preflight_options(args: &Args, data_dir: &Path) -> PreflightOptions {
    PreflightOptions {
        architecture: args.arch,
        accelerator: args.accel,
        cpu: args.cpu.clone(),
        firmware: args.firmware,
        networks: args.network.clone(),
        connect: args.connect,
        data_dir: data_dir.to_owned(),
    }
}

async fn preflight_only(args: &Args, data_dir: &Path) -> Result<ExitCode, ExecutorError> {
    let report = run_preflight(&preflight_options(args, data_dir)).await;
    if args.json {
        print_json(&report)?;
    } else {
        print(&report.to_string())?;
    }
    let failed = report.failures().next().is_some();
    Ok(ExitCode::from(u8::from(failed)))
}

fn images_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("images")
}

fn keys_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("keys")
}

/// For a dry run, which makes no key: a place holder where none is there yet.
fn planned_keys(data_dir: &Path) -> SshKeyPair {
    let private_key_path = keys_dir(data_dir).join("id_ed25519");
    let public = private_key_path.with_extension("pub");
    let public_key_line = std::fs::read_to_string(public).map_or_else(
        |_| "ssh-ed25519 (made by the first run)".to_owned(),
        |line| line.trim_end().to_owned(),
    );
    SshKeyPair {
        private_key_path,
        public_key_line,
    }
}

fn spec(args: &Args, name: &VmName, image: DeviceImage, keys: &SshKeyPair) -> VirtualMachineSpec {
    VirtualMachineSpec {
        name: name.to_string(),
        architecture: args.arch,
        vcpus: args.vcpus,
        memory_mib: args.memory_mib,
        memory_overcommit: args.memory_overcommit,
        disk_gib: args.disk_gib,
        image: Some(image.path),
        kernel: image.kernel,
        networks: args.network.iter().cloned().map(Into::into).collect(),
        accelerator: args.accel,
        cpu: args.cpu.clone(),
        firmware: args.firmware,
        machine: args.machine.clone(),
        first_boot: Some(FirstBoot {
            user: LOGIN_USER.to_owned(),
            authorized_keys: vec![keys.public_key_line.clone()],
            ..FirstBoot::default()
        }),
        ..VirtualMachineSpec::default()
    }
}

async fn set_up(
    args: &Args,
    name: &VmName,
    host: KvmVirtualMachineHost,
    data_dir: &Path,
) -> Result<Device, ExecutorError> {
    let mut stages = Stages::new();
    // Everything that can be wrong with the request or the host is found before anything is made.
    let agent_binary = agent_binary(args)?;
    let config = agent_config(args, name)?;
    check_reach(args)?;
    let images_dir = images_dir(data_dir);
    VmConfig::try_from(&planned_spec(args, name, data_dir, host.facts().await)?)?;
    run_preflight_on(&preflight_options(args, data_dir), &host)
        .await
        .into_result()?;
    let platform = Platform::connect(&config.nats.urls, config.nats.credentials.as_ref()).await?;
    if args.reset_nvram {
        host.reset_nvram(name.as_str()).await?;
    }
    stages.end("preflight", "this host can run the device");

    let image = image::ensure(args, name, &host, &images_dir).await?;
    stages.end(
        "image",
        format!("{} ({})", image.path.display(), image.origin),
    );

    let keys = ensure_key_pair(&keys_dir(data_dir), "id_ed25519")?;
    let inventory = Inventory::new(data_dir);
    let spec = spec(args, name, image.clone(), &keys);
    let forked = warm::start(args, &host, &spec, &agent_binary, &keys, &mut stages).await?;
    let host = if forked {
        host
    } else {
        provision_vm(args, &inventory, host, spec, &mut stages).await?
    };

    let bound = host.boot_timeout(name.as_str()).await?;
    let before = platform.status(&config.device_id).await?;
    let provision = ProvisionIotAgentScore {
        config: config.clone(),
        agent_binary,
        architecture: args.arch,
        insecure_registries: args.insecure_registry.clone(),
        installed: forked,
    };
    // A fork's agent answers already, and needs no login.
    let (address, facts, performed) = if forked {
        let guest = host.guest(name.as_str()).await?;
        let performed = configure(&host, name, inventory, guest.clone(), provision).await?;
        let facts = guest.facts().await?;
        let address = host.wait_for_address(name.as_str(), bound).await?;
        (address, facts, performed)
    } else {
        let address = host.wait_for_address(name.as_str(), bound).await?;
        let log_in = log_in(name.as_str(), &address, &keys, bound);
        let guest = while_running(&host, name.as_str(), "a login over SSH", log_in).await?;
        let facts = guest.facts().await?;
        stages.end("boot", format!("SSH answers on a {} guest", facts.machine));
        let performed = configure(&host, name, inventory, guest, provision).await?;
        (address, facts, performed)
    };
    let packages_installed = changed(&performed, PACKAGES_STEP);
    let packages = match packages_installed {
        true => "packages were installed in it",
        false => "no package had to be installed in it",
    };
    let outcome = format!("{}; {packages}", last_message(&performed));
    stages.end("agent", outcome);

    let device_id = &config.device_id;
    let old = before.as_ref();
    let heartbeat = new_heartbeat(&platform, device_id, old, &facts.boot_id, bound);
    let heartbeat = while_running(&host, name.as_str(), "a heartbeat", heartbeat).await?;
    let outcome = format!("report {} of this boot", heartbeat.sequence);
    stages.end("heartbeat", outcome);

    Ok(Device {
        name: name.to_string(),
        architecture: args.arch,
        connect: host.uri().as_str(),
        image: image.path,
        ssh: SshLogin {
            user: LOGIN_USER.to_owned(),
            address: address.ip.to_string(),
            port: address.ssh_port,
            private_key: keys.private_key_path,
            host_key: address.host_key.unwrap_or_default(),
            known_hosts: host.known_hosts(name.as_str())?,
        },
        console_log: host.console_log(name.as_str())?,
        nvram: host.nvram(name.as_str())?,
        packages_installed,
        default_gateway: facts.default_gateway.map(|gateway| gateway.to_string()),
        stages: stages.done,
        heartbeat,
    })
}

/// Makes the guest the device.
async fn configure<H: LinuxHost>(
    host: &KvmVirtualMachineHost,
    name: &VmName,
    inventory: Inventory,
    guest: H,
    provision: ProvisionIotAgentScore,
) -> Result<Vec<Performance>, ExecutorError> {
    let mut maestro = Maestro::new(inventory, guest);
    maestro.register(Box::new(provision));
    while_running(
        host,
        name.as_str(),
        "the agent's installation",
        maestro.run(),
    )
    .await
}

async fn provision_vm(
    args: &Args,
    inventory: &Inventory,
    host: KvmVirtualMachineHost,
    spec: VirtualMachineSpec,
    stages: &mut Stages,
) -> Result<KvmVirtualMachineHost, ExecutorError> {
    let on_change = if args.replace {
        OnChange::Replace
    } else {
        OnChange::Refuse
    };
    let mut maestro = Maestro::new(inventory.clone(), host);
    maestro.register(Box::new(ProvisionVmScore { spec, on_change }));
    let performed = maestro.run().await?;
    stages.end("vm", last_message(&performed));
    Ok(maestro.into_topology())
}

/// A report of this boot that is not the one that was there before.
async fn new_heartbeat(
    platform: &Platform,
    device_id: &DeviceId,
    before: Option<&AgentStatus>,
    boot_id: &str,
    bound: Duration,
) -> Result<AgentStatus, ExecutorError> {
    let is_new = |status: &AgentStatus| {
        status.boot_id == boot_id
            && before.is_none_or(|old| {
                (&old.boot_id, old.sequence) != (&status.boot_id, status.sequence)
            })
    };
    let heartbeat = platform
        .wait_for_status(device_id, "a heartbeat", bound, is_new)
        .await?;
    Ok(heartbeat)
}

/// Whether a step of the last score changed something.
fn changed(performed: &[Performance], step: &str) -> bool {
    let last = performed.last();
    last.is_some_and(|p| p.outcome.details.contains(&format!("{step}: changed")))
}

fn last_message(performed: &[Performance]) -> String {
    performed
        .last()
        .map(|p| p.outcome.message.clone())
        .unwrap_or_default()
}

pub(crate) async fn log_in(
    name: &str,
    address: &GuestAddress,
    keys: &SshKeyPair,
    bound: Duration,
) -> Result<SshLinuxHost, ExecutorError> {
    let host_key = address
        .host_key
        .as_deref()
        .ok_or_else(|| SetupError::NoHostKey {
            name: name.to_string(),
        })?;
    let guest = SshLinuxHost::new(SshTarget {
        address: address.ip,
        port: address.ssh_port,
        user: LOGIN_USER.to_owned(),
        private_key: keys.private_key_path.clone(),
        host_key: host_key.parse()?,
        connect_timeout: CONNECT_TIMEOUT,
        command_timeout: COMMAND_TIMEOUT,
    })?;
    guest.wait_reachable(bound).await?;
    Ok(guest)
}
