//! What the devices are told to run.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use harmony::domain::error::ExecutorError;
use harmony::modules::iot::operator::Operator;
use harmony::modules::iot::platform::{Fate, Platform, fate};
use iot_contracts::{ContractError, DeploymentName, DeviceId, IotScore};
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
            platform
                .wait_for_status(device_id, &awaited, BOUND, |status| {
                    status.deployments_left_out == 0 && !status.deployments.contains_key(name)
                })
                .await?;
        }
        for (name, score) in &self.wanted {
            let version = platform.deploy(operator, device_id, name, score).await?;
            let awaited = format!("deployment {name}");
            let status = platform
                .wait_for_status(device_id, &awaited, BOUND, |status| {
                    fate(status, name, &version) != Fate::Open
                })
                .await?;
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
mod tests {
    use super::DeployArg;

    #[test]
    fn a_deployment_is_a_name_and_a_file() {
        let arg: DeployArg = "web=a=b.json".parse().expect("valid");
        assert_eq!(arg.name.as_str(), "web");
        assert_eq!(arg.file.to_str(), Some("a=b.json"));
        for (text, part) in [
            ("web", "expected NAME=FILE"),
            ("W=f", "deployment name 'W'"),
        ] {
            let error = text.parse::<DeployArg>().expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
