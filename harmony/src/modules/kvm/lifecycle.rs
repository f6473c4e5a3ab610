//! What happens to a VM of this host between its making and its end. The callers hold the VM's lock.

use std::time::Duration;

use harmony_base::lock::PassingLock;
use harmony_base::wait::{self, Look};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::domain::topology::virtualization::VmStatus;
use crate::modules::host::HostFacts;

use super::connection::ConnectionUri;
use super::error::KvmError;
use super::firmware_selection::UefiFirmware;
use super::hotplug::Running;
use super::layout::{Layout, make_private_dir};
use super::libvirt::Libvirt;
use super::nvram::replace_nvram;
use super::params::Firmware;
use super::preview::machine_conformance;
use super::record::DomainRecord;
use super::recorded_firmware::check_recorded_firmware;
use super::topology::{KvmVirtualMachineHost, checked};
use super::types::{VmConfig, VmName};

/// How often a state that libvirt does not announce to us is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// What libvirt calls the states of a guest that is on and cannot go on by itself.
const STOPPED_FOR_GOOD: [&str; 4] = ["IOError", "Watchdog", "Crashed", "Unknown"];

/// How often it is looked whether a VM still runs while something else is awaited.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A running guest that is being plugged, locked.
pub(super) struct Plugging {
    _lock: PassingLock,
    libvirt: Libvirt,
    name: VmName,
    record: DomainRecord,
    facts: HostFacts,
    layout: Layout,
}

impl Plugging {
    pub(super) fn running(&self) -> Running<'_> {
        Running {
            libvirt: &self.libvirt,
            name: &self.name,
            record: &self.record,
            facts: &self.facts,
            files: &self.layout.files,
        }
    }
}

impl KvmVirtualMachineHost {
    /// The record of harmony's domain of that name, if there is one.
    pub(super) async fn recorded(&self, name: &VmName) -> Result<Option<DomainRecord>, KvmError> {
        let Some(view) = self.libvirt().await?.view(name.as_str()).await? else {
            return Ok(None);
        };
        let taken = || KvmError::NameTaken {
            name: name.to_string(),
        };
        let metadata = view.metadata.ok_or_else(taken)?;
        let record = DomainRecord::from_metadata(&metadata).map_err(|source| KvmError::Record {
            name: name.to_string(),
            source: Box::new(source),
        })?;
        // A clone or a renamed domain carries our metadata along, but is somebody else's doing.
        if record.uuid != view.uuid || record.spec.name != name.as_str() {
            return Err(taken());
        }
        Ok(Some(record))
    }

    pub(super) async fn existing(&self, name: &VmName) -> Result<DomainRecord, KvmError> {
        self.recorded(name)
            .await?
            .ok_or_else(|| KvmError::NotFound {
                name: name.to_string(),
            })
    }

    pub(super) async fn status(&self, name: &VmName) -> Result<VmStatus, KvmError> {
        let view = self.libvirt().await?.view(name.as_str()).await?;
        Ok(view.map_or(VmStatus::Absent, |view| view.status))
    }

    /// Makes a VM; one that takes the place of `old`, which is gone, is the same machine.
    pub(super) async fn create(
        &self,
        config: VmConfig,
        old: Option<&DomainRecord>,
    ) -> Result<(), KvmError> {
        let planned = self.planner().await?.plan(config, old).await?;
        for warning in &planned.params.warnings {
            warn!("{warning}");
        }
        if let Some(report) = machine_conformance(&planned.params) {
            for clause in report.failures() {
                warn!(vm = %planned.config.name(), "the machine does not conform: {clause}");
            }
        }
        let libvirt = self.libvirt().await?;
        planned.define(libvirt).await?.start(libvirt).await
    }

    /// Makes a VM in the place of the one that is there, as the same machine. Whatever can refuse the new one does so
    /// before the old one is touched.
    pub(super) async fn replace(
        &self,
        config: VmConfig,
        old: &DomainRecord,
    ) -> Result<(), KvmError> {
        let planner = self.planner().await?;
        let planned = planner.plan(config.clone(), Some(old)).await?;
        let name = config.name();
        let libvirt = self.libvirt().await?;
        libvirt.check_document(name.as_str(), planned.xml).await?;
        self.remove(name).await?;
        self.create(config, Some(old)).await
    }

    /// Powers a VM on that was made before. Returns whether it was off.
    pub(super) async fn start_existing(
        &self,
        name: &VmName,
        record: &DomainRecord,
    ) -> Result<bool, KvmError> {
        let libvirt = self.libvirt().await?;
        let layout = self.layout(name);
        if layout.is_unfinished() {
            // A fork that was interrupted is still another device, down to the machine id on its disk, and nobody has
            // used it yet.
            warn!(vm = %name, "was being made from a checkpoint; making it anew from its image");
            let config = VmConfig::try_from(&record.spec)?;
            self.replace(config, record).await?;
            return Ok(true);
        }
        match self.status(name).await? {
            VmStatus::Running => return Ok(false),
            // Somebody paused it, and it goes on where it was.
            VmStatus::Paused(reason) if reason == "User" => {
                libvirt.resume(name.as_str()).await?;
                return Ok(true);
            }
            // Something is being done with it, or it sleeps: its memory is not ours to throw away.
            VmStatus::Paused(reason) if !STOPPED_FOR_GOOD.contains(&reason.as_str()) => {
                return Err(KvmError::NotRunning {
                    name: name.to_string(),
                    status: VmStatus::Paused(reason),
                    awaited: "its start",
                });
            }
            VmStatus::Paused(reason) => {
                check_recorded_firmware(record)?;
                warn!(vm = %name, reason, "was paused; cutting its power and starting it anew");
                libvirt.power_off(name.as_str()).await?;
            }
            _ => check_recorded_firmware(record)?,
        }
        libvirt.start(name.as_str()).await?;
        Ok(true)
    }

    pub(super) async fn remove(&self, name: &VmName) -> Result<bool, KvmError> {
        let layout = self.layout(name);
        let libvirt = self.libvirt().await?;
        let defined = match libvirt.view(name.as_str()).await? {
            None => false,
            Some(view) => {
                // Fails when it is not ours.
                self.recorded(name).await?;
                if view.status != VmStatus::Off {
                    libvirt.power_off(name.as_str()).await?;
                }
                libvirt.undefine(name.as_str()).await?;
                true
            }
        };
        // Without a domain, files are ours only when the state directory says so.
        let files = (defined || layout.is_ours()) && layout.remove()?;
        if defined || files {
            info!(vm = %name, "destroyed");
        }
        Ok(defined || files)
    }

    /// Resolves the VM anew, with a fresh variable store and its old identity, and defines it so.
    pub(super) async fn renew_firmware(&self, name: &VmName) -> Result<(), KvmError> {
        let record = self.existing(name).await?;
        match self.status(name).await? {
            VmStatus::Off | VmStatus::Crashed(_) => {}
            status => {
                return Err(KvmError::NotOff {
                    name: name.to_string(),
                    status,
                    action: "reset its variable store",
                });
            }
        }
        if record.firmware.is_none() {
            return Err(KvmError::NoDevice {
                name: name.to_string(),
                device: "UEFI variable store: it boots with BIOS".to_owned(),
            });
        }
        let config = VmConfig::try_from(&record.spec)?;
        let planner = self.planner().await?;
        let resolved = planner.replan(&config, &record).await?;
        planner.publish_kernel(&config).await?;
        // libvirt takes the new definition first: a refusal leaves everything as it was.
        let libvirt = self.libvirt().await?;
        libvirt.define(name.as_str(), resolved.xml).await?;
        if let Firmware::Uefi(firmware) = &resolved.params.firmware {
            let UefiFirmware {
                code,
                vars_template,
                ..
            } = firmware;
            replace_nvram(vars_template, &resolved.placement.nvram)?;
            info!(vm = %name, code = %code.display(), "has a fresh variable store");
        }
        Ok(())
    }

    pub(super) async fn plugging(&self, name: &str) -> Result<Plugging, KvmError> {
        let name = checked(name)?;
        let lock = self.lock(&name)?;
        let record = self.existing(&name).await?;
        let status = self.status(&name).await?;
        if status != VmStatus::Running {
            return Err(KvmError::NotRunning {
                name: name.to_string(),
                status,
                awaited: "a change of its devices",
            });
        }
        Ok(Plugging {
            _lock: lock,
            libvirt: self.libvirt().await?.clone(),
            facts: self.facts().await.clone(),
            layout: self.layout(&name),
            name,
            record,
        })
    }

    pub(super) fn lock(&self, name: &VmName) -> Result<PassingLock, KvmError> {
        if self.uri == ConnectionUri::Session {
            make_private_dir(&self.pool())?;
        }
        self.layout(name).take_lock(name)
    }

    /// Waits until the VM is in another state than running.
    pub(super) async fn wait_until_stopped(&self, name: &VmName) -> Result<VmStatus, KvmError> {
        loop {
            match self.status(name).await? {
                VmStatus::Running => sleep(WATCH_INTERVAL).await,
                status => return Ok(status),
            }
        }
    }

    pub(super) async fn wait_until_off(
        &self,
        name: &VmName,
        timeout: Duration,
    ) -> Result<(), KvmError> {
        const AWAITED: &str = "the shutdown";
        let look = || async {
            let status = self.status(name).await?;
            match status {
                VmStatus::Off | VmStatus::Absent => Ok(Look::Done(())),
                VmStatus::Running => Ok(Look::NotYet(status.to_string())),
                VmStatus::Crashed(_) | VmStatus::Paused(_) => Err(KvmError::NotRunning {
                    name: name.to_string(),
                    status,
                    awaited: AWAITED,
                }),
            }
        };
        let timed_out = |last_seen| KvmError::TimedOut {
            name: name.to_string(),
            awaited: AWAITED,
            bound: timeout,
            last_seen,
        };
        wait::until(timeout, |_| POLL_INTERVAL, look, timed_out).await
    }
}
