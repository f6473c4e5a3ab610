//! A host that runs virtual machines with libvirt.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::domain::error::ExecutorError;
use crate::domain::topology::Topology;
use crate::domain::topology::virtualization::{
    Ensured, GuestAddress, OnChange, VirtualMachineHost, VirtualMachineSpec, VmStatus,
};
use crate::modules::host::HostFacts;

use super::connection::ConnectionUri;
use super::console;
use super::error::KvmError;
use super::layout::Layout;
use super::libvirt::Libvirt;
use super::lock::VmLock;
use super::params::Accelerator;
use super::planning::Planner;
use super::reach;
use super::record::DomainRecord;
use super::types::{VmConfig, VmName};

/// How long a guest may take to boot under KVM, and emulated. An emulated first boot was measured at 50
/// to 120 s on 2 cores; the bounds leave room for a busy runner.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
const EMULATED_BOOT_TIMEOUT: Duration = Duration::from_secs(900);

/// How often a state that libvirt does not announce to us is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A host with libvirt, through one connection.
pub struct KvmVirtualMachineHost {
    uri: ConnectionUri,
    data_dir: PathBuf,
    libvirt: OnceCell<Libvirt>,
    facts: OnceCell<HostFacts>,
}

impl KvmVirtualMachineHost {
    /// A host that keeps per-VM state below `data_dir`. Nothing is opened yet.
    pub fn new(uri: ConnectionUri, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            uri,
            data_dir: data_dir.into(),
            libvirt: OnceCell::new(),
            facts: OnceCell::new(),
        }
    }

    /// The connection.
    pub fn uri(&self) -> ConnectionUri {
        self.uri
    }

    /// What this host is and has; read at the first call.
    pub async fn facts(&self) -> &HostFacts {
        self.facts.get_or_init(HostFacts::read).await
    }

    /// The domain XML that [`ensure_vm`](VirtualMachineHost::ensure_vm) would define, and warnings.
    /// Touches nothing; image, network and space are not looked at.
    ///
    /// # Errors
    /// A spec that is wrong, or an emulator, firmware or accelerator that is not there.
    pub async fn preview(
        &self,
        spec: &VirtualMachineSpec,
    ) -> Result<(String, Vec<String>), ExecutorError> {
        let config = VmConfig::try_from(spec)?;
        let recorded = self.recorded(config.name()).await?;
        let planner = self.planner().await?;
        let (params, _, xml) = planner.resolve(&config, recorded.as_ref()).await?;
        Ok((xml, params.warnings))
    }

    /// What harmony's VM of that name was made from, when there is one.
    ///
    /// # Errors
    /// When a domain of that name is not harmony's.
    pub async fn recorded_spec(
        &self,
        name: &str,
    ) -> Result<Option<VirtualMachineSpec>, ExecutorError> {
        let record = self.recorded(&checked(name)?).await?;
        Ok(record.map(|record| record.spec))
    }

    /// The serial console's log of a VM.
    pub fn console_log(&self, name: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).console_log)
    }

    /// The known_hosts file with the VM's pinned host key, written when the guest was reached.
    pub fn known_hosts(&self, name: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).known_hosts())
    }

    /// The VM's UEFI variable store.
    pub fn nvram(&self, name: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).nvram)
    }

    /// Checks that a libvirt network is active.
    pub async fn check_network(&self, network: &str) -> Result<(), ExecutorError> {
        Ok(self.libvirt().await?.check_network(network).await?)
    }

    /// The directory of disks, variable stores and console logs.
    pub fn pool(&self) -> PathBuf {
        self.uri.pool(&self.data_dir)
    }

    async fn libvirt(&self) -> Result<&Libvirt, KvmError> {
        self.libvirt
            .get_or_try_init(|| Libvirt::open(self.uri))
            .await
    }

    async fn planner(&self) -> Result<Planner<'_>, KvmError> {
        Ok(Planner {
            libvirt: self.libvirt().await?,
            facts: self.facts().await,
            uri: self.uri,
            pool: self.pool(),
            data_dir: &self.data_dir,
        })
    }

    fn layout(&self, name: &VmName) -> Layout {
        Layout::new(self.uri, &self.data_dir, name)
    }

    /// The record of harmony's domain of that name, if there is one.
    async fn recorded(&self, name: &VmName) -> Result<Option<DomainRecord>, KvmError> {
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

    async fn existing(&self, name: &VmName) -> Result<DomainRecord, KvmError> {
        self.recorded(name)
            .await?
            .ok_or_else(|| KvmError::NotFound {
                name: name.to_string(),
            })
    }

    async fn status(&self, name: &VmName) -> Result<VmStatus, KvmError> {
        let view = self.libvirt().await?.view(name.as_str()).await?;
        Ok(view.map_or(VmStatus::Absent, |view| view.status))
    }

    async fn create(&self, config: VmConfig) -> Result<(), KvmError> {
        let planned = self.planner().await?.plan(config).await?;
        for warning in &planned.params.warnings {
            warn!("{warning}");
        }
        let libvirt = self.libvirt().await?;
        planned.define(libvirt).await?.start(libvirt).await
    }

    async fn start_existing(&self, name: &VmName) -> Result<bool, KvmError> {
        let libvirt = self.libvirt().await?;
        match self.status(name).await? {
            VmStatus::Running => Ok(false),
            // A guest that stopped while on cannot go on by itself.
            VmStatus::Paused(reason) => {
                warn!(vm = %name, reason, "was paused; cutting its power and starting it anew");
                libvirt.power_off(name.as_str()).await?;
                libvirt.start(name.as_str()).await.map(|()| true)
            }
            _ => libvirt.start(name.as_str()).await.map(|()| true),
        }
    }

    async fn remove(&self, name: &VmName) -> Result<bool, KvmError> {
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

    fn lock(&self, name: &VmName) -> Result<VmLock, KvmError> {
        if self.uri == ConnectionUri::Session {
            make_private_dir(&self.pool())?;
        }
        VmLock::take(name, self.layout(name).lock)
    }

    async fn wait_until_off(&self, name: &VmName, timeout: Duration) -> Result<(), KvmError> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.status(name).await?;
            match status {
                VmStatus::Off | VmStatus::Absent | VmStatus::Crashed(_) => return Ok(()),
                _ if Instant::now() >= deadline => {
                    return Err(KvmError::TimedOut {
                        name: name.to_string(),
                        awaited: "the shutdown",
                        bound: timeout,
                        last_seen: status.to_string(),
                    });
                }
                _ => sleep(POLL_INTERVAL).await,
            }
        }
    }
}

fn checked(name: &str) -> Result<VmName, KvmError> {
    name.parse().map_err(|violation| KvmError::Invalid {
        violations: vec![violation],
    })
}

pub(super) fn make_private_dir(path: &Path) -> Result<(), KvmError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(KvmError::io("make", path))
}

#[async_trait]
impl Topology for KvmVirtualMachineHost {
    fn name(&self) -> String {
        format!("kvm({})", self.uri)
    }

    async fn ensure_ready(&self) -> Result<(), ExecutorError> {
        self.libvirt().await?;
        Ok(())
    }
}

#[async_trait]
impl VirtualMachineHost for KvmVirtualMachineHost {
    async fn ensure_vm(
        &self,
        spec: &VirtualMachineSpec,
        on_change: OnChange,
    ) -> Result<Ensured, ExecutorError> {
        let config = VmConfig::try_from(spec)?;
        let _lock = self.lock(config.name())?;
        let Some(record) = self.recorded(config.name()).await? else {
            self.create(config).await?;
            return Ok(Ensured::Created);
        };
        let changes = record.changes(spec);
        if changes.is_empty() {
            let started = self.start_existing(config.name()).await?;
            return Ok(if started {
                Ensured::Started
            } else {
                Ensured::Unchanged
            });
        }
        if on_change == OnChange::Refuse {
            return Err(KvmError::Changed {
                name: config.name().to_string(),
                changes,
            }
            .into());
        }
        // Whatever can refuse the new VM does so before the old one is touched.
        self.planner().await?.plan(config.clone()).await?;
        self.remove(config.name()).await?;
        self.create(config).await?;
        Ok(Ensured::Replaced)
    }

    async fn start_vm(&self, name: &str) -> Result<(), ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        self.existing(&name).await?;
        self.start_existing(&name).await?;
        Ok(())
    }

    async fn stop_vm(&self, name: &str, timeout: Duration) -> Result<(), ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        self.existing(&name).await?;
        match self.status(&name).await? {
            VmStatus::Running => self.libvirt().await?.shut_down(name.as_str()).await?,
            VmStatus::Off => {}
            status => {
                return Err(KvmError::NotRunning {
                    name: name.to_string(),
                    status,
                    awaited: "the shutdown",
                }
                .into());
            }
        }
        Ok(self.wait_until_off(&name, timeout).await?)
    }

    async fn power_cycle_vm(&self, name: &str) -> Result<(), ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        self.existing(&name).await?;
        let libvirt = self.libvirt().await?;
        libvirt.power_off(name.as_str()).await?;
        libvirt.start(name.as_str()).await?;
        info!(vm = %name, "power-cycled");
        Ok(())
    }

    async fn destroy_vm(&self, name: &str) -> Result<bool, ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        Ok(self.remove(&name).await?)
    }

    async fn vm_status(&self, name: &str) -> Result<VmStatus, ExecutorError> {
        Ok(self.status(&checked(name)?).await?)
    }

    async fn wait_for_address(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<GuestAddress, ExecutorError> {
        let name = checked(name)?;
        let record = self.existing(&name).await?;
        let layout = self.layout(&name);
        let libvirt = self.libvirt().await?;
        let address = reach::wait_for_ssh(libvirt, &name, &record, &layout, timeout).await?;
        Ok(address)
    }

    async fn boot_timeout(&self, name: &str) -> Result<Duration, ExecutorError> {
        let record = self.existing(&checked(name)?).await?;
        Ok(match record.accelerator {
            Accelerator::Tcg => EMULATED_BOOT_TIMEOUT,
            Accelerator::Kvm => BOOT_TIMEOUT,
        })
    }

    async fn diagnose_vm(&self, name: &str) -> String {
        let Ok(checked) = checked(name) else {
            return format!("'{name}' is no name of a virtual machine");
        };
        let status = match self.status(&checked).await {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown ({error})"),
        };
        let addresses = match (self.libvirt().await, self.existing(&checked).await) {
            (Ok(libvirt), Ok(record)) => reach::describe(libvirt, &checked, &record).await,
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        };
        let console = console::tail(&self.layout(&checked).console_log, 60);
        format!("state: {status}\naddresses: {addresses}\nserial console, last lines:\n{console}\n")
    }
}
