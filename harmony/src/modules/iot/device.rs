//! Makes a Linux host an IoT device: the agent and its user, Podman and the containers' user, the configuration.
//!
//! ```text
//! checks of the binary and the documents    nothing touched
//!   -> first boot has ended -> architecture -> packages -> the agent's user
//!   -> the containers' user, lingering -> its Podman's socket -> registries -> binary, configuration, unit -> service
//! ```
//! Each step brings one thing to its declared state, so that a run that failed half-way is repeated as
//! a whole. The service is restarted when something that it reads was changed, in this run or in an
//! earlier one that did not get as far as the restart: a stamp on the host says what the service was
//! last started with.

mod binary;
mod documents;
mod error;
mod files;
mod identity;
mod release;
mod server_ca;
mod taken;
mod user;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use iot_contracts::AgentConfig;
use tracing::info;

use crate::domain::error::ExecutorError;
use crate::domain::interpret::{Change, Interpret, Outcome};
use crate::domain::inventory::Inventory;
use crate::domain::score::Score;
use crate::domain::topology::linux_host::{HostCommand, HostFile, HostUnit, LinuxFacts, LinuxHost};
use crate::domain::topology::virtualization::VmArchitecture;

pub use documents::{guest_view_of_nats_urls, guest_view_of_registries, names_loopback};
pub use error::DeviceError;
pub use identity::{AGENT_KEY, AGENT_TOKEN, own_key, public_key, put_token};
pub use release::released_program;
pub use server_ca::{NATS_CA, RELEASES_CA, ServerCa, ServerCaError};

use files::{
    Own, REGISTRIES_FILE, UNIT_CONTENT, hex, is_read_by_agent, is_stamped, program_file, root_file,
    unit_file,
};
use identity::{IDENTITY_CONTENT, identity_file};
use taken::warn_of_what_is_taken;
use user::{PODMAN_CONTENTS, agent_user, containers_user, ensure_podman_socket, run_podman_once};

/// The user that the agent runs as on a device. Its group may read the agent's configuration.
pub const AGENT_USER: &str = "iot-agent-v0";
/// The home of the agent's user, which is its state directory.
pub const AGENT_HOME: &str = "/var/lib/iot-agent-v0";
/// The user whose rootless Podman runs the containers. It has the name that it had when it ran the agent as well: on a
/// device that was set up then, containers, images and volumes stay what and where they are.
pub const CONTAINERS_USER: &str = "iot-agent";
/// Where Podman keeps images and containers.
pub const CONTAINERS_HOME: &str = "/var/lib/iot-agent";
/// The agent's program on a device.
pub const AGENT_BINARY: &str = "/usr/local/bin/iot-agent-v0";
/// The agent's configuration on a device.
pub const AGENT_CONFIG: &str = "/etc/iot-agent/config.toml";
/// The agent's systemd unit.
pub const AGENT_UNIT: &str = "iot-agent.service";

/// What an [`Outcome`]'s details call the packages' step: it changes nothing on a device whose image has them.
pub const PACKAGES_STEP: &str = "packages";

/// What rootless Podman needs on Debian and Ubuntu; Podman itself only recommends most of it.
const PACKAGES: [&str; 6] = [
    "podman",
    "crun",
    "uidmap",
    "slirp4netns",
    "catatonit",
    "dbus-user-session",
];

/// A Linux host should run the IoT agent.
#[derive(Debug, Clone)]
pub struct ProvisionIotAgentScore {
    /// The agent's configuration. NATS URLs that name this machine's loopback are rewritten, see
    /// [`guest_view_of_nats_urls`], and plain text to the device's default gateway is allowed. It is all that the device
    /// has: keys of `update` and `operator` that the device had and that are not in it are taken away, with a warning.
    pub config: AgentConfig,
    /// The authority that the device believes `tls://` servers by: it is put on it as [`NATS_CA`], and the configuration
    /// names that file. Without it the configuration is as given.
    pub nats_ca: Option<ServerCa>,
    /// The authority that the device believes the servers of releases by: it is put on it as [`RELEASES_CA`], and
    /// `update.ca` of the configuration names that file. Without it the configuration is as given.
    pub releases_ca: Option<ServerCa>,
    /// The agent's program on this machine.
    pub agent_binary: PathBuf,
    /// The device's instruction set.
    pub architecture: VmArchitecture,
    /// Registries that the device's Podman may use without TLS, as `HOST[:PORT][/PATH]`; a loopback
    /// host is rewritten like those of the NATS URLs.
    pub insecure_registries: Vec<String>,
}

/// A Linux host should have all that the IoT agent needs, and the agent, which waits for a configuration: what devices
/// have in common.
#[derive(Debug, Clone)]
pub struct InstallIotAgentScore {
    /// The agent's program on this machine.
    pub agent_binary: PathBuf,
    /// The device's instruction set.
    pub architecture: VmArchitecture,
}

impl InstallIotAgentScore {
    /// A digest of everything that it installs, in hexadecimal digits: what belongs into the key of a checkpoint.
    ///
    /// # Errors
    /// [`DeviceError`] for a program that cannot be read or is for another architecture.
    pub async fn digest(&self) -> Result<String, DeviceError> {
        let program = read_program(&self.agent_binary, self.architecture).await?;
        let users = [AGENT_USER, AGENT_HOME, CONTAINERS_USER, CONTAINERS_HOME];
        let names = [&PACKAGES[..], &users].concat();
        let text = format!("{names:?} {UNIT_CONTENT} {IDENTITY_CONTENT} {PODMAN_CONTENTS:?}");
        Ok(hex(&[&program, text.as_bytes()]))
    }
}

impl<T: LinuxHost> Score<T> for InstallIotAgentScore {
    fn name(&self) -> String {
        "InstallIotAgent".to_owned()
    }

    fn create_interpret(&self) -> Box<dyn Interpret<T>> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl<T: LinuxHost> Interpret<T> for InstallIotAgentScore {
    async fn execute(&self, _: &Inventory, host: &T) -> Result<Outcome, ExecutorError> {
        let program = read_program(&self.agent_binary, self.architecture).await?;
        host.wait_first_boot().await?;
        let facts = host.facts().await?;
        check_machine(&facts, self.architecture, &host.name())?;
        let mut steps = Steps::default();
        install(host, &mut steps).await?;
        run_podman_once(host).await?;
        let registries = root_file(REGISTRIES_FILE, documents::registries(&[])?, 0o644);
        let files = [
            program_file(program),
            unit_file(),
            registries,
            identity_file(),
        ];
        let read = steps.files(host, &files).await?;
        steps.unit(host, read).await?;
        steps.settle(host).await?;
        Ok(steps.outcome("what devices have in common is installed".to_owned()))
    }
}

impl<T: LinuxHost> Score<T> for ProvisionIotAgentScore {
    fn name(&self) -> String {
        format!("ProvisionIotAgent({})", self.config.device_id)
    }

    fn create_interpret(&self) -> Box<dyn Interpret<T>> {
        Box::new(ProvisionIotAgent {
            score: self.clone(),
        })
    }
}

struct ProvisionIotAgent {
    score: ProvisionIotAgentScore,
}

#[async_trait]
impl<T: LinuxHost> Interpret<T> for ProvisionIotAgent {
    async fn execute(&self, _: &Inventory, host: &T) -> Result<Outcome, ExecutorError> {
        let score = &self.score;
        let program = score.check().await?;
        host.wait_first_boot().await?;
        let facts = host.facts().await?;
        score.bring_about(host, &facts, program).await
    }
}

impl ProvisionIotAgentScore {
    /// Everything that can be wrong on this side, and the agent's program.
    async fn check(&self) -> Result<Vec<u8>, DeviceError> {
        // Checks each text; what a loopback becomes is only known from the host.
        guest_view_of_registries(&self.insecure_registries, Some(Ipv4Addr::UNSPECIFIED))?;
        read_program(&self.agent_binary, self.architecture).await
    }

    /// What the score does, for a host whose facts are known.
    ///
    /// # Errors
    /// Whatever is wrong with the score, or the host's refusal.
    pub async fn apply<T: LinuxHost>(
        &self,
        host: &T,
        facts: &LinuxFacts,
    ) -> Result<Outcome, ExecutorError> {
        let program = self.check().await?;
        host.wait_first_boot().await?;
        self.bring_about(host, facts, program).await
    }

    async fn bring_about<T: LinuxHost>(
        &self,
        host: &T,
        facts: &LinuxFacts,
        program: Vec<u8>,
    ) -> Result<Outcome, ExecutorError> {
        let own = Own::of(self, facts, &host.name(), program)?;
        let mut steps = Steps::default();
        install(host, &mut steps).await?;
        let is_stamped = is_stamped(host, &own.stamp).await?;
        let taken = warn_of_what_is_taken(host, &self.config.device_id, &own.config).await?;
        steps.details.extend(taken);
        let mut files = vec![own.program, own.unit, own.registries];
        files.extend(own.nats_ca);
        files.extend(own.releases_ca);
        files.push(own.config);
        let mut read = steps.files(host, &files).await?;
        if !is_stamped {
            read = Change::Changed;
        }
        steps.unit(host, read).await?;
        host.ensure_files(&[own.stamp]).await?;
        steps.settle(host).await?;
        Ok(steps.outcome(format!("device {} runs the agent", self.config.device_id)))
    }

    /// The same for a host that was just made from a checkpoint on which [`InstallIotAgentScore`] was run with the same
    /// program: the agent runs, and waits for its configuration.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub async fn complete<T: LinuxHost>(
        &self,
        host: &T,
        facts: &LinuxFacts,
    ) -> Result<Outcome, ExecutorError> {
        let program = self.check().await?;
        let own = Own::of(self, facts, &host.name(), program)?;
        let mut steps = Steps::default();
        // What is installed names no registry.
        let registries = Some(own.registries).filter(|_| !self.insecure_registries.is_empty());
        let mut files: Vec<HostFile> = registries.into_iter().collect();
        files.push(own.stamp);
        files.extend(own.nats_ca);
        files.extend(own.releases_ca);
        // It comes last: the agent takes it up at once, and what it names.
        files.push(own.config);
        steps.files(host, &files).await?;
        steps.settle(host).await?;
        Ok(steps.outcome(format!("device {} runs the agent", self.config.device_id)))
    }
}

/// Packages, users and Podman.
async fn install<T: LinuxHost>(host: &T, steps: &mut Steps) -> Result<(), ExecutorError> {
    steps.done(PACKAGES_STEP, host.ensure_packages(&PACKAGES).await?);
    for user in [agent_user(), containers_user()] {
        let step = format!("user {}", user.name);
        steps.done(&step, host.ensure_user(&user).await?);
    }
    let socket = ensure_podman_socket(host).await?;
    steps.done("Podman's socket for the agent", socket);
    Ok(())
}

/// What was done so far.
struct Steps {
    change: Change,
    details: Vec<String>,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            change: Change::Unchanged,
            details: Vec::new(),
        }
    }
}

impl Steps {
    fn done(&mut self, step: &str, change: Change) {
        let word = match change {
            Change::Unchanged => "unchanged",
            Change::Changed => "changed",
        };
        info!(step, change = word, "provisioned");
        self.details.push(format!("{step}: {word}"));
        self.change = self.change.or(change);
    }

    /// Small files go in one command. Returns whether one was changed that the agent's service reads.
    async fn files<T: LinuxHost>(
        &mut self,
        host: &T,
        files: &[HostFile],
    ) -> Result<Change, ExecutorError> {
        let changes = host.ensure_files(files).await?;
        let mut read = Change::Unchanged;
        for (file, change) in files.iter().zip(changes) {
            self.done(&file.path, change);
            if is_read_by_agent(file) {
                read = read.or(change);
            }
        }
        Ok(read)
    }

    /// The agent runs, and with what it reads now.
    async fn unit<T: LinuxHost>(&mut self, host: &T, read: Change) -> Result<(), ExecutorError> {
        let service = HostUnit {
            name: AGENT_UNIT.to_owned(),
            restart: read == Change::Changed,
        };
        self.done(AGENT_UNIT, host.ensure_unit(&service).await?);
        Ok(())
    }

    fn outcome(self, message: String) -> Outcome {
        Outcome {
            change: self.change,
            message,
            details: self.details,
        }
    }

    /// What was just installed survives a power cut from here on.
    async fn settle<T: LinuxHost>(&self, host: &T) -> Result<(), ExecutorError> {
        if self.change == Change::Changed {
            let sync = HostCommand::new("sync").as_root();
            run(host, "write the disks' caches", sync).await?;
        }
        Ok(())
    }
}

/// Checks that a file can be the agent of a device of this architecture.
///
/// # Errors
/// When it cannot be read, is no program, or one for another architecture.
pub fn check_agent_binary(path: &Path, architecture: VmArchitecture) -> Result<(), DeviceError> {
    binary::checked(path, std::fs::read(path), architecture).map(drop)
}

async fn read_program(path: &Path, architecture: VmArchitecture) -> Result<Vec<u8>, DeviceError> {
    binary::checked(path, tokio::fs::read(path).await, architecture)
}

fn check_machine(
    facts: &LinuxFacts,
    expected: VmArchitecture,
    host: &str,
) -> Result<(), DeviceError> {
    if facts.machine == expected.as_str() {
        return Ok(());
    }
    Err(DeviceError::HostArchitecture {
        host: host.to_owned(),
        found: facts.machine.clone(),
        expected,
    })
}

/// Runs a command that has to succeed, and returns its standard output.
async fn run<T: LinuxHost>(
    host: &T,
    action: &'static str,
    command: HostCommand,
) -> Result<String, ExecutorError> {
    let output = host.run(&command, &[]).await?;
    if output.status == 0 {
        return Ok(output.stdout);
    }
    Err(DeviceError::Command {
        action,
        status: output.status,
        stderr: output.stderr.trim().to_owned(),
    }
    .into())
}

#[cfg(test)]
#[path = "device/tests.rs"]
mod tests;
