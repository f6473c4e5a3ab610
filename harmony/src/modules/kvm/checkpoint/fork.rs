//! A device that goes on from a checkpoint.
//!
//! ```text
//! plan --> define (own overlay, NVRAM, seed, document) --> restore, link down
//!      --> agent answers --> identity script --> link up --> running
//! ```
//! Whatever fails, the domain and its files are removed: what is left is either a device of its own or nothing. A
//! process that is killed half-way leaves a note, by which the device is made anew from its image when it is wanted again.

use std::time::{Duration, SystemTime};

use harmony_base::blocking::blocking;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::domain::error::ExecutorError;
use crate::domain::topology::virtualization::VirtualMachineSpec;
use crate::modules::kvm::bringup::{Defined, Origin, Planned};
use crate::modules::kvm::error::KvmError;
use crate::modules::kvm::guest_agent::GuestAgent;
use crate::modules::kvm::layout::Layout;
use crate::modules::kvm::libvirt::Libvirt;
use crate::modules::kvm::nvram::release_zeros;
use crate::modules::kvm::placement::Placement;
use crate::modules::kvm::record::DomainRecord;
use crate::modules::kvm::topology::KvmVirtualMachineHost;
use crate::modules::kvm::types::VmConfig;
use crate::modules::kvm::xml::LinkState;
use crate::modules::ssh::HostKey;

use super::document::{Identity, Substitutions};
use super::save_image::SaveImage;
use super::script::{ENTROPY_BYTES, GuestIdentity};
use super::store::{DISK, MEMORY, NVRAM};
use super::{AGENT_TIMEOUT, CheckpointError, StoredCheckpoint};

/// What is needed to make a restored guest a device of its own.
pub(super) struct Fork<'a> {
    libvirt: &'a Libvirt,
    checkpoint: &'a StoredCheckpoint,
    name: String,
    layout: Layout,
    hostname: String,
    placement: Placement,
    host_key: HostKey,
    document: String,
    memory: SaveImage,
}

impl KvmVirtualMachineHost {
    /// Makes the VM of a spec from a checkpoint with that spec's key. When it returns, the guest runs under its own
    /// name, addresses, host key and machine id, and its network is on its way up.
    ///
    /// From inside, `product_uuid`, the serial number and the kernel's boot id are still the checkpoint's until the first
    /// power cycle: the guest has read them already. Which boot this is says [`iot_contracts::OWN_BOOT_ID`].
    ///
    /// # Guarantees
    /// After a failure nothing of the VM is left.
    ///
    /// # Errors
    /// A VM of that name is there; a checkpoint that was altered, or saved by another machine than the spec's would be
    /// here; whatever keeps the VM from being made or restored, or its guest from taking its identity.
    pub async fn fork(
        &self,
        spec: &VirtualMachineSpec,
        checkpoint: &StoredCheckpoint,
    ) -> Result<(), ExecutorError> {
        let started = Instant::now();
        let name = VmConfig::try_from(spec)?.name().clone();
        let _lock = self.lock(&name)?;
        if self.recorded(&name).await?.is_some() {
            return Err(KvmError::NameTaken {
                name: name.to_string(),
            }
            .into());
        }
        let (planned, fork) = self.plan_fork(spec, checkpoint, None).await?;
        fork.make(planned, started).await?;
        Ok(())
    }

    /// Everything of a fork that can be refused. One that takes the place of `old` is the same machine.
    pub(super) async fn plan_fork<'a>(
        &'a self,
        spec: &VirtualMachineSpec,
        checkpoint: &'a StoredCheckpoint,
        old: Option<&DomainRecord>,
    ) -> Result<(Planned, Fork<'a>), CheckpointError> {
        if self.machine(spec).await? != checkpoint.machine {
            return Err(CheckpointError::OtherMachine {
                key: checkpoint.key,
            });
        }
        let config = VmConfig::try_from(spec)?;
        let hostname = config.name().hostname();
        let mut planned = self.planner().await?.plan(config, old).await?;
        let host_key = planned
            .host_key
            .clone()
            .ok_or(CheckpointError::Ineligible {
                what: "no first boot of harmony's",
            })?;
        let memory = SaveImage::open(&checkpoint.file(MEMORY))?;
        let document = fork_document(&planned, checkpoint, &memory)?;
        planned.origin = Origin::Checkpoint {
            disk: checkpoint.file(DISK),
            nvram: checkpoint.file(NVRAM),
        };
        let fork = Fork {
            libvirt: self.libvirt().await?,
            checkpoint,
            name: planned.config.name().to_string(),
            layout: planned.layout.clone(),
            hostname,
            placement: planned.placement.clone(),
            host_key,
            document,
            memory,
        };
        Ok((planned, fork))
    }
}

/// The machine id of the guest of that domain: another one, and the same each time that the device is made.
fn machine_id(domain: Uuid) -> Uuid {
    Uuid::new_v5(&domain, b"machine id")
}

/// The saved document as the planned VM's.
fn fork_document(
    planned: &Planned,
    checkpoint: &StoredCheckpoint,
    memory: &SaveImage,
) -> Result<String, CheckpointError> {
    let record = planned.record()?;
    let saved = Identity {
        name: &checkpoint.name,
        placement: &checkpoint.placement,
    };
    let new = Identity {
        name: planned.config.name().as_str(),
        placement: &planned.placement,
    };
    Ok(Substitutions::new(saved, new, &record)?.apply(&memory.document)?)
}

impl Fork<'_> {
    /// Makes the VM, or leaves nothing of it.
    pub(super) async fn make(
        self,
        planned: Planned,
        started: Instant,
    ) -> Result<(), CheckpointError> {
        let defined = planned.define(self.libvirt).await?;
        match self
            .bring_up()
            .await
            .and_then(|()| Ok(self.layout.finish_fork()?))
        {
            Ok(()) => {
                let seconds = started.elapsed().as_secs_f64();
                info!(vm = %self.name, checkpoint = %self.checkpoint.key, seconds, "forked");
                Ok(())
            }
            Err(error) => {
                self.undo(defined).await;
                Err(error)
            }
        }
    }

    async fn bring_up(&self) -> Result<(), CheckpointError> {
        let started = Instant::now();
        let reached =
            |step: &str| debug!(vm = %self.name, step, after = ?started.elapsed(), "fork");
        self.restore().await?;
        reached("restored");
        let agent = GuestAgent {
            libvirt: self.libvirt,
            name: &self.name,
        };
        agent.wait(AGENT_TIMEOUT).await?;
        reached("agent answers");
        let script = self.identity()?.script().map_err(|error| {
            let what = error.to_string();
            KvmError::Internal { what }
        })?;
        let action = "take its identity";
        agent.run_script(&script, action, AGENT_TIMEOUT).await?;
        reached("identity taken");
        self.shrink_nvram().await?;
        self.libvirt.set_links(&self.name, LinkState::Up).await?;
        Ok(())
    }

    /// QEMU has written the whole variable store when the guest went on; most of it is zeros.
    async fn shrink_nvram(&self) -> Result<(), CheckpointError> {
        let nvram = self.placement.nvram.clone();
        if !nvram.exists() {
            return Ok(());
        }
        // Nobody writes while the guest stands still.
        self.libvirt.suspend(&self.name).await?;
        let released = blocking("release zeros", move || release_zeros(&nvram)).await;
        self.libvirt.resume(&self.name).await?;
        if let Err(error) = released? {
            // It costs space, and nothing else.
            warn!(vm = %self.name, %error, "the variable store takes all its space");
        }
        Ok(())
    }

    async fn restore(&self) -> Result<(), CheckpointError> {
        let scratch = self.checkpoint.scratch()?;
        let file = scratch.path().join(MEMORY);
        let (memory, document, target) = (self.memory.clone(), self.document.clone(), file.clone());
        let write = move || memory.write_as(&document, &target);
        blocking("copy a memory image", write).await??;
        self.libvirt.restore(&self.name, &file).await?;
        scratch
            .close()
            .map_err(CheckpointError::io("remove", file))?;
        Ok(())
    }

    fn identity(&self) -> Result<GuestIdentity, CheckpointError> {
        let mut entropy = [0; ENTROPY_BYTES];
        let filled = getrandom(&mut entropy, GetRandomFlags::empty())
            .map_err(|errno| CheckpointError::io("read", "getrandom(2)")(errno.into()))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now: Duration = now.unwrap_or_default();
        if filled < ENTROPY_BYTES {
            return Err(CheckpointError::Ineligible {
                what: "no randomness of the host's",
            });
        }
        let old = self.checkpoint.placement.macs.iter().copied();
        Ok(GuestIdentity {
            hostname: self.hostname.clone(),
            machine_id: machine_id(self.placement.uuid),
            host_key: self.host_key.clone(),
            macs: old.zip(self.placement.macs.iter().copied()).collect(),
            entropy,
            now: now.as_secs(),
        })
    }

    async fn undo(&self, defined: Defined) {
        if let Err(error) = defined.undo(self.libvirt).await {
            warn!(vm = %self.name, %error, "could not be removed after a failed fork");
        }
    }
}
