//! What is printed on standard output.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::iot::boot::BootParts;
use harmony::modules::iot::virtual_device::{ReadyDevice, Stage, VirtualDevice};
use harmony::modules::kvm::preview::Preview;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_contracts::AgentStatus;
use serde::Serialize;

use crate::error::SetupError;

/// The device that is there now.
#[derive(Debug, Serialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) architecture: VmArchitecture,
    pub(crate) connect: &'static str,
    pub(crate) image: PathBuf,
    pub(crate) ssh: SshLogin,
    pub(crate) console_log: PathBuf,
    pub(crate) nvram: PathBuf,
    /// Whether it was made from a checkpoint in this run.
    pub(crate) forked: bool,
    /// Whether packages had to be installed in the guest: with a recipe's image, none is.
    pub(crate) packages_installed: bool,
    pub(crate) default_gateway: Option<String>,
    pub(crate) stages: Vec<Stage>,
    /// Empty when it did not boot in this run.
    pub(crate) boot: BootParts,
    pub(crate) heartbeat: AgentStatus,
}

/// How to log in.
#[derive(Debug, Serialize)]
pub(crate) struct SshLogin {
    pub(crate) user: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) private_key: PathBuf,
    pub(crate) host_key: String,
    pub(crate) known_hosts: PathBuf,
}

impl Device {
    /// The device that was asked for and is ready.
    pub(crate) fn new(
        host: &KvmVirtualMachineHost,
        device: &VirtualDevice,
        ready: ReadyDevice,
    ) -> Result<Self, ExecutorError> {
        let spec = &device.spec;
        let first_boot = spec.first_boot.as_ref();
        Ok(Self {
            architecture: spec.architecture,
            connect: host.uri().as_str(),
            image: spec.image.clone().unwrap_or_default(),
            ssh: SshLogin {
                user: first_boot
                    .map(|first| first.user.clone())
                    .unwrap_or_default(),
                address: ready.address.ip.to_string(),
                port: ready.address.ssh_port,
                private_key: device.keys.private_key_path.clone(),
                host_key: ready.address.host_key.unwrap_or_default(),
                known_hosts: host.known_hosts(&ready.name)?,
            },
            console_log: host.console_log(&ready.name)?,
            nvram: host.nvram(&ready.name)?,
            forked: ready.forked,
            packages_installed: ready.packages_installed,
            default_gateway: ready
                .facts
                .default_gateway
                .map(|gateway| gateway.to_string()),
            stages: ready.stages,
            boot: ready.boot,
            heartbeat: ready.heartbeat,
            name: ready.name,
        })
    }

    /// The device as people read it.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for stage in &self.stages {
            text.push_str(&format!(
                "{:<10} {:>6.1} s  {}\n",
                stage.name, stage.seconds, stage.outcome
            ));
        }
        if !self.boot.as_slice().is_empty() {
            text.push_str(&format!("\nits boot: began, took\n{}", self.boot));
        }
        let SshLogin {
            user,
            address,
            port,
            private_key,
            known_hosts,
            ..
        } = &self.ssh;
        text.push_str(&format!(
            "\ndevice {} runs agent {} on {} (boot {})\nlog in:  ssh -p {port} -i {} -o UserKnownHostsFile={} {user}@{address}\nconsole: {}\n",
            self.name,
            self.heartbeat.agent_version,
            self.heartbeat.architecture,
            self.heartbeat.boot_id,
            private_key.display(),
            known_hosts.display(),
            self.console_log.display(),
        ));
        text
    }
}

/// Every knob with its reason, the machine's conformance, and every firmware that was not taken.
pub(crate) fn explanation(preview: &Preview) -> String {
    let mut text = preview.decisions.to_string();
    if let Some(report) = &preview.conformance {
        text.push_str(&format!("\nconformance:\n{report}\n"));
    }
    if !preview.firmware_rejected.is_empty() {
        text.push_str("\nfirmware that was not taken:\n");
    }
    for rejected in &preview.firmware_rejected {
        text.push_str(&format!("  {rejected}\n"));
    }
    text
}

/// Prints data.
pub(crate) fn print(text: &str) -> Result<ExitCode, ExecutorError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(SetupError::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value as JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<ExitCode, ExecutorError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| SetupError::Output(std::io::Error::other(e)))?;
    print(&format!("{text}\n"))
}
