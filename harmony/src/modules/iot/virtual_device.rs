//! A virtual device, from nothing to a heartbeat.
//!
//! ```text
//! warm, and not there yet? --> fork of a checkpoint --> agent, through the guest's agent --+
//!          |no, or it cannot be                                                            v
//!          +------------------> boot --> SSH ---------> agent, over SSH -------------> heartbeat
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use iot_contracts::{AgentConfig, AgentStatus, DeviceId, NatsCredentials};
use serde::Serialize;
use tracing::{Instrument, info, info_span};

use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
use crate::domain::interpret::{Change, Interpret, Outcome};
use crate::domain::inventory::Inventory;
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{LinuxFacts, LinuxHost};
use crate::domain::topology::virtualization::{
    ConsoleLog, GuestAddress, OnChange, VirtualMachineHost, VirtualMachineSpec, VmStatus,
    while_running,
};
use crate::modules::kvm::KvmError;
use crate::modules::kvm::score::ProvisionVmScore;
use crate::modules::kvm::topology::KvmVirtualMachineHost;
use crate::modules::ssh::{SshKeyPair, SshLinuxHost};

use super::boot::{BootParts, WatchedBoot};
use super::device::{
    InstallIotAgentScore, PACKAGES_STEP, ProvisionIotAgentScore, ServerCa, guest_view_of_nats_urls,
    public_key, put_token,
};
use super::login::Login;
use super::platform::{KnownBy, Platform};
use super::warm::{Start, fork_device};

/// A virtual IoT device that should exist and report.
#[derive(Debug, Clone)]
pub struct VirtualDevice {
    /// Its machine, with a first boot that lets `keys` log in.
    pub spec: VirtualMachineSpec,
    /// What to do when a machine of that name exists and differs.
    pub on_change: OnChange,
    /// Whether a device that is not there yet may go on from a checkpoint, which is made when there is none.
    pub warm: bool,
    /// Whether a device that is there is put back to its checkpoint first, see [`VirtualMachineHost::reset`].
    pub reset: bool,
    /// The agent's configuration, see [`ProvisionIotAgentScore::config`].
    pub agent: AgentConfig,
    /// How the server comes to know a device with a key of its own ([`own_key`](super::device::own_key)). Without it,
    /// whoever runs the server tells it.
    pub known_by: Option<KnownBy>,
    /// As [`ProvisionIotAgentScore::nats_ca`]. Without it, where the server knows devices by a registry and is reached by
    /// `tls://`, it is the registry's, and the server's certificate is made to name what the guest calls the server.
    pub nats_ca: Option<ServerCa>,
    /// As [`ProvisionIotAgentScore::releases_ca`].
    pub releases_ca: Option<ServerCa>,
    /// The agent's program on this machine.
    pub agent_binary: PathBuf,
    /// As [`ProvisionIotAgentScore::insecure_registries`].
    pub insecure_registries: Vec<String>,
    /// What harmony logs in with.
    pub keys: SshKeyPair,
}

/// A device whose agent has reported.
#[derive(Debug, Clone)]
pub struct ReadyDevice {
    /// The machine's name.
    pub name: String,
    /// Where its SSH answers.
    pub address: GuestAddress,
    /// What the guest says of itself.
    pub facts: LinuxFacts,
    /// Whether anything had to be done.
    pub change: Change,
    /// Whether it was made from a checkpoint in this run.
    pub forked: bool,
    /// Whether packages had to be installed in the guest: with a recipe's image, none is.
    pub packages_installed: bool,
    /// How it came about.
    pub stages: Vec<Stage>,
    /// Where the time of its boot went; empty when it did not boot in this run.
    pub boot: BootParts,
    /// The report.
    pub heartbeat: AgentStatus,
}

impl ReadyDevice {
    /// One line for people: how long each stage took.
    pub fn summary(&self) -> String {
        let total: f64 = self.stages.iter().map(|stage| stage.seconds).sum();
        let stages = self.stages.iter();
        let stages = stages.map(|stage| format!("{} {:.1}", stage.name, stage.seconds));
        let stages: Vec<String> = stages.collect();
        format!(
            "{}: ready in {total:.1} s ({})",
            self.name,
            stages.join(", ")
        )
    }
}

/// How one stage went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// What was done.
    pub name: &'static str,
    /// What came of it.
    pub outcome: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Times the stages of a run.
#[derive(Debug)]
pub struct Stages {
    done: Vec<Stage>,
    since: Instant,
}

impl Default for Stages {
    /// The first stage begins.
    fn default() -> Self {
        Self {
            done: Vec::new(),
            since: Instant::now(),
        }
    }
}

impl Stages {
    /// Ends the stage that began when the one before ended.
    pub fn end(&mut self, name: &'static str, outcome: impl Into<String>) {
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

    /// All of them.
    pub fn into_done(self) -> Vec<Stage> {
        self.done
    }
}

/// The device goes back to something else than what is asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the checkpoint of '{name}' has another agent, emulator or library version than what is there now"
)]
pub struct OtherCheckpoint {
    /// The machine.
    pub name: String,
}

impl HintedError for OtherCheckpoint {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Conflict
    }

    fn hint(&self) -> Option<String> {
        Some("destroy it and make it anew (--destroy)".to_owned())
    }
}

/// Brings a device about and waits for its report. Running it again changes nothing.
///
/// # Errors
/// Whatever keeps the machine from running or the agent from reporting. What is there then is completed by the
/// next run.
pub async fn bring_up(
    host: &KvmVirtualMachineHost,
    platform: &Platform,
    inventory: &Inventory,
    device: &VirtualDevice,
    stages: Stages,
) -> Result<ReadyDevice, ExecutorError> {
    let span = info_span!("device", name = %device.spec.name);
    let ready = bring_up_in_span(host, platform, inventory, device, stages);
    ready.instrument(span).await
}

async fn bring_up_in_span(
    host: &KvmVirtualMachineHost,
    platform: &Platform,
    inventory: &Inventory,
    device: &VirtualDevice,
    mut stages: Stages,
) -> Result<ReadyDevice, ExecutorError> {
    let name = device.spec.name.as_str();
    let run = Run {
        host,
        platform,
        device,
        login: Login::of(&device.spec, &device.keys)?,
    };
    let forked = run.fork(&mut stages).await?;
    let mut change = Change::Changed;
    let mut boot = None;
    if !forked {
        let machine = ProvisionVmScore {
            spec: device.spec.clone(),
            on_change: device.on_change,
        };
        let outcome = Interpret::execute(&machine, inventory, host).await?;
        change = outcome.change;
        if change == Change::Changed {
            boot = Some(WatchedBoot::begin(run.console_log()?));
        }
        stages.end("vm", outcome.message);
    }
    let bound = host.boot_timeout(name).await?;
    let id = &device.agent.device_id;
    let before = platform.status(id).await?;
    let guest = if forked {
        run.configure_fork(bound).await?
    } else {
        run.configure_booted(bound, &mut stages).await?
    };
    let packages_installed = guest.packages_installed();
    let packages = if packages_installed {
        "packages were installed in it"
    } else {
        "no package had to be installed in it"
    };
    stages.end("agent", format!("{}; {packages}", guest.outcome.message));

    let heartbeat = new_heartbeat(platform, id, before.as_ref(), &guest.facts.boot_id, bound);
    let heartbeat = while_running(host, name, "a heartbeat", heartbeat).await?;
    stages.end(
        "heartbeat",
        format!("report {} of this boot", heartbeat.sequence),
    );
    let boot = match (boot, &guest.session) {
        (Some(boot), Some(session)) => boot.end(session).await,
        _ => BootParts::default(),
    };
    Ok(ReadyDevice {
        name: name.to_owned(),
        boot,
        address: guest.address,
        facts: guest.facts,
        change: change.or(guest.outcome.change),
        forked,
        packages_installed,
        stages: stages.into_done(),
        heartbeat,
    })
}

/// What is waited for while a guest becomes a device.
const INSTALLATION: &str = "the agent's installation";

struct Run<'a> {
    host: &'a KvmVirtualMachineHost,
    platform: &'a Platform,
    device: &'a VirtualDevice,
    login: Login,
}

/// A guest that has its agent.
struct Configured {
    address: GuestAddress,
    facts: LinuxFacts,
    outcome: Outcome,
    /// The way to it, when it was reached over SSH.
    session: Option<SshLinuxHost>,
}

impl Configured {
    fn packages_installed(&self) -> bool {
        let line = format!("{PACKAGES_STEP}: changed");
        self.outcome.details.contains(&line)
    }
}

impl Run<'_> {
    fn name(&self) -> &str {
        &self.device.spec.name
    }

    fn console_log(&self) -> Result<PathBuf, ExecutorError> {
        match &self.device.spec.console {
            ConsoleLog::File { path } => Ok(path.clone()),
            ConsoleLog::Managed | ConsoleLog::Discarded => self.host.console_log(self.name()),
        }
    }

    /// Makes the device from a checkpoint and returns true, or leaves it to be booted.
    async fn fork(&self, stages: &mut Stages) -> Result<bool, ExecutorError> {
        let Self { host, device, .. } = self;
        let install = InstallIotAgentScore {
            agent_binary: device.agent_binary.clone(),
            architecture: device.spec.architecture,
        };
        let is_there = host.vm_status(self.name()).await? != VmStatus::Absent;
        if is_there && device.reset {
            self.reset(&install).await?;
            stages.end("reset", "back to its checkpoint");
            return Ok(true);
        }
        if is_there || !device.warm {
            return Ok(false);
        }
        match fork_device(host, &device.spec, &install, &self.login).await? {
            Start::Forked { key, made } => {
                let made = if made { ", made just now" } else { "" };
                stages.end("fork", format!("from checkpoint {}{made}", key.short()));
                Ok(true)
            }
            Start::Boot { reason } => {
                info!(reason, "the device boots");
                Ok(false)
            }
        }
    }

    /// Puts a device that is there back, when its checkpoint is the one that it would be made from now.
    async fn reset(&self, install: &InstallIotAgentScore) -> Result<(), ExecutorError> {
        let Self { host, device, .. } = self;
        let changes = host.changes(&device.spec).await?;
        if !changes.is_empty() {
            let name = self.name().to_owned();
            return Err(KvmError::Changed { name, changes }.into());
        }
        let content = install.digest().await?;
        let wanted = host.checkpoint_key(&device.spec, &content).await?;
        let found = host.checkpoint_of(self.name()).await?;
        if found.is_some_and(|found| found != wanted) {
            return Err(OtherCheckpoint {
                name: self.name().to_owned(),
            }
            .into());
        }
        host.reset(self.name()).await
    }

    /// Through the guest's agent, which answers already; meanwhile the SSH server is waited for.
    async fn configure_fork(&self, bound: Duration) -> Result<Configured, ExecutorError> {
        let guest = self.host.guest(self.name()).await?;
        let ready = guest.ensure_ready();
        while_running(self.host, self.name(), "the guest's network", ready).await?;
        let facts = guest.facts().await?;
        let configured = async {
            let agent = self.agent(&facts).await?;
            let outcome = agent.complete(&guest, &facts).await?;
            self.enrol(&guest).await?;
            Ok(outcome)
        };
        let configured = while_running(self.host, self.name(), INSTALLATION, configured);
        let address = self.host.wait_for_address(self.name(), bound);
        let (outcome, address) = tokio::try_join!(configured, address)?;
        Ok(Configured {
            address,
            facts,
            outcome,
            session: None,
        })
    }

    async fn configure_booted(
        &self,
        bound: Duration,
        stages: &mut Stages,
    ) -> Result<Configured, ExecutorError> {
        let address = self.host.wait_for_address(self.name(), bound).await?;
        let guest = self.login.open(self.host, self.name(), &address);
        let guest = while_running(self.host, self.name(), "a login over SSH", guest).await?;
        stages.end("boot", "a login over SSH works");
        guest.ensure_ready().await?;
        let facts = guest.facts().await?;
        let configured = async {
            let agent = self.agent(&facts).await?;
            let outcome = agent.apply(&guest, &facts).await?;
            self.enrol(&guest).await?;
            Ok(outcome)
        };
        let outcome = while_running(self.host, self.name(), INSTALLATION, configured).await?;
        Ok(Configured {
            address,
            facts,
            outcome,
            session: Some(guest),
        })
    }

    /// Makes a device with a key of its own known to NATS, and the key that it had before unknown.
    async fn enrol<T: LinuxHost>(&self, guest: &T) -> Result<(), ExecutorError> {
        let agent = &self.device.agent;
        if !matches!(agent.nats.credentials, Some(NatsCredentials::Nkey { .. })) {
            return Ok(());
        }
        let key = public_key(guest).await?;
        let id = &agent.device_id;
        match &self.device.known_by {
            Some(KnownBy::Registry(registry)) => {
                let before = registry.devices()?.remove(id);
                registry.add(id, &key)?;
                if let Some(before) = before.filter(|before| *before != key) {
                    self.platform.withdraw(&before).await?;
                }
            }
            Some(KnownBy::Token(tokens)) => {
                put_token(guest, &tokens.token(id, &key, None)?).await?;
            }
            None => {}
        }
        self.platform.enrol(id, &key).await?;
        Ok(())
    }

    /// The authority that this guest believes the server by. A registry's server is then certain to show a certificate for
    /// the host by which the guest calls it.
    async fn nats_ca(&self, facts: &LinuxFacts) -> Result<Option<ServerCa>, ExecutorError> {
        let (device, nats) = (self.device, &self.device.agent.nats);
        let named = nats.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let is_given = device.nats_ca.is_some() || named.is_some();
        let registry = match &device.known_by {
            Some(KnownBy::Registry(registry)) if nats.urls.are_tls() && !is_given => registry,
            _ => return Ok(device.nats_ca.clone()),
        };
        let seen = guest_view_of_nats_urls(&nats.urls, facts.default_gateway)?;
        let hosts = seen.as_slice().iter().map(|url| url.host());
        let servers: Vec<_> = nats.urls.as_slice().iter().zip(hosts).collect();
        registry.certify(&servers).await?;
        Ok(Some(ServerCa::read(&registry.ca_file())?))
    }

    /// What makes a guest with these facts the device.
    async fn agent(&self, facts: &LinuxFacts) -> Result<ProvisionIotAgentScore, ExecutorError> {
        Ok(ProvisionIotAgentScore {
            config: self.device.agent.clone(),
            nats_ca: self.nats_ca(facts).await?,
            releases_ca: self.device.releases_ca.clone(),
            agent_binary: self.device.agent_binary.clone(),
            architecture: self.device.spec.architecture,
            insecure_registries: self.device.insecure_registries.clone(),
        })
    }
}

/// A report of this boot that is not the one that was there before.
async fn new_heartbeat(
    platform: &Platform,
    device_id: &DeviceId,
    before: Option<&AgentStatus>,
    boot_id: &str,
    bound: Duration,
) -> Result<AgentStatus, ExecutorError> {
    // A device that was made anew from the same checkpoint counts the same boot's reports from 1 on.
    let which = |status: &AgentStatus| {
        let boot = status.boot_id.clone();
        (boot, status.sequence, status.timestamp_unix_ms)
    };
    let is_new = |status: &AgentStatus| {
        status.boot_id == boot_id && before.is_none_or(|old| which(old) != which(status))
    };
    let heartbeat = platform
        .wait_for_status(device_id, "a heartbeat", bound, is_new)
        .await?;
    Ok(heartbeat)
}
