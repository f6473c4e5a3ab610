//! The checks of the preflight that ask libvirt.

use std::path::Path;

use crate::domain::error::{ExecutorError, HintedError, error_chain};
use crate::domain::topology::Topology;
use crate::domain::topology::virtualization::{Accelerator, VmArchitecture, VmNetwork};
use crate::modules::host::{Distribution, HostFacts, HostPackage};
use crate::modules::kvm::KvmError;
use crate::modules::kvm::connection::ConnectionUri;
use crate::modules::kvm::params::check_network;
use crate::modules::kvm::topology::KvmVirtualMachineHost;

use super::PreflightOptions;
use super::report::{Check, CheckResult};

/// Whether libvirt answers, its pool can be written, and the networks are there.
pub(super) async fn connection_checks(
    options: &PreflightOptions,
    host: &KvmVirtualMachineHost,
) -> Vec<Check> {
    if let Err(error) = host.ensure_ready().await {
        let hint = error.hint().map(str::to_owned);
        return vec![
            libvirt(failed(&error_chain(&error).replace('\n', ";"), hint)),
            network(CheckResult::Skipped {
                reason: "libvirt does not answer".to_owned(),
            }),
        ];
    }
    let version = host.facts().await.libvirt_version();
    let version = version.map_or_else(String::new, |v| format!(" (libvirt {v})"));
    let mut checks = vec![
        libvirt(CheckResult::Ok {
            detail: format!("{} answers{version}", host.uri()),
        }),
        pool(host),
    ];
    for wanted in &options.networks {
        checks.push(network(
            network_result(host, options.architecture, wanted).await,
        ));
    }
    checks
}

/// That no connection could be chosen.
pub(super) fn no_connection(error: &KvmError) -> Check {
    libvirt(failed(&error.to_string(), error.hint()))
}

fn failed(cause: &str, hint: Option<String>) -> CheckResult {
    CheckResult::Fail {
        cause: cause.to_owned(),
        hint: hint.unwrap_or_default(),
    }
}

fn libvirt(result: CheckResult) -> Check {
    Check {
        name: "libvirt",
        why: "managing the guest",
        result,
    }
}

fn network(result: CheckResult) -> Check {
    Check {
        name: "network",
        why: "reaching the guest",
        result,
    }
}

fn pool(host: &KvmVirtualMachineHost) -> Check {
    let pool = host.pool();
    let result = match host.uri() {
        // Made when it is needed, below the user's own directory.
        ConnectionUri::Session => CheckResult::Ok {
            detail: pool.display().to_string(),
        },
        ConnectionUri::System => match rustix::fs::access(&pool, rustix::fs::Access::WRITE_OK) {
            Ok(()) => CheckResult::Ok {
                detail: pool.display().to_string(),
            },
            Err(error) => failed(
                &format!("{} cannot be written: {error}", pool.display()),
                Some("run as root, or use --connect qemu:///session".to_owned()),
            ),
        },
    };
    Check {
        name: "pool",
        why: "the guest's disk",
        result,
    }
}

fn user_network(facts: &HostFacts, guest: VmArchitecture, wanted: &VmNetwork) -> CheckResult {
    if facts.programs.passt.is_none() {
        let install = Distribution::of_host().install_command(HostPackage::Passt);
        return failed("passt is not on PATH", Some(install));
    }
    let capabilities = facts.capabilities(guest, Accelerator::Tcg);
    match check_network("network", wanted, capabilities, facts) {
        Ok(how) => CheckResult::Ok {
            detail: format!("user networking {how}"),
        },
        Err(violation) => failed(&violation.to_string(), Some(violation.fix)),
    }
}

async fn network_result(
    host: &KvmVirtualMachineHost,
    architecture: VmArchitecture,
    wanted: &VmNetwork,
) -> CheckResult {
    match wanted {
        VmNetwork::User { .. } => user_network(host.facts().await, architecture, wanted),
        VmNetwork::Nat { network } => {
            let result: Result<(), ExecutorError> = host.check_network(network).await;
            match result {
                Ok(()) => CheckResult::Ok {
                    detail: format!("the libvirt network {network} is active"),
                },
                Err(error) => failed(&error.to_string(), error.hint().map(str::to_owned)),
            }
        }
        VmNetwork::Bridge { name } => {
            if Path::new("/sys/class/net")
                .join(name)
                .join("bridge")
                .exists()
            {
                CheckResult::Ok {
                    detail: format!("the bridge {name} is there"),
                }
            } else {
                failed(
                    &format!("this host has no bridge {name}"),
                    Some("make the bridge, or use the network 'user'".to_owned()),
                )
            }
        }
    }
}
