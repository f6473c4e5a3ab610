//! A device that does not boot: what devices have in common is booted and installed once, saved, and forked.
//!
//! ```text
//! key --> checkpoint? --no--> builder VM: boot, install, save --+
//!              |yes                                             v
//!              +----------------------------------------------> fork --> the device
//! ```
//! Each way that this can fail ends in a device that boots instead, with the reason in the log.

use tracing::{info, warn};

use crate::domain::error::{ExecutorError, error_chain};
use crate::domain::inventory::Inventory;
use crate::domain::maestro::Maestro;
use crate::domain::topology::Topology;
use crate::domain::topology::virtualization::{
    NetworkCard, OnChange, VirtualMachineHost, VirtualMachineSpec, while_running,
};
use crate::modules::kvm::checkpoint::{
    CheckpointError, CheckpointKey, CheckpointStore, StoredCheckpoint,
};
use crate::modules::kvm::topology::KvmVirtualMachineHost;

use super::device::InstallIotAgentScore;
use super::login::Login;

/// What the names of VMs that are saved begin with; the first digits of the key follow.
const BUILDER: &str = "harmony-checkpoint-";

/// How a device came about, or should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// It goes on from a checkpoint.
    Forked {
        /// Which one.
        key: CheckpointKey,
        /// Whether the checkpoint was made for it.
        made: bool,
    },
    /// It has to boot.
    Boot {
        /// Why.
        reason: String,
    },
}

/// Makes the VM of `spec`, which must not be there, from a checkpoint of a guest on which `install` was run; makes that
/// checkpoint when there is none.
///
/// # Errors
/// Only what would keep the device from booting as well: a wrong spec, or a host that cannot run it. Anything else
/// is [`Start::Boot`], and a warning.
pub(super) async fn fork_device(
    host: &KvmVirtualMachineHost,
    spec: &VirtualMachineSpec,
    install: &InstallIotAgentScore,
    login: &Login,
) -> Result<Start, ExecutorError> {
    let content = install.digest().await?;
    let key = match host.checkpoint_key(spec, &content).await {
        Ok(key) => key,
        Err(error) => match error.downcast_ref::<CheckpointError>() {
            Some(reason @ CheckpointError::Ineligible { .. }) => {
                return Ok(Start::Boot {
                    reason: reason.to_string(),
                });
            }
            _ => return Err(error),
        },
    };
    let start = match ready(host, spec, install, key, login).await {
        Ok((checkpoint, made)) => match host.fork(spec, &checkpoint).await {
            Ok(()) => return Ok(Start::Forked { key, made }),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let reason = error_chain(&start);
    warn!(%key, reason, "no device from a checkpoint, booting it");
    Ok(Start::Boot { reason })
}

/// The checkpoint, and whether it was made just now. One process makes it, and others wait for that.
async fn ready(
    host: &KvmVirtualMachineHost,
    spec: &VirtualMachineSpec,
    install: &InstallIotAgentScore,
    key: CheckpointKey,
    login: &Login,
) -> Result<(StoredCheckpoint, bool), ExecutorError> {
    let store = host.checkpoints();
    let _lock = store.lock(key).await?;
    match store.open(key) {
        Ok(Some(checkpoint)) => return Ok((checkpoint, false)),
        Ok(None) => info!(%key, "no checkpoint yet: booting and saving one"),
        Err(error) => {
            let reason = error_chain(&error);
            warn!(%key, reason, "the checkpoint cannot be used and is made anew");
        }
    }
    if let Err(error) = remove_abandoned(host, &store).await {
        let reason = error_chain(&error);
        warn!(reason, "what an interrupted run was saving is left");
    }
    let builder = builder(spec, key);
    let name = builder.name.clone();
    let built = build(host, &builder, install, login).await;
    let saved = match built {
        Ok(()) => host.save_checkpoint(&name, key).await,
        Err(error) => Err(error),
    };
    if saved.is_err()
        && let Err(error) = host.destroy_vm(&name).await
    {
        warn!(vm = name, error = %error, "left after a failure");
    }
    Ok((saved?, true))
}

/// Removes VMs that were being saved by processes that are gone.
async fn remove_abandoned(
    host: &KvmVirtualMachineHost,
    store: &CheckpointStore,
) -> Result<(), ExecutorError> {
    for name in host.vm_names().await? {
        let Some(short_key) = name.strip_prefix(BUILDER) else {
            continue;
        };
        // The lock lies beside the disk. One whose disk is in another pool is not ours to judge.
        if !CheckpointKey::is_short(short_key) || !host.disk(&name)?.exists() {
            continue;
        }
        // Held until it is gone, so that nobody begins to build it anew.
        if let Some(_lock) = store.try_lock(short_key)? {
            host.destroy_vm(&name).await?;
            info!(vm = name, "an interrupted run's, removed");
        }
    }
    Ok(())
}

/// The VM whose guest is saved.
fn builder(spec: &VirtualMachineSpec, key: CheckpointKey) -> VirtualMachineSpec {
    let networks = spec.networks.iter().map(|card| NetworkCard {
        mac: None,
        ..card.clone()
    });
    VirtualMachineSpec {
        name: format!("{BUILDER}{}", key.short()),
        uuid: None,
        networks: networks.collect(),
        ..spec.clone()
    }
}

async fn build(
    host: &KvmVirtualMachineHost,
    spec: &VirtualMachineSpec,
    install: &InstallIotAgentScore,
    login: &Login,
) -> Result<(), ExecutorError> {
    let name = spec.name.as_str();
    // What an interrupted run left may be half-way through anything.
    host.destroy_vm(name).await?;
    host.ensure_vm(spec, OnChange::Replace).await?;
    let bound = host.boot_timeout(name).await?;
    let address = host.wait_for_address(name, bound).await?;
    // Without its agent no fork of this guest can be had.
    let answers = host.guest(name).await?;
    answers.ensure_ready().await?;
    let provisioned = async {
        let guest = login.open(host, name, &address).await?;
        let mut maestro = Maestro::new(Inventory::new(host.pool()), guest);
        maestro.register(Box::new(install.clone()));
        maestro.run().await
    };
    while_running(host, name, "a checkpoint's installation", provisioned).await?;
    Ok(())
}
