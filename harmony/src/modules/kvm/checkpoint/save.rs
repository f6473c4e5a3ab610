//! Making a checkpoint of a running VM, which ends it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harmony_base::blocking::blocking;
use tracing::{info, warn};

use crate::domain::error::ExecutorError;
use crate::domain::topology::virtualization::{VirtualMachineSpec, VmStatus};
use crate::modules::image::Sha256Digest;
use crate::modules::kvm::error::KvmError;
use crate::modules::kvm::guest_agent::GuestAgent;
use crate::modules::kvm::topology::{KvmVirtualMachineHost, checked};
use crate::modules::kvm::types::VmConfig;
use crate::modules::kvm::xml::LinkState;

use super::store::{CheckpointStore, DISK, MEMORY, NVRAM};
use super::{AGENT_TIMEOUT, CheckpointError, CheckpointKey, StoredCheckpoint, key};

/// How long a checkpoint that is not used is kept, and how much all of them may take: a checkpoint of a device takes
/// 0.5 to 0.8 GiB, and each change of the agent asks for another.
const KEPT_FOR: Duration = Duration::from_secs(14 * 24 * 3600);
const KEPT_BYTES: u64 = 8 << 30;

/// How long a guest may take to come to rest: it waits for what ends by itself, and writes all its free memory.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(300);

/// What a guest does last before it is saved.
const SETTLE: &str = include_str!("settle.sh");

impl KvmVirtualMachineHost {
    /// The checkpoints of this host's pool.
    pub fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::of_pool(&self.pool())
    }

    /// The key of the checkpoint from which a VM of this spec can be made here. `content` says what was done in
    /// the guest before it was saved: a digest of the programs and settings that were installed.
    ///
    /// # Errors
    /// [`CheckpointError::Ineligible`] for a spec whose machine cannot be forked; a spec that is wrong or that
    /// this host cannot run; an image or emulator that cannot be read.
    pub async fn checkpoint_key(
        &self,
        spec: &VirtualMachineSpec,
        content: &str,
    ) -> Result<CheckpointKey, ExecutorError> {
        Ok(CheckpointKey::of(self.machine(spec).await?, content))
    }

    /// What a checkpoint of a VM of this spec would depend on here, but for what is done in its guest.
    pub(super) async fn machine(
        &self,
        spec: &VirtualMachineSpec,
    ) -> Result<Sha256Digest, CheckpointError> {
        let (spec, facts) = (spec.clone(), self.facts().await.clone());
        // Hashes an image and a program.
        blocking("make a key", move || key::machine(&spec, &facts)).await?
    }

    /// Saves a running VM of harmony's as the checkpoint `key`, and removes the VM. Its guest must be provisioned
    /// up to, and not including, what is particular to one device.
    ///
    /// # Guarantees
    /// The checkpoint is there whole or not at all. After a failure the VM is gone.
    ///
    /// # Errors
    /// No such VM, or one that does not run; a guest without a guest agent; libvirt's refusal; no space.
    pub async fn save_checkpoint(
        &self,
        name: &str,
        key: CheckpointKey,
    ) -> Result<StoredCheckpoint, ExecutorError> {
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        let saved = self.save_locked(&name, key).await;
        let removed = self.remove(&name).await;
        let checkpoint = saved?;
        removed?;
        info!(%key, bytes = checkpoint.bytes(), "checkpoint saved");
        Ok(checkpoint)
    }

    async fn save_locked(
        &self,
        name: &crate::modules::kvm::VmName,
        key: CheckpointKey,
    ) -> Result<StoredCheckpoint, CheckpointError> {
        let record = self.existing(name).await?;
        let machine = self.machine(&record.spec).await?;
        let status = self.status(name).await?;
        if status != VmStatus::Running {
            return Err(KvmError::NotRunning {
                name: name.to_string(),
                status,
                awaited: "a checkpoint",
            }
            .into());
        }
        let config = VmConfig::try_from(&record.spec)?;
        let placement = self
            .planner()
            .await?
            .replan(&config, &record)
            .await?
            .placement;
        let libvirt = self.libvirt().await?;
        let agent = GuestAgent {
            libvirt,
            name: name.as_str(),
        };
        agent.wait(AGENT_TIMEOUT).await?;
        let action = "come to rest";
        agent.run_script(SETTLE, action, SETTLE_TIMEOUT).await?;
        libvirt.set_links(name.as_str(), LinkState::Down).await?;

        let store = self.checkpoints();
        let begun = store.begin()?;
        let memory = begun.path().join(MEMORY);
        libvirt.save(self.uri, name.as_str(), &memory).await?;
        let take = |from: &Path, to: &str| {
            let to = begun.path().join(to);
            fs::rename(from, &to).map_err(CheckpointError::io("move", from))
        };
        take(&placement.overlay, DISK)?;
        if record.firmware.is_some() {
            take(&placement.nvram, NVRAM)?;
        }
        let name = name.to_string();
        let keep = move || {
            let checkpoint = store.publish(key, machine, &name, placement, begun)?;
            // What is old takes its leave when something new comes.
            if let Err(error) = store.prune(KEPT_FOR, KEPT_BYTES) {
                warn!(%error, "old checkpoints cannot be removed");
            }
            Ok(checkpoint)
        };
        blocking("keep a checkpoint", keep).await?
    }
}
