//! The capability: a shell on the host is all that it takes.

use async_trait::async_trait;

use super::connection::SshLinuxHost;
use super::error::SshError;
use crate::domain::error::ExecutorError;
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand};
use crate::modules::linux::Shell;

#[async_trait]
impl Topology for SshLinuxHost {
    fn name(&self) -> String {
        let target = self.target();
        format!("ssh({}@{}:{})", target.user, target.address, target.port)
    }

    /// Logs in once. For a host that still boots, use
    /// [`wait_reachable`](SshLinuxHost::wait_reachable) before.
    async fn ensure_ready(&self) -> Result<(), ExecutorError> {
        Ok(self.ensure_session().await?)
    }
}

#[async_trait]
impl Shell for SshLinuxHost {
    async fn execute(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<CommandOutput, ExecutorError> {
        Ok(self.run_command(command, input).await?)
    }

    fn is_lost(&self, error: &ExecutorError) -> bool {
        matches!(error.downcast_ref(), Some(SshError::SessionLost { .. }))
    }
}
