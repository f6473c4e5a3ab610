//! The device, and everything that is wanted of it.

use std::collections::BTreeMap;
use std::time::Duration;

use harmony::domain::topology::linux_host::HostCommand;
use harmony::domain::topology::virtualization::VirtualMachineHost;
use harmony::modules::iot::device::{AGENT_CONFIG, AGENT_UNIT};
use harmony::modules::iot::platform::Platform;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_contracts::{AgentConfig, AgentStatus, DeploymentName, DeviceId, Hex, UpdateConfig};
use iot_smoke::deployment::report_of_running;
use iot_smoke::example::Device;
use iot_smoke::guest::Guest;
use iot_smoke::identity::Identity;
use iot_smoke::{Failure, expect};
use tokio::time::Instant;
use tracing::info;

use crate::images::score;
use crate::judge::{Desired, Fault, Wanted, judge};
use crate::look::Found;
use crate::power;
use crate::releases::{Releases, sha256};

/// Within what time the device is as it should be, from the moment at which it is asked to or its power is back. An emulated
/// boot takes one or two minutes of it; what failed once is tried again after one.
pub(crate) const BOUND: Duration = Duration::from_secs(600);

/// How often it reports, in seconds: each report is a reason to look.
const HEARTBEAT: i64 = 5;

/// Where the certificate that vouches for the server of releases is put.
const RELEASES_CA: &str = "/etc/iot-agent/releases-ca.pem";

/// Writes `$2` to the file `$1` and `$4` to `$3`, which keep their owners and modes, and starts the unit `$5` anew.
const CONFIGURE: &str = r#"set -eu
umask 022
printf '%s' "$2" >"$1"
printf '%s' "$4" >"$3"
sync
systemctl restart "$5"
"#;

/// How long it took until everything was as it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Until the device said so.
    pub(crate) to_report: Duration,
    /// Until a look from inside had found it so.
    pub(crate) to_look: Duration,
}

/// The device.
pub(crate) struct Bench<'a> {
    pub(crate) host: &'a KvmVirtualMachineHost,
    pub(crate) platform: &'a Platform,
    pub(crate) device: &'a Device,
    pub(crate) id: DeviceId,
    pub(crate) wanted: Wanted,
    guest: Option<Guest>,
    identity: Identity,
}

impl<'a> Bench<'a> {
    /// Meets a new device, whose agent is the program with the digest `installed`.
    ///
    /// # Errors
    /// When it does not let us in.
    pub(crate) async fn meet(
        host: &'a KvmVirtualMachineHost,
        platform: &'a Platform,
        device: &'a Device,
        installed: Hex<32>,
    ) -> Result<Self, Failure> {
        let guest = Guest::log_in(&device.ssh).await?;
        let cache = HostCommand::new("sh").args(["-c", "cat /sys/block/vda/queue/write_cache"]);
        let cache = guest.output(cache).await?;
        expect(
            "the disk's cache as the guest knows it",
            cache.trim(),
            "write back",
        )?;
        let identity = Identity::of(&guest).await?;
        let failed_units = Found::on(&guest).await?.failed_units;
        if !failed_units.is_empty() {
            info!(?failed_units, "failed before the first cut");
        }
        Ok(Self {
            host,
            platform,
            device,
            id: identity.host_name.parse()?,
            wanted: Wanted {
                deployments: BTreeMap::new(),
                program: installed,
                before: None,
                installed,
                is_updated: false,
                failed_units,
            },
            guest: Some(guest),
            identity,
        })
    }

    /// Has it take updates of its agent, and report often.
    ///
    /// # Errors
    /// When its configuration is not as it was written.
    pub(crate) async fn take_updates_of(&mut self, releases: &Releases) -> Result<(), Failure> {
        let guest = self.guest().await?;
        let read = HostCommand::new("cat").arg(AGENT_CONFIG).as_root();
        let mut config: AgentConfig = toml::from_str(&guest.output(read).await?)?;
        config.heartbeat_seconds = HEARTBEAT.try_into()?;
        config.update = Some(UpdateConfig {
            keys: vec![releases.key().clone()],
            ca: Some(RELEASES_CA.into()),
            prove_within_seconds: Default::default(),
        });
        let config = toml::to_string(&config)?;
        let script = HostCommand::new("sh").args(["-c", CONFIGURE, "configure"]);
        let script = script.args([AGENT_CONFIG, &config, RELEASES_CA, &releases.certificate]);
        guest.output(script.arg(AGENT_UNIT).as_root()).await?;
        Ok(())
    }

    /// Asks for a deployment of one container.
    pub(crate) async fn put(
        &mut self,
        name: &DeploymentName,
        image: &str,
        change: usize,
    ) -> Result<(), Failure> {
        let score = score(image, change)?;
        let desired = Desired {
            image: image.to_owned(),
            change,
            digest: format!("sha256:{}", sha256(&serde_json::to_vec(&score)?)),
        };
        self.platform.put_score(&self.id, name, &score).await?;
        self.wanted.deployments.insert(name.clone(), desired);
        Ok(())
    }

    /// Has it no longer run a deployment, and waits until it does not.
    pub(crate) async fn remove(&mut self, name: &DeploymentName) -> Result<(), Failure> {
        if self.wanted.deployments.remove(name).is_some() {
            self.platform.delete_score(&self.id, name).await?;
            self.converge(Instant::now()).await?;
        }
        Ok(())
    }

    /// Cuts its power and gives it back; the moment at which it was back.
    pub(crate) async fn cut_power(&mut self) -> Result<Instant, Failure> {
        self.guest = None;
        let name = &self.device.name;
        power::cut(self.host, name).await?;
        self.host.start_vm(name).await?;
        Ok(Instant::now())
    }

    /// Waits until a boot that is not the last one, and everything is as it should be; how long that took.
    pub(crate) async fn come_back(&mut self, since: Instant) -> Result<Duration, Failure> {
        let before = self.identity.clone();
        let taken = self
            .converge_where(since, |status| status.boot_id != before.boot_id)
            .await?;
        let now = Identity::of(self.guest().await?).await?;
        for ((what, was), (_, is)) in before.lasting().into_iter().zip(now.lasting()) {
            expect(&format!("{what} after a power cut"), is, was)?;
        }
        self.identity = now;
        Ok(taken.to_look)
    }

    /// Waits until everything is as it should be; how long that took.
    pub(crate) async fn converge(&mut self, since: Instant) -> Result<Taken, Failure> {
        self.converge_where(since, |_| true).await
    }

    /// A look follows each report that says that all is done.
    async fn converge_where(
        &mut self,
        since: Instant,
        counts: impl Fn(&AgentStatus) -> bool,
    ) -> Result<Taken, Failure> {
        let deadline = since + BOUND;
        let mut faults: Vec<Fault> = Vec::new();
        let mut last_look = 0;
        loop {
            let wanted = &self.wanted;
            let is_news = |status: &AgentStatus| {
                counts(status) && status.timestamp_unix_ms > last_look && wanted.is_reported(status)
            };
            let awaited = "a report that all is as it should be";
            let bound = deadline.saturating_duration_since(Instant::now());
            let reported = self.status(awaited, bound, is_news).await;
            let reported = reported.map_err(|error| with_faults(error, &faults))?;
            let to_report = since.elapsed();
            last_look = reported.timestamp_unix_ms;
            let found = Found::on(self.guest().await?).await?;
            let now = judge(&found, &self.wanted);
            if now.is_empty() {
                self.wanted.has_converged();
                let to_look = since.elapsed();
                return Ok(Taken { to_report, to_look });
            }
            if now != faults {
                info!("not yet: {}", in_words(&now));
                faults = now;
            }
            if faults.iter().any(|fault| fault.is_final) {
                return Err(with_faults("it is as it must never be".into(), &faults));
            }
            if Instant::now() >= deadline {
                let bound = BOUND.as_secs();
                let late = format!("it is not as it should be within {bound} s");
                return Err(with_faults(late.into(), &faults));
            }
        }
    }

    /// A report that fulfils a condition, unless the VM stops before.
    pub(crate) async fn status(
        &self,
        awaited: &'static str,
        bound: Duration,
        condition: impl Fn(&AgentStatus) -> bool,
    ) -> Result<AgentStatus, Failure> {
        let (vm, platform) = (&self.device.name, self.platform);
        report_of_running(self.host, vm, platform, &self.id, awaited, bound, condition).await
    }

    /// The device from inside.
    pub(crate) async fn guest(&mut self) -> Result<&Guest, Failure> {
        let guest = match self.guest.take() {
            Some(guest) => guest,
            None => Guest::log_in(&self.device.ssh).await?,
        };
        Ok(self.guest.insert(guest))
    }
}

fn with_faults(error: Failure, faults: &[Fault]) -> Failure {
    if faults.is_empty() {
        return error;
    }
    let error = harmony::domain::error::error_chain(error.as_ref());
    format!("{error}; at the last look: {}", in_words(faults)).into()
}

fn in_words(faults: &[Fault]) -> String {
    let faults: Vec<_> = faults.iter().map(|fault| fault.what.as_str()).collect();
    faults.join("; ")
}
