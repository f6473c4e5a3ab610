//! What should exist.

use std::fmt::Debug;

use super::interpret::Interpret;
use super::topology::Topology;

/// A declaration of desired state for a topology `T`. Creating and inspecting one has no effect.
pub trait Score<T: Topology>: Debug + Send + Sync {
    /// A short name for logs and reports, for example `ProvisionVm(edge-01)`.
    fn name(&self) -> String;

    /// The interpret that makes this score true.
    fn create_interpret(&self) -> Box<dyn Interpret<T>>;
}
