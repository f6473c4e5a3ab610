//! The five phases.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harmony::domain::topology::virtualization::{VirtualMachineHost, VmArchitecture};
use harmony::modules::iot::assets;
use harmony::modules::iot::platform::Platform;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_contracts::{AgentStatus, DeploymentName, DeviceId};
use iot_smoke::deployment::{as_guest_sees, connect, one_service, report_of_running, runs};
use iot_smoke::example::{self, Device};
use iot_smoke::guest::Guest;
use iot_smoke::options::Surroundings;
use iot_smoke::server::{NatsServer, Server, start_nats};
use iot_smoke::{Failure, expect, registry};
use tempfile::TempDir;
use tokio::process::Command;
use tracing::info;

use crate::args::Args;
use crate::{confinement, evidence, reset};

/// The deployment that the smoke asks for.
const DEPLOYMENT: &str = "smoke";

/// How long the agent may take to pull the image and start the container, also when emulated.
const CONTAINER_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the guest may take to shut down, also when emulated.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(180);

/// The smoke, and all that it has started so far.
pub(crate) struct Smoke {
    pub(crate) args: Args,
    pub(crate) data_dir: PathBuf,
    pub(crate) host: Option<KvmVirtualMachineHost>,
    pub(crate) device: Option<Device>,
    /// The working directory of the servers; removed with this.
    dir: TempDir,
    nats: Option<NatsServer>,
    registry: Option<Server>,
    timings: Vec<(String, f64)>,
    findings: Vec<String>,
}

impl Smoke {
    pub(crate) fn new(args: Args) -> Result<Self, Failure> {
        Ok(Self {
            data_dir: assets::data_dir()?,
            dir: TempDir::with_prefix("harmony-smoke-")?,
            args,
            host: None,
            device: None,
            nats: None,
            registry: None,
            timings: Vec::new(),
            findings: Vec::new(),
        })
    }

    pub(crate) async fn run(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.phase_1().await?;
        let start = self.end_phase("1 preflight, NATS, registry", start);

        let programs = self.args.device.programs();
        let (built, ()) = tokio::try_join!(programs, self.prepare_image())?;
        let program = &built.workload;
        let registry = self.registry.as_ref().ok_or("no registry")?;
        registry::push(registry, "smoke/workload", self.args.device.arch, program).await?;
        let nats = self.nats.as_ref().ok_or("no NATS server")?;
        let setting = Surroundings::new(built.agent, nats, registry.address.to_string());
        let start = self.end_phase("2 agent, workload and image", start);

        self.phase_3(&setting).await?;
        let start = self.end_phase("3 VM with agent", start);

        let platform = connect(&setting.nats_registry, &setting.nats_url).await?;
        let first = self.phase_4(&platform, &setting.registry_address).await?;
        let start = self.end_phase("4 heartbeat, container", start);

        self.phase_5(&platform, &first).await?;
        let start = self.end_phase("5 power cycle", start);
        if self.args.warm {
            let finding = reset::phase_6(self, &setting).await?;
            self.found(finding);
            self.end_phase("6 back to the checkpoint", start);
        }
        Ok(())
    }

    fn end_phase(&mut self, name: &str, start: Instant) -> Instant {
        let seconds = start.elapsed().as_secs_f64();
        info!(phase = name, seconds = format!("{seconds:.1}"), "done");
        self.timings.push((name.to_owned(), seconds));
        Instant::now()
    }

    fn found(&mut self, finding: String) {
        info!("{finding}");
        self.findings.push(finding);
    }

    /// The command of the example with what both its uses share.
    fn example(&self) -> Command {
        let mut command = self.args.device.example();
        command
            .args(["--accel", &self.args.accel])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        command
    }

    /// Has the example bring the image to this host: it takes one core and minutes, while a compiler runs.
    async fn prepare_image(&self) -> Result<(), Failure> {
        let mut command = self.example();
        command.args(self.args.image_options()).arg("--image-only");
        let status = command.stdout(Stdio::null()).status().await?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the image cannot be had: {status}").into())
        }
    }

    async fn phase_1(&mut self) -> Result<(), Failure> {
        let status = self.example().arg("--preflight").status().await?;
        if !status.success() {
            return Err("the preflight failed".into());
        }
        let nats = start_nats(self.dir.path(), self.args.device.listen).await?;
        nats.takes_no_plain_text().await?;
        self.nats = Some(nats);
        let registry = registry::start(self.dir.path(), self.args.device.listen).await?;
        self.registry = Some(registry);
        Ok(())
    }

    /// Has the example set the device up.
    pub(crate) async fn set_up(
        &self,
        setting: &Surroundings,
        options: &[&str],
    ) -> Result<Device, Failure> {
        let mut command = self.example();
        command.args(self.args.image_options()).args(options);
        setting.tell(&mut command);
        let devices = example::devices(&mut command).await?;
        let device = devices.into_iter().next();
        Ok(device.ok_or("the example made no device")?)
    }

    async fn phase_3(&mut self, setting: &Surroundings) -> Result<(), Failure> {
        let uri = ConnectionUri::choose(self.args.device.connect).await?;
        self.host = Some(KvmVirtualMachineHost::new(uri, &self.data_dir));
        let way = if self.args.warm { "--warm" } else { "--cold" };
        let device = self.set_up(setting, &[way]).await?;
        for stage in &device.stages {
            self.timings
                .push((format!("  {}", stage.name), stage.seconds));
        }
        let image = device.image.display().to_string();
        let (installed, forked) = (device.packages_installed, device.forked);
        self.device = Some(device);
        self.found(format!("image: {image}"));
        self.found(format!("packages installed in the guest: {installed}"));
        // A warm device that cannot be had is booted: here that is a failure.
        let warm = self.args.warm.to_string();
        expect("made from a checkpoint", &forked.to_string(), &warm)?;
        if self.args.has_recipe() {
            let installed = installed.to_string();
            expect(
                "packages installed in a recipe's guest",
                &installed,
                "false",
            )?;
        }
        Ok(())
    }

    async fn phase_4(
        &mut self,
        platform: &Platform,
        registry_address: &str,
    ) -> Result<AgentStatus, Failure> {
        let device = self.device.clone().ok_or("no device")?;
        let bound = CONTAINER_TIMEOUT;
        let heartbeat = self
            .status(platform, "a heartbeat", bound, |_| true)
            .await?;
        expect(
            "the agent's architecture",
            &heartbeat.architecture,
            &self.args.device.arch.to_string(),
        )?;
        let guest = Guest::log_in(&device.ssh).await?;
        for finding in evidence::examine(&guest, &device, self.args.device.arch).await? {
            self.found(finding);
        }
        self.found(confinement::examine(&guest).await?);
        self.found(guest.examine_nats().await?);
        if self.args.has_built_in_recipe() {
            self.found(evidence::examine_set_up(&guest).await?);
        }
        let image = format!(
            "{}/smoke/workload:1",
            as_guest_sees(registry_address, device.default_gateway.as_deref())?
        );
        let score = one_service(&image)?;
        platform
            .put_score(&self.device_id()?, &deployment()?, &score)
            .await?;
        let name = deployment()?;
        let running = |status: &AgentStatus| runs(status, &name);
        self.status(platform, "the container", bound, running)
            .await?;
        let expected = format!("smoke-workload runs on {}", self.args.device.arch);
        guest.wait_for_container_log(&expected).await?;
        self.found(format!("container: {expected}"));
        Ok(heartbeat)
    }

    async fn phase_5(&mut self, platform: &Platform, first: &AgentStatus) -> Result<(), Failure> {
        let host = self.host.as_ref().ok_or("no host")?;
        let bound = host.boot_timeout(&self.args.device.name).await?;
        host.power_cycle_vm(&self.args.device.name).await?;
        let (device_id, name) = (self.device_id()?, deployment()?);
        let awaited = "a newer heartbeat of another boot, with the container running";
        let second = |status: &AgentStatus| {
            status.boot_id != first.boot_id
                && status.timestamp_unix_ms > first.timestamp_unix_ms
                && runs(status, &name)
        };
        let second = self.status(platform, awaited, bound, second).await?;
        let device = self.device.clone().ok_or("no device")?;
        let guest = Guest::log_in(&device.ssh).await?;
        guest.wait_for_running_container(CONTAINER_TIMEOUT).await?;
        let booted = match device.forked {
            true => evidence::examine_boot(&guest, &device, self.args.device.arch).await?,
            false => Vec::new(),
        };
        platform.delete_score(&device_id, &name).await?;
        let gone = |status: &AgentStatus| {
            status.boot_id == second.boot_id && !status.deployments.contains_key(&name)
        };
        self.status(platform, "the container's end", CONTAINER_TIMEOUT, gone)
            .await?;
        expect(
            "the containers left",
            &guest.containers().await?.len().to_string(),
            "0",
        )?;
        if self.args.warm {
            reset::use_it(&guest).await?;
        }
        drop(guest);
        host.stop_vm(&self.args.device.name, SHUTDOWN_TIMEOUT)
            .await?;
        expect_off(host, &self.args.device.name).await?;
        for finding in booted {
            self.found(finding);
        }
        self.found(format!(
            "boot {} -> {}, then off by its own shutdown",
            first.boot_id, second.boot_id
        ));
        Ok(())
    }

    /// A report of the device that fulfils the condition, unless its VM stops before.
    async fn status(
        &self,
        platform: &Platform,
        awaited: &'static str,
        bound: Duration,
        condition: impl Fn(&AgentStatus) -> bool,
    ) -> Result<AgentStatus, Failure> {
        let host = self.host.as_ref().ok_or("no host")?;
        let device_id = self.device_id()?;
        let vm = &self.args.device.name;
        report_of_running(host, vm, platform, &device_id, awaited, bound, condition).await
    }

    fn device_id(&self) -> Result<DeviceId, Failure> {
        let name: harmony::modules::kvm::VmName = self.args.device.name.parse()?;
        Ok(name.hostname().parse()?)
    }

    /// The verdict, with a time for each phase.
    pub(crate) fn summary(&self, verdict: &str) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&format!("{finding}\n"));
        }
        for (name, seconds) in &self.timings {
            text.push_str(&format!("{seconds:>8.1} s  {name}\n"));
        }
        let total: f64 = self
            .timings
            .iter()
            .filter(|(name, _)| !name.starts_with(' '))
            .map(|(_, seconds)| seconds)
            .sum();
        text.push_str(&format!("{total:>8.1} s  in all\n"));
        text.push_str(&format!("{verdict}: smoke-a3 {}\n", self.args.device.arch));
        text
    }

    /// Removes what the run made.
    pub(crate) async fn clean_up(&mut self) -> Result<(), Failure> {
        if let Some(host) = &self.host {
            host.destroy_vm(&self.args.device.name).await?;
        }
        if let Some(nats) = self.nats.take() {
            nats.stop().await?;
        }
        if let Some(registry) = self.registry.take() {
            registry.stop().await?;
        }
        Ok(())
    }
}

async fn expect_off(host: &KvmVirtualMachineHost, name: &str) -> Result<(), Failure> {
    let status = host.vm_status(name).await?;
    expect(
        "the VM's state after its shutdown",
        &status.to_string(),
        "off",
    )
}

fn deployment() -> Result<DeploymentName, Failure> {
    Ok(DEPLOYMENT.parse()?)
}

/// The ELF machine number of an architecture, as hexadecimal digits.
pub(crate) fn elf_machine(architecture: VmArchitecture) -> &'static str {
    match architecture {
        VmArchitecture::X86_64 => "003e",
        VmArchitecture::Aarch64 => "00b7",
    }
}
