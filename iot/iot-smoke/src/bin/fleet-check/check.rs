//! The check, step by step.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use harmony::domain::topology::virtualization::{VirtualMachineHost, VmNetwork};
use harmony::modules::iot::platform::Platform;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_contracts::{AgentStatus, DeploymentName, DeviceId};
use iot_smoke::deployment::{as_guest_sees, connect, one_service, report_of_running, runs};
use iot_smoke::example::{self, Device};
use iot_smoke::guest::Guest;
use iot_smoke::identity::{Identity, all_distinct};
use iot_smoke::options::Surroundings;
use iot_smoke::server::start_nats;
use iot_smoke::{Failure, expect, registry};
use tempfile::TempDir;
use tracing::info;

use crate::Args;

/// How long the agent may take to pull the image and start the container, when many are emulated at once.
const CONTAINER_TIMEOUT: Duration = Duration::from_secs(600);

/// How many devices are looked at, or boot, at a time.
const AT_ONCE: usize = 2;

/// A device, and who it was when it was made.
struct Member {
    device: Device,
    id: DeviceId,
    deployment: DeploymentName,
    identity: Identity,
}

/// What every step needs.
struct Setting<'a> {
    host: &'a KvmVirtualMachineHost,
    platform: Platform,
    registry_address: String,
}

pub(crate) async fn check(args: &Args, host: &KvmVirtualMachineHost) -> Result<String, Failure> {
    let listen = args.device.listen;
    let dir = TempDir::with_prefix("harmony-fleet-")?;
    let nats = start_nats(dir.path(), listen).await?;
    nats.takes_no_plain_text().await?;
    let registry = registry::start(dir.path(), listen).await?;
    let built = args.device.programs().await?;
    registry::push(
        &registry,
        "fleet/workload",
        args.device.arch,
        &built.workload,
    )
    .await?;
    let setting = Setting {
        host,
        platform: connect(&nats.registry, &nats.url).await?,
        registry_address: registry.address.to_string(),
    };
    let mut report = Report::default();

    let mut command = args.device.example();
    command.args(["--warm", "--count", &args.count.to_string()]);
    Surroundings::new(built.agent, &nats, setting.registry_address.clone()).tell(&mut command);
    let devices = example::devices(&mut command).await?;
    let made = devices.len().to_string();
    expect("the devices made", &made, &args.count.to_string())?;
    report.end("made, and seen in NATS");

    // With user networking every guest has this host's.
    let has_addresses = !matches!(args.device.network, VmNetwork::User { .. });
    let members = each(devices, |device| setting.meet(device)).await?;
    all_distinct(&identities(&members), has_addresses)?;
    report.end("all distinct, from inside and in NATS");
    let members = each(members, |member| setting.give_container(member, args)).await?;
    report.end("each runs its own container");
    let members = each(members, |member| setting.cut_power(member)).await?;
    all_distinct(&identities(&members), has_addresses)?;
    report.end("each is who it was after a power cut, with its container");

    registry.stop().await?;
    nats.stop().await?;
    Ok(report.text(&members))
}

/// One step for all of them, some at a time; the first failure ends it.
async fn each<I, O, F: Future<Output = Result<O, Failure>>>(
    members: Vec<I>,
    step: impl Fn(I) -> F,
) -> Result<Vec<O>, Failure> {
    stream::iter(members.into_iter().map(step))
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

fn identities(members: &[Member]) -> Vec<Identity> {
    members.iter().map(|m| m.identity.clone()).collect()
}

impl Setting<'_> {
    /// Logs in and asks who it is; NATS has to know it by the same name.
    async fn meet(&self, device: Device) -> Result<Member, Failure> {
        expect("made from a checkpoint", &device.forked.to_string(), "true")?;
        let guest = Guest::log_in(&device.ssh).await?;
        let identity = Identity::of(&guest).await?;
        guest.examine_nats().await?;
        expect("the host name", &identity.host_name, &device.name)?;
        let host_key = device.ssh.host_key.split(' ').nth(1).unwrap_or_default();
        expect("the SSH host key", &identity.host_key, host_key)?;
        let machine = self.host.identity(&device.name).await?;
        let macs: Vec<String> = machine.macs.iter().map(ToString::to_string).collect();
        expect("the address", &identity.ethernet_address, &macs.join(" "))?;
        let id: DeviceId = identity.host_name.parse()?;
        let reported = self.platform.status(&id).await?;
        let reported = reported.ok_or_else(|| format!("{id} has not reported"))?;
        expect("the boot", &reported.boot_id, &identity.boot_id)?;
        info!(device = %id, machine_id = identity.machine_id, "met");
        Ok(Member {
            deployment: format!("of-{id}").parse()?,
            device,
            id,
            identity,
        })
    }

    /// Asks for a container that no other device has.
    async fn give_container(&self, member: Member, args: &Args) -> Result<Member, Failure> {
        let gateway = member.device.default_gateway.as_deref();
        let registry = as_guest_sees(&self.registry_address, gateway)?;
        let score = one_service(&format!("{registry}/fleet/workload:1"))?;
        let Member { id, deployment, .. } = &member;
        self.platform.put_score(id, deployment, &score).await?;
        self.status(&member, "its container", CONTAINER_TIMEOUT, |status| {
            runs(status, deployment) && status.deployments.len() == 1
        })
        .await?;
        let guest = Guest::log_in(&member.device.ssh).await?;
        let expected = format!("smoke-workload runs on {}", args.device.arch);
        guest.wait_for_container_log(&expected).await?;
        info!(device = %member.id, "runs its container");
        Ok(member)
    }

    /// Cuts the power, and compares who comes back.
    async fn cut_power(&self, member: Member) -> Result<Member, Failure> {
        let name = &member.device.name;
        self.host.power_cycle_vm(name).await?;
        let bound = self.host.boot_timeout(name).await?;
        let before = &member.identity;
        let booted = |status: &AgentStatus| {
            status.boot_id != before.boot_id && runs(status, &member.deployment)
        };
        let awaited = "a report of another boot, with its container";
        self.status(&member, awaited, bound, booted).await?;
        let guest = Guest::log_in(&member.device.ssh).await?;
        let now = Identity::of(&guest).await?;
        for ((what, was), (_, is)) in before.lasting().into_iter().zip(now.lasting()) {
            expect(&format!("{name}: {what} after a power cut"), is, was)?;
        }
        guest.wait_for_running_container(CONTAINER_TIMEOUT).await?;
        info!(device = %member.id, boot = now.boot_id, "came back");
        Ok(Member {
            identity: now,
            ..member
        })
    }

    async fn status(
        &self,
        member: &Member,
        awaited: &'static str,
        bound: Duration,
        condition: impl Fn(&AgentStatus) -> bool,
    ) -> Result<AgentStatus, Failure> {
        let (vm, platform) = (&member.device.name, &self.platform);
        report_of_running(
            self.host, vm, platform, &member.id, awaited, bound, condition,
        )
        .await
    }
}

/// What held, and how long each step took.
struct Report {
    since: Instant,
    steps: Vec<(f64, &'static str)>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            steps: Vec::new(),
        }
    }
}

impl Report {
    fn end(&mut self, what: &'static str) {
        let seconds = self.since.elapsed().as_secs_f64();
        info!(seconds = format!("{seconds:.1}"), "{what}");
        self.steps.push((seconds, what));
        self.since = Instant::now();
    }

    fn text(&self, members: &[Member]) -> String {
        let mut text = String::new();
        for member in members {
            let Identity {
                host_name,
                machine_id,
                ethernet_address,
                boot_id,
                ..
            } = &member.identity;
            text.push_str(&format!(
                "{host_name:<24} {machine_id} {ethernet_address} boot {boot_id}\n"
            ));
        }
        for (seconds, what) in &self.steps {
            text.push_str(&format!("{seconds:>8.1} s  {what}\n"));
        }
        text
    }
}
