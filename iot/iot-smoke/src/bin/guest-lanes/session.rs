//! One lane's guest: made, logged in to, powered on again.

use std::path::PathBuf;
use std::time::Instant;

use harmony::domain::topology::linux_host::{HostCommand, LinuxHost};
use harmony::domain::topology::virtualization::{
    MachineIdentity, OnChange, VirtualMachineHost, VirtualMachineSpec,
};
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::guest::{Guest, Login};
use tracing::info;

use crate::facts::GuestFacts;
use crate::lane::Lane;
use crate::table::Row;

/// Waits, in the guest, until the card whose interface is `$1` has an IPv4 address, and prints it.
const CARD_ADDRESS: &str = r#"
/lib/systemd/systemd-networkd-wait-online --ipv4 --interface="$1" --timeout=60 || exit 1
ip -4 -o address show dev "$1" scope global | sed -n 's/.* inet \([0-9.]*\).*/\1/p'
"#;

/// A lane that runs.
pub(crate) struct Session<'a> {
    pub(crate) lane: Lane,
    pub(crate) host: &'a KvmVirtualMachineHost,
    pub(crate) name: String,
    pub(crate) private_key: PathBuf,
    pub(crate) rows: Vec<Row>,
    pub(crate) stages: Vec<(&'static str, f64)>,
    since: Instant,
}

impl<'a> Session<'a> {
    pub(crate) fn new(lane: Lane, host: &'a KvmVirtualMachineHost, private_key: PathBuf) -> Self {
        Self {
            lane,
            host,
            name: lane.vm_name(),
            private_key,
            rows: Vec::new(),
            stages: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Notes what took the time since the stage before.
    pub(crate) fn end_stage(&mut self, name: &'static str) {
        let seconds = self.since.elapsed().as_secs_f64();
        info!(
            lane = self.lane.as_str(),
            stage = name,
            seconds = format!("{seconds:.1}"),
            "done"
        );
        self.stages.push((name, seconds));
        self.since = Instant::now();
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Makes the virtual machine, logs in, and waits until its first boot is over.
    pub(crate) async fn bring_up(&self, spec: &VirtualMachineSpec) -> Result<Guest, Failure> {
        self.host.ensure_vm(spec, OnChange::Replace).await?;
        let guest = self.log_in().await?;
        guest.host().wait_first_boot().await?;
        Ok(guest)
    }

    /// Waits until the guest answers, and logs in.
    pub(crate) async fn log_in(&self) -> Result<Guest, Failure> {
        let bound = self.host.boot_timeout(&self.name).await?;
        let address = self.host.wait_for_address(&self.name, bound).await?;
        Guest::log_in(&Login::at(address, &self.private_key)?).await
    }

    pub(crate) async fn identity(&self) -> Result<MachineIdentity, Failure> {
        Ok(self.host.identity(&self.name).await?)
    }

    /// The IPv4 address of the card with this Ethernet address, awaited; or why there is none.
    pub(crate) async fn card_address(
        &self,
        guest: &Guest,
        facts: &GuestFacts,
        mac: &str,
    ) -> Result<String, Failure> {
        let Some(interface) = facts.of("card", mac) else {
            return Ok(format!("no card {mac}"));
        };
        let command = HostCommand::new("sh").args(["-c", CARD_ADDRESS, "card-address", interface]);
        let output = guest.run(&command.as_root()).await?;
        let found = output.stdout.trim();
        Ok(if found.is_empty() {
            format!("none within 60 s ({})", output.stderr.trim())
        } else {
            found.to_owned()
        })
    }
}
