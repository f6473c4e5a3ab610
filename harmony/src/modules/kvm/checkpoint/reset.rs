//! A used device back to the checkpoint that it was made from.

use tokio::time::Instant;
use tracing::info;

use crate::domain::error::ExecutorError;
use crate::modules::kvm::disk;
use crate::modules::kvm::topology::{KvmVirtualMachineHost, checked};
use crate::modules::kvm::types::VmName;

use super::store::DISK;
use super::{CheckpointError, CheckpointKey, StoredCheckpoint};

impl KvmVirtualMachineHost {
    /// See [`reset`](crate::domain::topology::virtualization::VirtualMachineHost::reset).
    pub(in crate::modules::kvm) async fn reset_to_checkpoint(
        &self,
        name: &str,
    ) -> Result<(), ExecutorError> {
        let started = Instant::now();
        let name = checked(name)?;
        let _lock = self.lock(&name)?;
        let record = self.existing(&name).await?;
        let checkpoint = self.origin(&name).await?;
        let checkpoint = checkpoint.ok_or_else(|| CheckpointError::NotFromCheckpoint {
            name: name.to_string(),
        })?;
        checkpoint.claim()?;
        // Whatever can be refused is, before the device is given up.
        let (planned, fork) = self
            .plan_fork(&record.spec, &checkpoint, Some(&record))
            .await?;
        self.remove(&name).await?;
        fork.make(planned, started).await?;
        info!(vm = %name, checkpoint = %checkpoint.key, "reset");
        Ok(())
    }

    /// The key of the checkpoint that a VM was made from; none when it was booted, or the checkpoint is gone.
    ///
    /// # Errors
    /// No such VM, or a disk that cannot be read.
    pub async fn checkpoint_of(&self, name: &str) -> Result<Option<CheckpointKey>, ExecutorError> {
        let name = checked(name)?;
        self.existing(&name).await?;
        let origin = self.origin(&name).await?;
        Ok(origin.map(|checkpoint| checkpoint.key))
    }

    /// The checkpoint that backs the VM's disk, unverified.
    async fn origin(&self, name: &VmName) -> Result<Option<StoredCheckpoint>, CheckpointError> {
        let disk = disk::backing_file(&self.layout(name).files.overlay).await?;
        let mut all = self.checkpoints().list()?.into_iter();
        Ok(all.find(|checkpoint| Some(checkpoint.file(DISK)) == disk))
    }
}
