//! What is asked of a device in NATS, and what it says of that.

use std::path::Path;
use std::time::Duration;

use harmony::domain::topology::virtualization::while_running;
use harmony::modules::iot::platform::{DeviceRegistry, Platform};
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_contracts::{AgentStatus, DeploymentName, DeviceId, IotScore, NatsUrl, Phase};
use serde_json::json;

use crate::Failure;

/// A connection to the server that knows the devices of a registry, as the platform.
///
/// # Errors
/// When the registry cannot be read, or the server cannot be reached.
pub async fn connect(registry: &Path, nats_url: &str) -> Result<Platform, Failure> {
    let url: NatsUrl = nats_url.parse()?;
    let nats = DeviceRegistry::new(registry).platform_config(url.into())?;
    Ok(Platform::connect(&nats).await?)
}

/// A deployment of one container.
///
/// # Errors
/// When the image's name is none.
pub fn one_service(image: &str) -> Result<IotScore, Failure> {
    Ok(serde_json::from_value(json!({
        "type": "PodmanV0",
        "data": { "services": [{ "name": "workload", "image": image }] },
    }))?)
}

/// A device's report that fulfils a condition, unless its VM stops before.
///
/// # Errors
/// When none comes within `bound`, or the VM does not run.
pub async fn report_of_running(
    host: &KvmVirtualMachineHost,
    vm: &str,
    platform: &Platform,
    device_id: &DeviceId,
    awaited: &'static str,
    bound: Duration,
    condition: impl Fn(&AgentStatus) -> bool,
) -> Result<AgentStatus, Failure> {
    let report = async {
        let report = platform.wait_for_status(device_id, awaited, bound, condition);
        Ok(report.await?)
    };
    Ok(while_running(host, vm, awaited, report).await?)
}

/// Whether a report says that a deployment runs.
pub fn runs(status: &AgentStatus, name: &DeploymentName) -> bool {
    status
        .deployments
        .get(name)
        .is_some_and(|deployment| deployment.phase == Phase::Running)
}

/// A loopback address of this host, as a guest with user networking reaches it.
///
/// # Errors
/// When it is one, and the guest has no gateway.
pub fn as_guest_sees(address: &str, gateway: Option<&str>) -> Result<String, Failure> {
    match (address.strip_prefix("127.0.0.1:"), gateway) {
        (None, _) => Ok(address.to_owned()),
        (Some(port), Some(gateway)) => Ok(format!("{gateway}:{port}")),
        (Some(_), None) => Err("the guest has no default gateway".into()),
    }
}
