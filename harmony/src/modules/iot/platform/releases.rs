//! Which program of the agent's a device shall run.

use iot_contracts::{AgentRelease, AgentStatus, DeviceId, UpdatePhase, agent_release_key};

use super::{Cause, Platform, PlatformError, request};

impl Platform {
    /// Says which program of the agent's a device should run. What is given back is the revision by which the device's
    /// report calls it.
    ///
    /// # Errors
    /// When NATS does not take it.
    pub async fn put_release(
        &self,
        device_id: &DeviceId,
        release: &AgentRelease,
    ) -> Result<u64, PlatformError> {
        let key = agent_release_key(device_id);
        let failed = |source: Cause| request("store", &key, source);
        let value = serde_json::to_vec(release).map_err(|e| failed(e.into()))?;
        self.write("store", &key, Some(value)).await
    }
}

/// What a report says of a release that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseFate {
    /// It runs, and a report of it was stored.
    Proven,
    /// It is on its way, or the device has not seen it yet.
    Open {
        /// What keeps it, where something does.
        detail: Option<String>,
    },
    /// The device does not take it.
    Refused {
        /// Why, for people.
        why: String,
    },
    /// It did not prove itself, and the program before runs.
    Failed {
        /// Why, for people.
        why: String,
    },
    /// Another one was put after it.
    Replaced {
        /// With which revision.
        revision: u64,
    },
}

/// What `status` says of the release that was put with this revision.
pub fn release_fate(status: &AgentStatus, revision: u64) -> ReleaseFate {
    let last = status
        .update
        .as_ref()
        .and_then(|update| update.last.as_ref());
    let Some(last) = last.filter(|last| last.revision >= revision) else {
        return ReleaseFate::Open { detail: None };
    };
    if last.revision > revision {
        return ReleaseFate::Replaced {
            revision: last.revision,
        };
    }
    let detail = last.detail.clone();
    let why = || {
        detail
            .clone()
            .unwrap_or_else(|| "no reason told".to_owned())
    };
    match last.phase {
        UpdatePhase::Proven => ReleaseFate::Proven,
        UpdatePhase::Refused => ReleaseFate::Refused { why: why() },
        UpdatePhase::Failed => ReleaseFate::Failed { why: why() },
        UpdatePhase::Fetching | UpdatePhase::Trying | UpdatePhase::Unknown => {
            ReleaseFate::Open { detail }
        }
    }
}

#[cfg(test)]
mod tests {
    use iot_contracts::AgentStatus;

    use super::{ReleaseFate, release_fate};

    /// What a report with this as its update says of revision 7.
    fn told(update: &str) -> ReleaseFate {
        let report = format!(
            r#"{{"device_id":"pi-1","timestamp_unix_ms":1,"boot_id":"b","agent_version":"0","architecture":"x",
            "sequence":1{update}}}"#
        );
        let status: AgentStatus = serde_json::from_str(&report).expect("a report");
        release_fate(&status, 7)
    }

    #[test]
    fn a_report_speaks_of_one_revision() {
        let of = |revision: u64, phase: &str, detail: &str| {
            told(&format!(
                r#","update":{{"program":"a","last":{{"revision":{revision},"phase":"{phase}"{detail}}}}}"#
            ))
        };
        let open = ReleaseFate::Open { detail: None };
        assert_eq!(told(""), open);
        assert_eq!(told(r#","update":{"program":"installed"}"#), open);
        // How an earlier one went is no answer, and a later one takes its place.
        for phase in ["Proven", "Refused", "Failed", "Fetching"] {
            assert_eq!(of(6, phase, ""), open, "{phase}");
            let replaced = ReleaseFate::Replaced { revision: 8 };
            assert_eq!(of(8, phase, ""), replaced, "{phase}");
        }
        assert_eq!(of(7, "Proven", ""), ReleaseFate::Proven);
        for phase in ["Fetching", "Trying", "Dreaming"] {
            assert_eq!(of(7, phase, ""), open, "{phase}");
        }
        let (detail, why) = (r#","detail":"d""#, "d".to_owned());
        let slow = ReleaseFate::Open {
            detail: Some(why.clone()),
        };
        assert_eq!(of(7, "Fetching", detail), slow);
        let refused = ReleaseFate::Refused { why: why.clone() };
        assert_eq!(of(7, "Refused", detail), refused);
        assert_eq!(of(7, "Failed", detail), ReleaseFate::Failed { why });
    }
}
