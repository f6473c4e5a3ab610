//! What the devices are told to run.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use harmony::domain::error::ExecutorError;
use harmony::modules::iot::operator::Operator;
use harmony::modules::iot::platform::{Fate, Platform, PlatformError, fate};
use iot_contracts::{
    AgentStatus, ContractError, DeploymentName, DesiredVersion, DeviceId, IotScore,
};
use tracing::info;

use crate::args::Args;
use crate::error::SetupError;

/// How long a deployment may take: an emulated device pulls its images.
const BOUND: Duration = Duration::from_secs(1800);

/// A deployment and the file with its score: `NAME=FILE`.
#[derive(Debug, Clone)]
pub(crate) struct DeployArg {
    name: DeploymentName,
    file: PathBuf,
}

impl FromStr for DeployArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, file) = text
            .split_once('=')
            .ok_or("expected NAME=FILE".to_owned())?;
        Ok(Self {
            name: name.parse().map_err(|e: ContractError| e.to_string())?,
            file: file.into(),
        })
    }
}

/// What is asked for, read before anything is made.
pub(crate) struct Deployments {
    operator: Option<Operator>,
    wanted: Vec<(DeploymentName, IotScore)>,
    unwanted: Vec<DeploymentName>,
}

impl Deployments {
    pub(crate) fn read(args: &Args) -> Result<Self, ExecutorError> {
        let wanted = args.deploy.iter().map(|arg| {
            let score = read_score(&arg.file)?;
            Ok((arg.name.clone(), score))
        });
        Ok(Self {
            operator: operator(args)?,
            wanted: wanted.collect::<Result<_, SetupError>>()?,
            unwanted: args.undeploy.clone(),
        })
    }

    /// Tells a device, and waits until it has done so.
    pub(crate) async fn apply(
        &self,
        platform: &Platform,
        device_id: &DeviceId,
    ) -> Result<(), ExecutorError> {
        let operator = self.operator.as_ref();
        for name in &self.unwanted {
            platform.undeploy(operator, device_id, name).await?;
            let awaited = format!("the end of deployment {name}");
            let is_gone = |status: &AgentStatus| {
                status.deployments_left_out == 0 && !status.deployments.contains_key(name)
            };
            let of = |status: &AgentStatus| reason(status, name, None);
            wait(platform, device_id, name, &awaited, of, is_gone).await?;
        }
        for (name, score) in &self.wanted {
            let version = platform.deploy(operator, device_id, name, score).await?;
            let awaited = format!("deployment {name}");
            let is_over = |status: &AgentStatus| fate(status, name, &version) != Fate::Open;
            let of = |status: &AgentStatus| reason(status, name, Some(&version));
            let status = wait(platform, device_id, name, &awaited, of, is_over).await?;
            if let Fate::Refused(entry) = fate(&status, name, &version) {
                return Err(SetupError::Refused {
                    device_id: device_id.clone(),
                    deployment: name.clone(),
                    why: entry.why,
                }
                .into());
            }
            info!(device = %device_id, deployment = %name, revision = version.revision, "runs");
        }
        Ok(())
    }
}

/// Waits for a report by which it is over, and passes on why it is not yet: each reason when it changes, the last one with
/// the error.
async fn wait(
    platform: &Platform,
    device_id: &DeviceId,
    name: &DeploymentName,
    awaited: &str,
    reason: impl Fn(&AgentStatus) -> Option<String>,
    is_over: impl Fn(&AgentStatus) -> bool,
) -> Result<AgentStatus, ExecutorError> {
    let heard = Heard::default();
    let hears = |status: &AgentStatus| {
        if is_over(status) {
            return true;
        }
        if let Some(news) = heard.news(reason(status)) {
            info!(device = %device_id, deployment = %name, "not yet: {news}");
        }
        false
    };
    let waited = platform.wait_for_status(device_id, awaited, BOUND, hears);
    waited.await.map_err(|error| with_reason(error, heard))
}

/// The last reason that was heard.
#[derive(Debug, Default)]
struct Heard(RefCell<Option<String>>);

impl Heard {
    /// The reason, where it is another one than the last.
    fn news(&self, reason: Option<String>) -> Option<String> {
        let news = reason.filter(|reason| self.0.borrow().as_ref() != Some(reason))?;
        self.0.replace(Some(news.clone()));
        Some(news)
    }
}

/// What a report says of why a deployment is not where it shall be; with a `version`, of that one only.
fn reason(
    status: &AgentStatus,
    name: &DeploymentName,
    version: Option<&DesiredVersion>,
) -> Option<String> {
    let status = status.deployments.get(name)?;
    let told = status.desired.as_ref().map(|told| &told.digest);
    let is_it = version.is_none_or(|version| told == Some(&version.digest));
    let detail = status.detail.as_ref().filter(|_| is_it)?;
    Some(format!("{:?}: {detail}", status.phase))
}

/// That it took too long is said with the last reason, where one was heard.
fn with_reason(error: PlatformError, heard: Heard) -> ExecutorError {
    match (error, heard.0.into_inner()) {
        (
            PlatformError::TimedOut {
                device_id,
                awaited,
                bound,
                ..
            },
            Some(reason),
        ) => SetupError::Late {
            device_id,
            awaited,
            bound,
            reason,
        }
        .into(),
        (error, _) => error.into(),
    }
}

/// Who signs, where anyone does; a new key where the file is not there.
pub(crate) fn operator(args: &Args) -> Result<Option<Operator>, ExecutorError> {
    let path = args.operator_key.as_deref();
    Ok(path.map(Operator::ensure).transpose()?)
}

fn read_score(path: &Path) -> Result<IotScore, SetupError> {
    let failed = |reason: String| SetupError::Score {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    // The parser's message may quote a value of an environment.
    serde_json::from_slice(&text)
        .map_err(|e| failed(format!("line {}, column {}", e.line(), e.column())))
}

#[cfg(test)]
#[path = "deployments_tests.rs"]
mod tests;
