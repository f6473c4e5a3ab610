//! Making a score true.

use async_trait::async_trait;
use serde::Serialize;

use super::error::ExecutorError;
use super::inventory::Inventory;
use super::topology::Topology;

pub use super::change::Change;

/// Brings a topology to the state that a score declares.
///
/// # Guarantees
/// Idempotent: executing twice leaves what executing once leaves, and the second outcome is
/// [`Change::Unchanged`] when nothing else touched the target.
#[async_trait]
pub trait Interpret<T: Topology>: Send + Sync {
    /// Acts.
    ///
    /// # Errors
    /// The first failure of a capability, with what it had touched undone or safe to repeat.
    async fn execute(&self, inventory: &Inventory, topology: &T) -> Result<Outcome, ExecutorError>;
}

/// What an interpret did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whether anything had to be done.
    pub change: Change,
    /// One line for people.
    pub message: String,
    /// Single steps, in order, for people who want to know more.
    pub details: Vec<String>,
}

impl Outcome {
    /// An outcome without details.
    pub fn new(change: Change, message: impl Into<String>) -> Self {
        Self {
            change,
            message: message.into(),
            details: Vec::new(),
        }
    }
}
