//! Which program of the agent's a device shall run.

use iot_contracts::{
    AgentRelease, AgentStatus, DeviceId, Hex, LastUpdate, UpdatePhase, agent_release_key,
};

use super::{Cause, Platform, PlatformError, request};

impl Platform {
    /// Says which program of the agent's a device should run. What is given back is for [`release_fate`].
    ///
    /// # Errors
    /// When NATS does not take it, or does not tell the device's last report.
    pub async fn put_release(
        &self,
        device_id: &DeviceId,
        release: &AgentRelease,
    ) -> Result<PutRelease, PlatformError> {
        let key = agent_release_key(device_id);
        let failed = |source: Cause| request("store", &key, source);
        let value = serde_json::to_vec(release).map_err(|e| failed(e.into()))?;
        let before = self.status(device_id).await?;
        let revision = self.write("store", &key, Some(value)).await?;
        Ok(PutRelease {
            revision,
            sha256: release.sha256(),
            before: before.and_then(last_update),
        })
    }
}

/// A release that was put, and how a device's report of it is told from those of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRelease {
    revision: u64,
    sha256: Hex<32>,
    /// The update that the device reported before.
    before: Option<LastUpdate>,
}

impl PutRelease {
    /// The revision by which the device's report calls it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether `last` speaks of this release. A refusal names no program: that of an earlier bucket's release, which had the
    /// same revision, is known by being told again.
    fn is_of(&self, last: &LastUpdate) -> bool {
        let is_it = match last.sha256 {
            Some(told) => told == self.sha256,
            None => self.before.as_ref() != Some(last),
        };
        is_it && last.revision == self.revision
    }

    /// Whether `last` speaks of what was reported before, by a revision of an earlier bucket: a bucket that is made anew
    /// begins with revision 1.
    fn is_of_an_earlier_bucket(&self, last: &LastUpdate) -> bool {
        let is_told_again =
            |before: &LastUpdate| (before.revision, before.sha256) == (last.revision, last.sha256);
        last.revision > self.revision && self.before.as_ref().is_some_and(is_told_again)
    }
}

fn last_update(status: AgentStatus) -> Option<LastUpdate> {
    status.update.and_then(|update| update.last)
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

/// What `status` says of a release that was put.
pub fn release_fate(status: &AgentStatus, put: &PutRelease) -> ReleaseFate {
    let last = status
        .update
        .as_ref()
        .and_then(|update| update.last.as_ref());
    let open = ReleaseFate::Open { detail: None };
    let Some(last) = last else {
        return open;
    };
    if !put.is_of(last) {
        let is_later = last.revision > put.revision && !put.is_of_an_earlier_bucket(last);
        return match is_later {
            true => ReleaseFate::Replaced {
                revision: last.revision,
            },
            false => open,
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

    use super::{PutRelease, ReleaseFate, last_update, release_fate};

    const OPEN: ReleaseFate = ReleaseFate::Open { detail: None };

    fn report(update: &str) -> AgentStatus {
        let report = format!(
            r#"{{"device_id":"pi-1","timestamp_unix_ms":1,"boot_id":"b","agent_version":"0","architecture":"x",
            "sequence":1{update}}}"#
        );
        serde_json::from_str(&report).expect("a report")
    }

    /// A report of that revision of the program with that digest.
    fn of(revision: u64, program: u8, phase: &str) -> AgentStatus {
        let sha256 = format!("{program:02x}").repeat(32);
        report(&format!(
            r#","update":{{"program":"a","last":{{"revision":{revision},"sha256":"{sha256}","phase":"{phase}"}}}}"#
        ))
    }

    /// Program 1 was put with revision 7, after that report.
    fn put(before: Option<AgentStatus>) -> PutRelease {
        PutRelease {
            revision: 7,
            sha256: [1; 32].into(),
            before: before.and_then(last_update),
        }
    }

    #[test]
    fn a_report_speaks_of_one_revision() {
        let of = |revision: u64, phase: &str, detail: &str| {
            let status = report(&format!(
                r#","update":{{"program":"a","last":{{"revision":{revision},"phase":"{phase}"{detail}}}}}"#
            ));
            release_fate(&status, &put(None))
        };
        for none in ["", r#","update":{"program":"installed"}"#] {
            assert_eq!(release_fate(&report(none), &put(None)), OPEN);
        }
        // How an earlier one went is no answer, and a later one takes its place.
        for phase in ["Proven", "Refused", "Failed", "Fetching"] {
            assert_eq!(of(6, phase, ""), OPEN, "{phase}");
            let replaced = ReleaseFate::Replaced { revision: 8 };
            assert_eq!(of(8, phase, ""), replaced, "{phase}");
        }
        assert_eq!(of(7, "Proven", ""), ReleaseFate::Proven);
        for phase in ["Fetching", "Trying", "Dreaming"] {
            assert_eq!(of(7, phase, ""), OPEN, "{phase}");
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

    #[test]
    fn what_was_reported_of_an_earlier_bucket_is_no_answer() {
        let put = put(Some(of(900, 2, "Fetching")));
        for phase in ["Fetching", "Trying", "Proven", "Failed"] {
            assert_eq!(release_fate(&of(900, 2, phase), &put), OPEN, "{phase}");
        }
        assert_eq!(release_fate(&of(7, 1, "Proven"), &put), ReleaseFate::Proven);
        for (revision, program) in [(8, 2), (901, 2), (900, 3)] {
            let replaced = ReleaseFate::Replaced { revision };
            assert_eq!(
                release_fate(&of(revision, program, "Trying"), &put),
                replaced
            );
        }
    }

    #[test]
    fn a_revision_of_an_earlier_bucket_may_be_the_same() {
        let put = put(Some(of(7, 2, "Proven")));
        assert_eq!(release_fate(&of(7, 2, "Proven"), &put), OPEN);
        assert_eq!(release_fate(&of(7, 1, "Proven"), &put), ReleaseFate::Proven);
        let refused = |why: &str| {
            report(&format!(
                r#","update":{{"program":"a","last":{{"revision":7,"phase":"Refused","detail":"{why}"}}}}"#
            ))
        };
        let put = self::put(Some(refused("old")));
        assert_eq!(release_fate(&refused("old"), &put), OPEN);
        let why = "no key".to_owned();
        assert_eq!(
            release_fate(&refused("no key"), &put),
            ReleaseFate::Refused { why }
        );
    }
}
