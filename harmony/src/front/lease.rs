//! This program's hold on an ephemeral VM: when it ends, the VM goes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;
use uuid::Uuid;

use super::Error;
use super::claims::Claims;
use super::problem::VmError;
use crate::domain::topology::virtualization::VirtualMachineHost;
use crate::modules::kvm::VmName;

/// A claim that is held.
pub(super) struct Lease {
    claims: Claims,
    machines: Arc<dyn VirtualMachineHost>,
    name: VmName,
    is_over: AtomicBool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("claims", &self.claims)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// Claims the name for a machine that is not there yet.
    pub(super) async fn take(
        claims: Claims,
        machines: Arc<dyn VirtualMachineHost>,
        name: VmName,
        uuid: Uuid,
    ) -> Result<Self, Error> {
        claims.take(&*machines, &name, uuid).await?;
        Ok(Self {
            claims,
            machines,
            name,
            is_over: AtomicBool::new(false),
        })
    }

    /// Removes the VM and everything that was made for it.
    pub(super) async fn end(&self) -> Result<(), Error> {
        self.claims.release(&self.name)?;
        self.claims.remove(&*self.machines, &self.name).await?;
        self.is_over.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Lease {
    /// Starts the removal and waits for nothing. It has a thread of its own, since the runtime may be ending; when the
    /// program ends before it is done, the next sweep goes on with it.
    fn drop(&mut self) {
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        let (claims, name) = (self.claims.clone(), self.name.clone());
        let machines = Arc::clone(&self.machines);
        if let Err(error) = claims.release(&name) {
            warn!(vm = %name, %error, "an ephemeral VM stays until its program has ended");
        }
        let removal = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let removed = runtime
                .map_err(|error| {
                    let (what, reason) = ("its removal", error.to_string());
                    Error::from(VmError::GivenUp { what, reason })
                })
                .and_then(|runtime| runtime.block_on(claims.remove(&*machines, &name)));
            if let Err(error) = removed {
                warn!(vm = %name, %error, "an ephemeral VM is left for the next sweep");
            }
        };
        let thread = std::thread::Builder::new().name("harmony-removal".to_owned());
        if let Err(error) = thread.spawn(removal) {
            warn!(vm = %self.name, %error, "an ephemeral VM is left for the next sweep");
        }
    }
}
