//! What a device shall run, signed by an operator where the device asks for that.

use iot_contracts::{
    AgentStatus, DeploymentName, DesiredVersion, DeviceId, Hex, IotScore, Phase, RefusedEntry,
    SignedValue, desired_state_key,
};
use sha2::{Digest, Sha256};

use super::{Cause, Platform, PlatformError, request};
use crate::modules::iot::operator::Operator;

impl Platform {
    /// Says what a device should run; with an `operator`, so that a device that obeys that one believes it. What is given
    /// back is what the device's report calls it.
    ///
    /// # Errors
    /// When NATS does not take it, or the operator cannot sign.
    pub async fn deploy(
        &self,
        operator: Option<&Operator>,
        device_id: &DeviceId,
        deployment: &DeploymentName,
        score: &IotScore,
    ) -> Result<DesiredVersion, PlatformError> {
        match operator {
            Some(operator) => {
                let order = operator.order(device_id, deployment, Some(score))?;
                let counter = Some(order.counter);
                let value = serde_json::to_vec(&SignedValue::Signed(order));
                self.put(device_id, deployment, value, counter).await
            }
            None => {
                let value = serde_json::to_vec(score);
                self.put(device_id, deployment, value, None).await
            }
        }
    }

    /// Says that a device should no longer run a deployment. With an `operator` that is a value too, since a mark of
    /// deletion carries no signature; it stays in the bucket, for devices that are away.
    ///
    /// # Errors
    /// As [`Platform::deploy`].
    pub async fn undeploy(
        &self,
        operator: Option<&Operator>,
        device_id: &DeviceId,
        deployment: &DeploymentName,
    ) -> Result<(), PlatformError> {
        let Some(operator) = operator else {
            return self.delete_score(device_id, deployment).await;
        };
        let order = operator.order(device_id, deployment, None)?;
        let counter = Some(order.counter);
        let value = serde_json::to_vec(&SignedValue::Signed(order));
        let put = self.put(device_id, deployment, value, counter).await;
        put.map(drop)
    }

    pub(super) async fn put(
        &self,
        device_id: &DeviceId,
        deployment: &DeploymentName,
        value: Result<Vec<u8>, serde_json::Error>,
        counter: Option<u64>,
    ) -> Result<DesiredVersion, PlatformError> {
        let key = desired_state_key(device_id, deployment);
        let failed = |source: Cause| request("store", &key, source);
        let value = value.map_err(|e| failed(e.into()))?;
        let digest = Hex::<32>::from(<[u8; 32]>::from(Sha256::digest(&value)));
        let revision = self.write("store", &key, Some(value)).await?;
        Ok(DesiredVersion {
            revision,
            digest: format!("sha256:{digest}"),
            counter,
        })
    }
}

/// What a report says of a value that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// All its containers run.
    Runs,
    /// It is being worked on, or the device has not seen it yet.
    Open,
    /// The device does not obey it.
    Refused(RefusedEntry),
}

/// What `status` says of `version`.
pub fn fate(status: &AgentStatus, deployment: &DeploymentName, version: &DesiredVersion) -> Fate {
    let Some(status) = status.deployments.get(deployment) else {
        return Fate::Open;
    };
    if let Some(refused) = &status.refused
        && refused.revision >= version.revision
    {
        return Fate::Refused(refused.clone());
    }
    let is_it = status
        .desired
        .as_ref()
        .is_some_and(|desired| desired.digest == version.digest);
    match status.phase {
        Phase::Running if is_it => Fate::Runs,
        _ => Fate::Open,
    }
}

#[cfg(test)]
mod tests {
    use iot_contracts::{AgentStatus, DesiredVersion, Refusal, RefusedEntry};

    use super::{Fate, fate};

    /// What a report with this about `web` says of revision 7, whose digest is `b`.
    fn told(web: &str) -> Fate {
        let report = format!(
            r#"{{"device_id":"pi-1","timestamp_unix_ms":1,"boot_id":"b","agent_version":"0","architecture":"x",
            "sequence":1,"deployments":{{{web}}}}}"#
        );
        let status: AgentStatus = serde_json::from_str(&report).expect("a report");
        let version = DesiredVersion {
            revision: 7,
            digest: "b".to_owned(),
            counter: None,
        };
        fate(&status, &"web".parse().expect("valid"), &version)
    }

    #[test]
    fn a_value_runs_when_a_report_speaks_of_it() {
        let of = |phase: &str, digest: &str, refused: &str| {
            let desired = format!(r#""desired":{{"revision":6,"digest":"{digest}"}}"#);
            told(&format!(
                r#""web":{{"phase":"{phase}",{desired}{refused}}}"#
            ))
        };
        assert_eq!(of("Running", "b", ""), Fate::Runs);
        for (phase, digest) in [("Running", "a"), ("Pending", "b"), ("Failed", "b")] {
            assert_eq!(of(phase, digest, ""), Fate::Open, "{phase} {digest}");
        }
        assert_eq!(told(""), Fate::Open);
        assert_eq!(told(r#""web":{"phase":"Running"}"#), Fate::Open);
        let refused =
            |revision| format!(r#","refused":{{"revision":{revision},"reason":"unsigned"}}"#);
        for (revision, is_it) in [(6, false), (7, true), (8, true)] {
            let entry = RefusedEntry {
                revision,
                why: Refusal::Unsigned,
            };
            let expected = if is_it {
                Fate::Refused(entry)
            } else {
                Fate::Open
            };
            assert_eq!(of("Running", "a", &refused(revision)), expected);
        }
    }
}
