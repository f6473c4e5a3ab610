//! From nothing to a heartbeat.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harmony::domain::error::{ErrorKind, ExecutorError, HintedError};
use harmony::domain::inventory::Inventory;
use harmony::domain::maestro::Maestro;
use harmony::domain::topology::linux_host::LinuxHost;
use harmony::domain::topology::virtualization::{
    FirstBoot, GuestAddress, OnChange, VirtualMachineHost, VirtualMachineSpec, VmArchitecture,
    VmNetwork, while_running,
};
use harmony::modules::host::HostFacts;
use harmony::modules::image::ImageSource;
use harmony::modules::iot::assets::{self, ImageOrigin, ResolvedImage};
use harmony::modules::iot::device::{ProvisionIotAgentScore, check_agent_binary, names_loopback};
use harmony::modules::iot::platform::Platform;
use harmony::modules::iot::preflight::{PreflightOptions, run_preflight, run_preflight_on};
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::preview::{Preview, preview};
use harmony::modules::kvm::score::ProvisionVmScore;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::kvm::{VmConfig, VmName};
use harmony::modules::ssh::{SshKeyPair, SshLinuxHost, SshTarget, ensure_key_pair};
use harmony_image::bars::progress;
use iot_contracts::{AgentConfig, AgentStatus, DeviceId, NatsConfig, NatsCredentials, NatsUrls};
use tracing::info;

use crate::args::Args;
use crate::inspect;
use crate::output::{Device, SshLogin, Stage, explanation, print, print_json};
use crate::warm;

/// The user that cloud-init makes in the guest.
const LOGIN_USER: &str = "harmony";

/// How long one attempt to log in may take; an emulated guest needs seconds for the key exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one command in the guest may take: installing packages under emulation is the longest.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);

/// What can be wrong with the request itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The agent's binary is not where it is looked for.
    #[error("there is no agent for {architecture} at {}", join(looked_at))]
    NoAgent {
        architecture: VmArchitecture,
        looked_at: Vec<PathBuf>,
    },
    /// A loopback address that a guest on a bridge cannot reach.
    #[error("'{address}' is this host's loopback, which a guest on a bridge cannot reach")]
    LoopbackOnBridge { address: String },
    /// A file with credentials cannot be used.
    #[error("the credentials in {} cannot be used: {reason}", path.display())]
    Credentials { path: PathBuf, reason: String },
    /// A file with a host's facts cannot be used.
    #[error("the facts in {} cannot be used: {reason}", path.display())]
    Facts { path: PathBuf, reason: String },
    /// A value does not fit the agent's configuration.
    #[error("the agent's configuration is not valid")]
    Config(#[source] iot_contracts::ContractError),
    /// The VM has no pinned host key.
    #[error("the VM '{name}' has no pinned SSH host key")]
    NoHostKey { name: String },
    /// Standard output could not be written.
    #[error("the result could not be printed")]
    Output(#[source] std::io::Error),
}

fn join(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(", ")
}

impl HintedError for SetupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoAgent { .. }
            | Self::LoopbackOnBridge { .. }
            | Self::Credentials { .. }
            | Self::Facts { .. }
            | Self::Config(_) => ErrorKind::InvalidRequest,
            Self::NoHostKey { .. } | Self::Output(_) => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoAgent { architecture, .. } => Some(format!(
                "build it with 'iot/scripts/build-agent.sh --arch {architecture}', or name it with --agent-binary"
            )),
            Self::LoopbackOnBridge { .. } => Some(
                "give the host's address on the bridge's network, and have the server listen there"
                    .to_owned(),
            ),
            Self::Credentials { .. } => Some(
                "expected TOML: type = \"user-password\", username, password; or type = \"token\", token"
                    .to_owned(),
            ),
            Self::Facts { .. } => Some(
                "make it on that host with this version: example_iot_vm_setup --print-facts --json"
                    .to_owned(),
            ),
            Self::NoHostKey { name } => Some(format!("make it anew: --name {name} --replace")),
            Self::Config(_) | Self::Output(_) => None,
        }
    }
}

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
        let preview = host.preview(&planned_spec(args, &name, &data_dir)?).await?;
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
) -> Result<VirtualMachineSpec, ExecutorError> {
    let image = assets::planned_image_path(&args.image, args.arch, &images_dir(data_dir))?;
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
    let preview = preview(&planned_spec(args, name, data_dir)?, &facts)?;
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

fn spec(args: &Args, name: &VmName, image: PathBuf, keys: &SshKeyPair) -> VirtualMachineSpec {
    VirtualMachineSpec {
        name: name.to_string(),
        architecture: args.arch,
        vcpus: args.vcpus,
        memory_mib: args.memory_mib,
        memory_overcommit: args.memory_overcommit,
        disk_gib: args.disk_gib,
        image: Some(image),
        networks: args.network.iter().cloned().map(Into::into).collect(),
        accelerator: args.accel,
        cpu: args.cpu.clone(),
        firmware: args.firmware,
        machine: args.machine.clone(),
        first_boot: Some(FirstBoot {
            user: LOGIN_USER.to_owned(),
            authorized_keys: vec![keys.public_key_line.clone()],
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
    VmConfig::try_from(&planned_spec(args, name, data_dir)?)?;
    run_preflight_on(&preflight_options(args, data_dir), &host)
        .await
        .into_result()?;
    let platform = Platform::connect(&config.nats.urls, config.nats.credentials.as_ref()).await?;
    if args.reset_nvram {
        host.reset_nvram(name.as_str()).await?;
    }
    stages.end("preflight", "this host can run the device");

    let image = image(args, name, &host, &images_dir).await?;
    stages.end(
        "image",
        format!("{} ({})", image.path.display(), image.origin),
    );

    let keys = ensure_key_pair(&keys_dir(data_dir), "id_ed25519")?;
    let inventory = Inventory::new(data_dir);
    let spec = spec(args, name, image.path.clone(), &keys);
    let forked = warm::start(args, &host, &spec, &agent_binary, &keys, &mut stages).await?;
    let host = if forked {
        host
    } else {
        provision_vm(args, &inventory, host, spec, &mut stages).await?
    };

    let bound = host.boot_timeout(name.as_str()).await?;
    let address = host.wait_for_address(name.as_str(), bound).await?;
    let log_in = log_in(name.as_str(), &address, &keys, bound);
    let guest = while_running(&host, name.as_str(), "a login over SSH", log_in).await?;
    let facts = guest.facts().await?;
    stages.end("boot", format!("SSH answers on a {} guest", facts.machine));

    let before = platform.status(&config.device_id).await?;
    let mut maestro = Maestro::new(inventory, guest);
    maestro.register(Box::new(ProvisionIotAgentScore {
        config: config.clone(),
        agent_binary,
        architecture: args.arch,
        insecure_registries: args.insecure_registry.clone(),
        installed: forked,
    }));
    let run = maestro.run();
    let performed = while_running(&host, name.as_str(), "the agent's installation", run).await?;
    stages.end("agent", last_message(&performed));

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
        default_gateway: facts.default_gateway.map(|gateway| gateway.to_string()),
        stages: stages.done,
        heartbeat,
    })
}

/// The image. A device that is there keeps the one it was made from: what `auto` means changes with time.
async fn image(
    args: &Args,
    name: &VmName,
    host: &KvmVirtualMachineHost,
    images_dir: &Path,
) -> Result<ResolvedImage, ExecutorError> {
    if args.image == ImageSource::Auto && !args.replace {
        let recorded = host.recorded_spec(name.as_str()).await?;
        if let Some(path) = recorded.and_then(|spec| spec.image) {
            return Ok(ResolvedImage {
                path,
                origin: ImageOrigin::Recorded,
            });
        }
    }
    let progress = progress(false, std::io::stderr().is_terminal());
    assets::ensure_image_with(&args.image, args.arch, images_dir, &*progress).await
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

fn last_message(performed: &[harmony::domain::maestro::Performance]) -> String {
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

/// Where iot/scripts/build-agent.sh may have put the agent: cargo's directory is its own with `--target`, and
/// one below that for Debian's compiler.
fn built_agents(architecture: VmArchitecture) -> Vec<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = PathBuf::from(target);
    let triple = format!("{architecture}-unknown-linux-gnu");
    [
        (VmArchitecture::of_host() == Some(architecture)).then(|| target.clone()),
        Some(target.join(&triple)),
        Some(target.join("cross").join(&triple)),
    ]
    .into_iter()
    .flatten()
    .map(|dir| dir.join("agent/iot-agent-v0"))
    .collect()
}

/// The agent's binary, checked to be one for the device.
fn agent_binary(args: &Args) -> Result<PathBuf, ExecutorError> {
    let candidates = match &args.agent_binary {
        Some(path) => vec![path.clone()],
        None => built_agents(args.arch),
    };
    let Some(path) = candidates.iter().find(|path| path.is_file()) else {
        return Err(SetupError::NoAgent {
            architecture: args.arch,
            looked_at: candidates,
        }
        .into());
    };
    check_agent_binary(path, args.arch)?;
    Ok(path.clone())
}

fn agent_config(args: &Args, name: &VmName) -> Result<AgentConfig, ExecutorError> {
    let credentials = args
        .nats_credentials
        .as_deref()
        .map(read_credentials)
        .transpose()?;
    let device_id: DeviceId = name.hostname().parse().map_err(SetupError::Config)?;
    let urls = NatsUrls::try_from(args.nats_url.clone()).map_err(SetupError::Config)?;
    Ok(AgentConfig {
        device_id,
        heartbeat_seconds: Default::default(),
        nats: NatsConfig { urls, credentials },
        podman: Default::default(),
    })
}

/// With user networking the guest's gateway leads to this host's loopback, on a NAT network to the bridge's
/// address; on a bridge of the host's own network it is some router.
fn check_reach(args: &Args) -> Result<(), SetupError> {
    if !matches!(args.network.first(), Some(VmNetwork::Bridge { .. })) {
        return Ok(());
    }
    let urls = args.nats_url.iter().map(|url| url.as_str());
    let hosts = urls.chain(args.insecure_registry.iter().map(String::as_str));
    for address in hosts {
        if names_loopback(address) {
            return Err(SetupError::LoopbackOnBridge {
                address: address.to_owned(),
            });
        }
    }
    Ok(())
}

fn read_credentials(path: &Path) -> Result<NatsCredentials, SetupError> {
    let failed = |reason: String| SetupError::Credentials {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    // The parser's message quotes the line, which may hold a secret: only its position is passed on.
    toml::from_str(&text).map_err(|e| failed(format!("at bytes {:?}", e.span())))
}
