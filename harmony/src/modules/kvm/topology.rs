//! A host that runs virtual machines with libvirt.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tracing::info;

use crate::domain::error::{ExecutorError, error_chain};
use crate::domain::topology::Topology;
use crate::domain::topology::virtualization::{
    Accelerator, DataDisk, DiskHandle, Ensured, GuestAddress, MachineIdentity, NetworkCard,
    NetworkHandle, OnChange, VirtualMachineHost, VirtualMachineSpec, VmArchitecture, VmStatus,
};
use crate::modules::host::{HostFacts, LibvirtFacts};

use super::connection::ConnectionUri;
use super::console;
use super::error::KvmError;
use super::layout::Layout;
use super::libvirt::Libvirt;
use super::planning::Planner;
use super::preview::{Preview, preview};
use super::reach;
use super::record::{DomainRecord, FieldChange};
use super::recorded_firmware::check_recorded_firmware;
use super::types::{VmConfig, VmName};

/// How long a guest may take to boot under KVM, and emulated. An emulated first boot was measured at 50
/// to 120 s on 2 cores; the bounds leave room for a busy runner.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
const EMULATED_BOOT_TIMEOUT: Duration = Duration::from_secs(900);

/// A host with libvirt, through one connection.
pub struct KvmVirtualMachineHost {
    pub(super) uri: ConnectionUri,
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

    /// A host whose facts are known already, for example with a QEMU of the caller's own (see
    /// [`HostFacts::with_qemu`]).
    #[must_use]
    pub fn with_facts(mut self, facts: HostFacts) -> Self {
        self.facts = OnceCell::new_with(Some(facts));
        self
    }

    /// What this host is and has, libvirt's part included; read at the first call.
    pub async fn facts(&self) -> &HostFacts {
        self.facts.get_or_init(|| self.read_facts()).await
    }

    async fn read_facts(&self) -> HostFacts {
        let directories = [self.data_dir.clone(), self.pool()];
        let mut facts = HostFacts::read(&directories).await;
        let emulators: Vec<_> = VmArchitecture::ALL
            .into_iter()
            .filter_map(|guest| Some((guest, facts.emulator(guest)?.path)))
            .collect();
        let asked = self.ask_libvirt(emulators, facts.architecture).await;
        facts.libvirt = asked.unwrap_or_else(|error| LibvirtFacts::Silent {
            reason: error_chain(&error).replace('\n', ";"),
        });
        facts
    }

    /// What libvirt says of itself and of guests on these emulators.
    pub(super) async fn ask_libvirt(
        &self,
        emulators: Vec<(VmArchitecture, PathBuf)>,
        own: Option<VmArchitecture>,
    ) -> Result<LibvirtFacts, KvmError> {
        let libvirt = self.libvirt().await?;
        libvirt.facts(self.uri, self.pool(), emulators, own).await
    }

    /// The domain that [`ensure_vm`](VirtualMachineHost::ensure_vm) would define, with every knob and its
    /// reason. Touches nothing; image, networks and space are not looked at. A VM that is there keeps its
    /// identity; what only making one decides has a stand-in, see [`preview()`].
    ///
    /// # Errors
    /// A spec that is wrong, or an emulator, firmware or accelerator that is not there.
    pub async fn preview(&self, spec: &VirtualMachineSpec) -> Result<Preview, ExecutorError> {
        let config = VmConfig::try_from(spec)?;
        let Some(record) = self.recorded(config.name()).await? else {
            return Ok(preview(spec, self.facts().await)?);
        };
        let resolved = self.planner().await?.replan(&config, &record).await?;
        Ok(Preview::new(resolved.params, resolved.xml))
    }

    /// Gives a VM that is off the firmware that this host has now, and a fresh variable store: the guest's
    /// boot entries are lost, its disk is kept.
    ///
    /// # Errors
    /// No such VM, one that is on, or a host without firmware for it.
    pub async fn reset_nvram(&self, name: &str) -> Result<(), ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        Ok(self.renew_firmware(&name).await?)
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

    /// The names of harmony's VMs on this connection, running or off.
    ///
    /// # Errors
    /// When libvirt does not list them.
    pub async fn vm_names(&self) -> Result<Vec<String>, ExecutorError> {
        let documents = self.libvirt().await?.all_metadata().await?;
        let records = documents.iter().map(|xml| DomainRecord::from_metadata(xml));
        Ok(records
            .filter_map(Result::ok)
            .map(|record| record.spec.name)
            .collect())
    }

    /// What of a VM that is there differs from this spec; nothing when there is none.
    ///
    /// # Errors
    /// A spec that is not valid, and as [`recorded_spec`](Self::recorded_spec).
    pub async fn changes(
        &self,
        spec: &VirtualMachineSpec,
    ) -> Result<Vec<FieldChange>, ExecutorError> {
        let config = VmConfig::try_from(spec)?;
        let record = self.recorded(config.name()).await?;
        Ok(record.map_or(Vec::new(), |record| record.changes(&config.to_spec())))
    }

    /// The serial console's log of a VM that has it among its own files, as it is unless its spec says
    /// otherwise.
    pub fn console_log(&self, name: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).files.console_log)
    }

    /// The known_hosts file with the VM's pinned host key, written when the guest was reached.
    pub fn known_hosts(&self, name: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).known_hosts())
    }

    /// The VM's UEFI variable store.
    pub fn nvram(&self, name: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).files.nvram)
    }

    /// The VM's system disk: what the guest has written, on top of its image.
    pub fn disk(&self, name: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).files.overlay)
    }

    /// The file of a VM's blank data disk.
    pub fn data_disk(&self, name: &str, tag: &str) -> Result<PathBuf, ExecutorError> {
        Ok(self.layout(&checked(name)?).files.data_disk(tag))
    }

    /// Checks that a libvirt network is active.
    pub async fn check_network(&self, network: &str) -> Result<(), ExecutorError> {
        Ok(self.libvirt().await?.check_network(network).await?)
    }

    /// The directory of disks, variable stores and console logs.
    pub fn pool(&self) -> PathBuf {
        self.uri.pool(&self.data_dir)
    }

    pub(super) async fn libvirt(&self) -> Result<&Libvirt, KvmError> {
        self.libvirt
            .get_or_try_init(|| Libvirt::open(self.uri))
            .await
    }

    pub(super) async fn planner(&self) -> Result<Planner<'_>, KvmError> {
        Ok(Planner {
            libvirt: self.libvirt().await?,
            facts: self.facts().await,
            uri: self.uri,
            pool: self.pool(),
            data_dir: &self.data_dir,
        })
    }

    pub(super) fn layout(&self, name: &VmName) -> Layout {
        Layout::new(self.uri, &self.data_dir, name)
    }
}

pub(super) fn checked(name: &str) -> Result<VmName, KvmError> {
    name.parse().map_err(|violation| KvmError::Invalid {
        violations: vec![violation],
    })
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
            self.create(config, None).await?;
            return Ok(Ensured::Created);
        };
        let changes = record.changes(&config.to_spec());
        if changes.is_empty() {
            let started = self.start_existing(config.name(), &record).await?;
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
        self.replace(config, &record).await?;
        Ok(Ensured::Replaced)
    }

    async fn start_vm(&self, name: &str) -> Result<(), ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        let record = self.existing(&name).await?;
        self.start_existing(&name, &record).await?;
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
        let record = self.existing(&name).await?;
        if self.layout(&name).is_unfinished() {
            self.start_existing(&name, &record).await?;
            return Ok(());
        }
        check_recorded_firmware(&record)?;
        let libvirt = self.libvirt().await?;
        libvirt.power_off(name.as_str()).await?;
        libvirt.start(name.as_str()).await?;
        info!(vm = %name, "power-cycled");
        Ok(())
    }

    async fn reset(&self, name: &str) -> Result<(), ExecutorError> {
        self.reset_to_checkpoint(name).await
    }

    async fn destroy_vm(&self, name: &str) -> Result<bool, ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        Ok(self.remove(&name).await?)
    }

    async fn attach_disk(&self, name: &str, disk: &DataDisk) -> Result<DiskHandle, ExecutorError> {
        let plugging = self.plugging(name).await?;
        Ok(plugging.running().attach_disk(disk).await?)
    }

    async fn detach_disk(&self, name: &str, disk: &DiskHandle) -> Result<(), ExecutorError> {
        let plugging = self.plugging(name).await?;
        Ok(plugging.running().detach_disk(disk).await?)
    }

    async fn attach_network(
        &self,
        name: &str,
        card: &NetworkCard,
    ) -> Result<NetworkHandle, ExecutorError> {
        let plugging = self.plugging(name).await?;
        Ok(plugging.running().attach_network(card).await?)
    }

    async fn detach_network(&self, name: &str, card: &NetworkHandle) -> Result<(), ExecutorError> {
        let plugging = self.plugging(name).await?;
        Ok(plugging.running().detach_network(card).await?)
    }

    async fn identity(&self, name: &str) -> Result<MachineIdentity, ExecutorError> {
        Ok(self.existing(&checked(name)?).await?.identity())
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

    async fn wait_until_not_running(&self, name: &str) -> Result<VmStatus, ExecutorError> {
        Ok(self.wait_until_stopped(&checked(name)?).await?)
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
        let managed = self.layout(&checked).files.console_log;
        let (addresses, log) = match (self.libvirt().await, self.existing(&checked).await) {
            (Ok(libvirt), Ok(record)) => (
                reach::describe(libvirt, &checked, &record).await,
                record.console_log(&managed),
            ),
            (Err(error), _) | (_, Err(error)) => (error.to_string(), Some(managed)),
        };
        let console = console::tail(log.as_deref(), 60);
        format!("state: {status}\naddresses: {addresses}\nserial console, last lines:\n{console}\n")
    }
}
