//! Whether this host can run a device, before anything is fetched or made.
//!
//! A preflight is a list of values: every check is run and reported, none hides another. It looks at
//! the same connection, the same directories and the same facts that the run will use, and changes nothing.

mod checks;
#[cfg(feature = "kvm")]
mod libvirt;
mod report;

use std::path::PathBuf;

use crate::domain::error::ExecutorError;
use crate::domain::topology::virtualization::{
    AcceleratorChoice, CpuProfile, FirmwareChoice, VmArchitecture, VmNetwork,
};
#[cfg(feature = "kvm")]
use crate::modules::kvm::{connection::ConnectionUri, topology::KvmVirtualMachineHost};

pub use report::{Check, CheckResult, PreflightFailed, PreflightReport};

/// What the run will use.
#[derive(Debug, Clone)]
pub struct PreflightOptions {
    /// The guest's architecture.
    pub architecture: VmArchitecture,
    /// The accelerator that will be asked for.
    pub accelerator: AcceleratorChoice,
    /// The CPU that will be asked for.
    pub cpu: CpuProfile,
    /// The firmware that will be asked for.
    pub firmware: FirmwareChoice,
    /// The networks.
    pub networks: Vec<VmNetwork>,
    /// The libvirt connection; none chooses as the run does.
    #[cfg(feature = "kvm")]
    pub connect: Option<ConnectionUri>,
    /// The directory for images, keys and state.
    pub data_dir: PathBuf,
}

impl PreflightOptions {
    /// For a device with the spec's defaults and user networking.
    pub fn for_arch(architecture: VmArchitecture, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            architecture,
            accelerator: AcceleratorChoice::default(),
            cpu: CpuProfile::default(),
            firmware: FirmwareChoice::default(),
            networks: vec![VmNetwork::USER],
            #[cfg(feature = "kvm")]
            connect: None,
            data_dir: data_dir.into(),
        }
    }
}

/// Checks whether this host can run the IoT smoke with guests of an architecture: user networking, the
/// accelerator chosen by proof, harmony's own data directory.
///
/// # Errors
/// [`PreflightFailed`] with every finding when at least one check fails, and an error when no data
/// directory can be determined.
pub async fn check_iot_smoke_preflight_for_arch(
    architecture: VmArchitecture,
) -> Result<PreflightReport, ExecutorError> {
    let options = PreflightOptions::for_arch(architecture, super::assets::data_dir()?);
    run_preflight(&options).await.into_result()
}

/// The same for the x86_64 device.
///
/// # Errors
/// As [`check_iot_smoke_preflight_for_arch`].
pub async fn check_iot_smoke_preflight() -> Result<PreflightReport, ExecutorError> {
    check_iot_smoke_preflight_for_arch(VmArchitecture::X86_64).await
}

/// Runs every check, on the connection that the run would choose.
#[cfg(feature = "kvm")]
pub async fn run_preflight(options: &PreflightOptions) -> PreflightReport {
    match ConnectionUri::choose(options.connect).await {
        Ok(uri) => {
            let host = KvmVirtualMachineHost::new(uri, &options.data_dir);
            run_preflight_on(options, &host).await
        }
        Err(error) => PreflightReport {
            checks: vec![libvirt::no_connection(&error)],
        },
    }
}

/// Runs every check on the host that the run will use, whose facts are then read already.
#[cfg(feature = "kvm")]
pub async fn run_preflight_on(
    options: &PreflightOptions,
    host: &KvmVirtualMachineHost,
) -> PreflightReport {
    let facts = host.facts().await;
    let mut checks = checks::local(options, facts);
    checks.extend(libvirt::connection_checks(options, host).await);
    checks.extend(checks::space_and_images(options, facts));
    PreflightReport { checks }
}

/// Runs every check that needs no libvirt, which this build does not have.
#[cfg(not(feature = "kvm"))]
pub async fn run_preflight(options: &PreflightOptions) -> PreflightReport {
    let directories = [options.data_dir.clone()];
    let facts = crate::modules::host::HostFacts::read(&directories).await;
    let mut checks = checks::local(options, &facts);
    checks.push(Check {
        name: "libvirt",
        why: "managing the guest",
        result: CheckResult::Skipped {
            reason: "this build has no libvirt (feature kvm)".to_owned(),
        },
    });
    checks.extend(checks::space_and_images(options, &facts));
    PreflightReport { checks }
}
