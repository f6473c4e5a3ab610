//! The score of one virtual machine.

use async_trait::async_trait;

use crate::domain::error::ExecutorError;
use crate::domain::interpret::{Change, Interpret, Outcome};
use crate::domain::inventory::Inventory;
use crate::domain::score::Score;
use crate::domain::topology::virtualization::{
    Ensured, OnChange, VirtualMachineHost, VirtualMachineSpec,
};

/// A virtual machine that should exist and run.
#[derive(Debug, Clone)]
pub struct ProvisionVmScore {
    /// The machine.
    pub spec: VirtualMachineSpec,
    /// What to do when it exists and differs.
    pub on_change: OnChange,
}

impl<T: VirtualMachineHost> Score<T> for ProvisionVmScore {
    fn name(&self) -> String {
        format!("ProvisionVm({})", self.spec.name)
    }

    fn create_interpret(&self) -> Box<dyn Interpret<T>> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl<T: VirtualMachineHost> Interpret<T> for ProvisionVmScore {
    async fn execute(&self, _: &Inventory, host: &T) -> Result<Outcome, ExecutorError> {
        let ensured = host.ensure_vm(&self.spec, self.on_change).await?;
        let (change, what) = match ensured {
            Ensured::Unchanged => (Change::Unchanged, "runs as specified"),
            Ensured::Started => (Change::Changed, "existed and was started"),
            Ensured::Created => (Change::Changed, "was created and started"),
            Ensured::Replaced => (Change::Changed, "was replaced and started"),
        };
        let message = format!("{} VM {} {what}", self.spec.architecture, self.spec.name);
        Ok(Outcome::new(change, message))
    }
}
