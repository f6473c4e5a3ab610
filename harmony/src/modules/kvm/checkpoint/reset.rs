//! A used device back to the checkpoint that it was made from.

use tokio::time::Instant;
use tracing::info;

use crate::domain::error::ExecutorError;
use crate::modules::kvm::disk;
use crate::modules::kvm::topology::{KvmVirtualMachineHost, checked};
use crate::modules::kvm::types::VmConfig;

use super::store::DISK;
use super::{CheckpointError, StoredCheckpoint};

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
        let config = VmConfig::try_from(&record.spec)?;
        let origin = disk::backing_file(&self.layout(&name).files.overlay).await?;
        let checkpoint = self.backed_by(origin.as_deref())?;
        let checkpoint = checkpoint.ok_or_else(|| CheckpointError::NotFromCheckpoint {
            name: name.to_string(),
        })?;
        // Whatever can be refused is, before the device is given up.
        let (planned, fork) = self.plan_fork(config, &checkpoint, Some(&record)).await?;
        self.remove(&name).await?;
        fork.make(planned, started).await?;
        info!(vm = %name, checkpoint = %checkpoint.key, "reset");
        Ok(())
    }

    /// The checkpoint with that disk, verified.
    fn backed_by(
        &self,
        disk: Option<&std::path::Path>,
    ) -> Result<Option<StoredCheckpoint>, CheckpointError> {
        let store = self.checkpoints();
        let all = store.list()?;
        let found = all
            .into_iter()
            .find(|checkpoint| Some(checkpoint.file(DISK).as_path()) == disk);
        found.as_ref().map(StoredCheckpoint::verify).transpose()?;
        Ok(found)
    }
}
