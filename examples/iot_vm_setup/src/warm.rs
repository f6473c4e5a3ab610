//! A new device from a checkpoint, where that is possible.

use std::path::Path;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::{
    GuestAddress, VirtualMachineHost, VirtualMachineSpec, VmStatus,
};
use harmony::modules::iot::device::InstallIotAgentScore;
use harmony::modules::iot::warm::{Start, fork_device};
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::ssh::SshKeyPair;

use crate::args::Args;
use crate::setup::{Stages, log_in};

/// Makes the device from a checkpoint and returns true, or leaves it to be booted.
pub(crate) async fn start(
    args: &Args,
    host: &KvmVirtualMachineHost,
    spec: &VirtualMachineSpec,
    agent_binary: &Path,
    keys: &SshKeyPair,
    stages: &mut Stages,
) -> Result<bool, ExecutorError> {
    if !args.warm || host.vm_status(&spec.name).await? != VmStatus::Absent {
        return Ok(false);
    }
    let install = InstallIotAgentScore {
        agent_binary: agent_binary.to_owned(),
        architecture: args.arch,
        insecure_registries: args.insecure_registry.clone(),
    };
    let log_in = async |name: &str, address: &GuestAddress| {
        let bound = host.boot_timeout(name).await?;
        log_in(name, address, keys, bound).await
    };
    match fork_device(host, spec, &install, log_in).await? {
        Start::Forked { key, made } => {
            let made = if made { ", made just now" } else { "" };
            stages.end("fork", format!("from checkpoint {}{made}", key.short()));
            Ok(true)
        }
        Start::Boot { reason } => {
            tracing::info!(reason, "the device boots");
            Ok(false)
        }
    }
}
