//! The capability, in terms of single concerns.

use async_trait::async_trait;

use super::shell::Shell;
use super::{facts, files, first_boot, packages, units, users};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{
    CommandOutput, HostCommand, HostFile, HostUnit, HostUser, LinuxFacts, LinuxHost,
};

#[async_trait]
impl<T: Shell + Topology> LinuxHost for T {
    async fn run(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<CommandOutput, ExecutorError> {
        self.execute(command, input).await
    }

    async fn facts(&self) -> Result<LinuxFacts, ExecutorError> {
        facts::read(self).await
    }

    async fn wait_first_boot(&self) -> Result<(), ExecutorError> {
        first_boot::wait(self).await
    }

    async fn ensure_packages(&self, names: &[&str]) -> Result<Change, ExecutorError> {
        packages::ensure(self, names).await
    }

    async fn ensure_files(&self, files: &[HostFile]) -> Result<Vec<Change>, ExecutorError> {
        files::ensure(self, files).await
    }

    async fn ensure_user(&self, user: &HostUser) -> Result<Change, ExecutorError> {
        users::ensure(self, user).await
    }

    async fn ensure_unit(&self, unit: &HostUnit) -> Result<Change, ExecutorError> {
        units::ensure(self, unit).await
    }
}
