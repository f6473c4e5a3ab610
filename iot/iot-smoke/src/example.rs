//! The devices that `example_iot_vm_setup` makes.

use std::path::PathBuf;
use std::process::Stdio;

use iot_contracts::AgentStatus;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::Failure;
use crate::guest::Login;

/// What it prints of a device, as far as it is needed here.
#[derive(Debug, Clone, Deserialize)]
pub struct Device {
    /// The machine's name.
    pub name: String,
    /// How to log in.
    pub ssh: Login,
    /// The console's log.
    pub console_log: PathBuf,
    /// The UEFI variable store.
    pub nvram: PathBuf,
    /// The guest's default gateway.
    pub default_gateway: Option<String>,
    /// The image that its disk is an overlay of.
    pub image: PathBuf,
    /// Whether packages had to be installed in the guest.
    pub packages_installed: bool,
    /// Whether it was made from a checkpoint.
    pub forked: bool,
    /// How it came about.
    pub stages: Vec<Stage>,
    /// Its report.
    pub heartbeat: AgentStatus,
}

/// One stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stage {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// Runs the example, which must succeed, and returns its devices: one, or those of `--count`.
///
/// # Errors
/// When it fails or prints something else.
pub async fn devices(example: &mut Command) -> Result<Vec<Device>, Failure> {
    let output = example
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?
        .wait_with_output()
        .await?;
    if !output.status.success() {
        return Err(format!("example_iot_vm_setup failed: {}", output.status).into());
    }
    let printed: OneOrMany = serde_json::from_slice(&output.stdout)?;
    Ok(match printed {
        OneOrMany::One(device) => vec![*device],
        OneOrMany::Many(devices) => devices,
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Device>),
    One(Box<Device>),
}
