//! What scores run on: a topology offers capabilities as further traits.

pub mod linux_host;
pub mod virtualization;

use async_trait::async_trait;

use super::error::ExecutorError;

/// A set of capabilities that scores can use.
#[async_trait]
pub trait Topology: Send + Sync {
    /// A short name for logs, for example `kvm(qemu:///session)`.
    fn name(&self) -> String;

    /// Makes the capabilities usable: opens connections, checks that the other side answers.
    ///
    /// # Errors
    /// When a capability cannot be offered.
    async fn ensure_ready(&self) -> Result<(), ExecutorError>;
}
