//! The capability, in terms of single concerns.

use async_trait::async_trait;

use super::connection::SshLinuxHost;
use super::{facts, files, first_boot, packages, units, users};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{
    CommandOutput, HostCommand, HostFile, HostUnit, HostUser, LinuxFacts, LinuxHost,
};

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
impl LinuxHost for SshLinuxHost {
    async fn run(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<CommandOutput, ExecutorError> {
        Ok(self.execute(command, input).await?)
    }

    async fn facts(&self) -> Result<LinuxFacts, ExecutorError> {
        Ok(facts::read(self).await?)
    }

    async fn wait_first_boot(&self) -> Result<(), ExecutorError> {
        Ok(first_boot::wait(self).await?)
    }

    async fn ensure_packages(&self, names: &[&str]) -> Result<Change, ExecutorError> {
        Ok(packages::ensure(self, names).await?)
    }

    async fn ensure_file(&self, file: &HostFile) -> Result<Change, ExecutorError> {
        Ok(files::ensure(self, file).await?)
    }

    async fn ensure_user(&self, user: &HostUser) -> Result<Change, ExecutorError> {
        Ok(users::ensure(self, user).await?)
    }

    async fn ensure_unit(&self, unit: &HostUnit) -> Result<Change, ExecutorError> {
        Ok(units::ensure(self, unit).await?)
    }
}
