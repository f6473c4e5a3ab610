//! A release of the agent, for devices that are there.

use std::cell::RefCell;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use harmony::domain::error::ExecutorError;
use harmony::modules::iot::device::{ServerCa, names_loopback, released_program};
use harmony::modules::iot::operator::Operator;
use harmony::modules::iot::platform::{Platform, ReleaseFate, release_fate};
use harmony::modules::kvm::VmName;
use iot_contracts::{
    AgentProgram, AgentRelease, AgentStatus, DeviceId, ReleaseUrl, ReleasedProgram, UpdateConfig,
};
use serde::Serialize;
use tracing::info;

use crate::agent::{agent_binary, platform_config};
use crate::args::Args;
use crate::error::SetupError;
use crate::output::{print, print_json};

/// How long a device may take: an emulated one fetches slowly, and has 10 minutes to prove the program.
const BOUND: Duration = Duration::from_secs(1800);

/// Whose updates a new device takes; a new key where the file is not there.
pub(crate) fn update_config(args: &Args) -> Result<Option<UpdateConfig>, ExecutorError> {
    let Some(path) = &args.release_key else {
        return Ok(None);
    };
    Ok(Some(UpdateConfig {
        keys: vec![Operator::ensure(path)?.key().clone()],
        ca: None,
        prove_within_seconds: Default::default(),
    }))
}

/// The authority of the servers of releases, to be put on the devices.
pub(crate) fn releases_ca(args: &Args) -> Result<Option<ServerCa>, ExecutorError> {
    let path = args.release_ca.as_deref();
    Ok(path.map(ServerCa::read).transpose()?)
}

/// What is asked for, read and checked before anything is made or said.
#[derive(Debug)]
struct Request {
    operator: Operator,
    program: ReleasedProgram,
}

impl Request {
    fn read(args: &Args, key: &Path, url: &ReleaseUrl) -> Result<Self, ExecutorError> {
        if names_loopback(url.as_str()) {
            return Err(SetupError::LoopbackRelease { url: url.clone() }.into());
        }
        // A key that is made now is one that no device trusts.
        let operator = Operator::open(key)?;
        let path = agent_binary(args)?;
        Ok(Self {
            operator,
            program: released_program(&path, args.arch, url.clone())?,
        })
    }
}

/// A device that runs what was released.
#[derive(Debug, Serialize)]
struct Updated {
    device_id: DeviceId,
    serial: u64,
    sha256: String,
    agent_version: String,
    /// Where the program lies; absent where the report does not tell.
    program: Option<AgentProgram>,
}

/// Has each device update its agent, one after the other, and waits until it runs the program. The first that does not
/// is the last that is asked, so that a bad release does not reach them all.
pub(crate) async fn run(
    args: &Args,
    key: &Path,
    url: &ReleaseUrl,
    names: &[VmName],
) -> Result<ExitCode, ExecutorError> {
    let request = Request::read(args, key, url)?;
    let ids = names.iter().map(|name| name.hostname().parse());
    let ids: Vec<DeviceId> = ids.collect::<Result<_, _>>().map_err(SetupError::Config)?;
    let platform = Platform::connect(&platform_config(args).await?).await?;
    let release = request.operator.release(&request.program)?;
    let mut updated = Vec::with_capacity(ids.len());
    for device_id in ids {
        let status = update(&platform, &device_id, &release).await?;
        updated.push(Updated {
            device_id,
            serial: release.serial(),
            sha256: release.sha256().to_string(),
            agent_version: status.agent_version,
            program: status.update.map(|update| update.program),
        });
    }
    match (args.json, args.count, updated.as_slice()) {
        (true, None, [one]) => print_json(one),
        (true, _, all) => print_json(&all),
        (false, _, all) => {
            let lines = all.iter().map(|device| {
                let Updated {
                    device_id,
                    serial,
                    agent_version,
                    ..
                } = device;
                format!("device {device_id} runs agent {agent_version} of release {serial}\n")
            });
            print(&lines.collect::<String>())
        }
    }
}

/// Tells a device, and waits until it runs the program.
async fn update(
    platform: &Platform,
    device_id: &DeviceId,
    release: &AgentRelease,
) -> Result<AgentStatus, ExecutorError> {
    let put = platform.put_release(device_id, release).await?;
    let revision = put.revision();
    info!(device = %device_id, serial = release.serial(), sha256 = %release.sha256(), revision, "released");
    let told = RefCell::new(None);
    let is_over = |status: &AgentStatus| match release_fate(status, &put) {
        ReleaseFate::Open { detail } => {
            let is_news = *told.borrow() != detail;
            if is_news && let Some(detail) = &detail {
                info!(device = %device_id, detail, "the device tries again");
            }
            told.replace(detail);
            false
        }
        _ => true,
    };
    let awaited = format!("the agent of release {}", release.serial());
    let status = platform
        .wait_for_status(device_id, &awaited, BOUND, is_over)
        .await?;
    match outcome(device_id, release_fate(&status, &put)) {
        Some(error) => Err(error.into()),
        None => Ok(status),
    }
}

/// What is wrong with how a release fared.
fn outcome(device_id: &DeviceId, fate: ReleaseFate) -> Option<SetupError> {
    let device_id = device_id.clone();
    match fate {
        ReleaseFate::Proven | ReleaseFate::Open { .. } => None,
        ReleaseFate::Refused { why } => Some(SetupError::ReleaseRefused { device_id, why }),
        ReleaseFate::Failed { why } => Some(SetupError::ReleaseFailed { device_id, why }),
        ReleaseFate::Replaced { revision } => Some(SetupError::ReleaseReplaced {
            device_id,
            revision,
        }),
    }
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
