//! The size of a report.

use std::collections::BTreeMap;

use iot_contracts::{AgentStatus, KvBucket, Phase};
use serde::Serialize;

use crate::error::cut;

/// What is left free of what the bucket takes, in bytes: the protocol's own part of a message counts too.
const SLACK: usize = 1024;

/// The largest report, in bytes of JSON.
pub const BUDGET: usize = KvBucket::AGENT_STATUS.max_value_bytes as usize - SLACK;

/// How much is left of a report, from the mildest cut to the hardest.
const CUTS: [Cut; 7] = [
    Cut::new(400, Services::All, true),
    Cut::new(400, Services::OfTroubled, true),
    Cut::new(200, Services::None, true),
    Cut::new(80, Services::None, true),
    Cut::new(80, Services::None, false),
    Cut::new(30, Services::None, false),
    Cut::new(0, Services::None, false),
];

/// What a cut leaves.
#[derive(Debug, Clone, Copy)]
struct Cut {
    detail_chars: usize,
    services: Services,
    /// Whether it is told which values are meant.
    versions: bool,
}

impl Cut {
    const fn new(detail_chars: usize, services: Services, versions: bool) -> Self {
        Self {
            detail_chars,
            services,
            versions,
        }
    }

    fn apply(self, status: &mut AgentStatus) {
        status.shortened = true;
        for deployment in status.deployments.values_mut() {
            let keeps_services = match self.services {
                Services::All => true,
                Services::OfTroubled => deployment.phase != Phase::Running,
                Services::None => false,
            };
            if !keeps_services {
                deployment.services = BTreeMap::new();
            }
            if !self.versions {
                deployment.desired = None;
                deployment.ran = None;
                deployment.refused = None;
            }
            let detail = deployment.detail.take().filter(|_| self.detail_chars > 0);
            deployment.detail = detail.map(|detail| cut(&detail, self.detail_chars));
        }
    }
}

/// Which services a cut leaves.
#[derive(Debug, Clone, Copy)]
enum Services {
    All,
    OfTroubled,
    None,
}

/// `status`, cut until its JSON is within `budget` bytes. Each deployment and its phase stay where there are at most 2400
/// with the longest names; of more, those are left out first that run.
pub fn fitted(mut status: AgentStatus, budget: usize) -> AgentStatus {
    for cut in CUTS {
        if size(&status) <= budget {
            break;
        }
        cut.apply(&mut status);
    }
    leave_out(&mut status, budget);
    status
}

/// Leaves out as many deployments as have to be, and says how many.
fn leave_out(status: &mut AgentStatus, budget: usize) {
    let mut size_now = size(status);
    if size_now <= budget {
        return;
    }
    status.deployments_left_out = status.deployments.len();
    // Its length grows with the number, which is the largest now.
    size_now = size(status);
    let runs = |phase: Phase| phase == Phase::Running;
    let all = status.deployments.iter().rev();
    let mut names: Vec<_> = all
        .map(|(name, status)| (!runs(status.phase), name.clone()))
        .collect();
    names.sort_by_key(|(is_troubled, _)| *is_troubled);
    let before = status.deployments.len();
    for (_, name) in names {
        if size_now <= budget {
            break;
        }
        let entry = status.deployments.remove(&name);
        // With a colon and a comma.
        size_now = size_now.saturating_sub(size(&name) + size(&entry) + 2);
    }
    status.deployments_left_out = before - status.deployments.len();
}

fn size(value: &impl Serialize) -> usize {
    // What is made of strings and numbers always serialises.
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use iot_contracts::{
        AgentStatus, DeploymentName, DeploymentStatus, DesiredVersion, Phase, Refusal,
        RefusedEntry, ServiceState, ServiceStatus,
    };

    use super::{BUDGET, fitted, size};
    use crate::error::bounded;

    /// A report of that many deployments, every other one failed for a reason of that many characters.
    fn report(deployments: usize, detail: &str, services: usize) -> AgentStatus {
        let service = |n: usize| {
            let service = ServiceStatus {
                state: ServiceState::Running,
                image: "registry.example/team/product/service:1.2.3".to_owned(),
                image_digest: Some(format!("sha256:{}", "0".repeat(64))),
                exit_code: None,
                restarts: 3,
                since_unix_s: Some(1_767_225_000),
                health: None,
            };
            (format!("service-{n}").parse().unwrap(), service)
        };
        let deployment = |n: usize| {
            let name: DeploymentName = format!("{n:0>63}").parse().unwrap();
            let failed = n.is_multiple_of(2);
            let version = DesiredVersion {
                revision: u64::MAX,
                digest: format!("sha256:{}", "0".repeat(64)),
                counter: Some(u64::MAX),
            };
            let refused = RefusedEntry {
                revision: u64::MAX,
                why: Refusal::CounterNotAbove {
                    counter: u64::MAX,
                    highest: u64::MAX,
                },
            };
            let status = DeploymentStatus {
                phase: if failed {
                    Phase::Failed
                } else {
                    Phase::Running
                },
                detail: failed.then(|| detail.to_owned()),
                desired: Some(version.clone()),
                ran: Some(version),
                refused: Some(refused),
                services: (0..services).map(service).collect(),
            };
            (name, status)
        };
        AgentStatus {
            device_id: "pi-1".parse().unwrap(),
            timestamp_unix_ms: u64::MAX,
            boot_id: "6f0c2ab5-13bd-4c36-8f0e-0a3f6f2b1a77".to_owned(),
            agent_version: "0.1.0".to_owned(),
            architecture: "aarch64".to_owned(),
            sequence: u64::MAX,
            operator_keys: 16,
            deployments: (0..deployments).map(deployment).collect(),
            problems: Vec::new(),
            shortened: false,
            deployments_left_out: 0,
            update: None,
        }
    }

    fn check(deployments: usize, detail: &str, services: usize) {
        let whole = report(deployments, &bounded(detail), services);
        let fitted = fitted(whole.clone(), BUDGET);
        let size_then = size(&fitted);
        assert!(size_then <= BUDGET, "{deployments} {services}: {size_then}");
        assert_eq!(fitted.shortened, size(&whole) > BUDGET);
        let phases = |report: &AgentStatus| -> Vec<_> {
            let all = report.deployments.iter();
            all.map(|(name, status)| (name.clone(), status.phase))
                .collect()
        };
        assert_eq!(phases(&fitted), phases(&whole));
    }

    #[test]
    fn a_report_fits_whatever_it_says() {
        for text in ["\u{1}", "\"", "ä€😀", "x"] {
            for deployments in [1, 50, 300] {
                check(deployments, &text.repeat(990), 3);
            }
        }
        check(2400, &"\"".repeat(990), 3);
    }

    #[test]
    fn a_report_of_too_many_deployments_says_how_many_it_leaves_out() {
        let whole = report(5000, "x", 1);
        let fitted = fitted(whole.clone(), BUDGET);
        let size_then = size(&fitted);
        assert!(size_then <= BUDGET, "{size_then}");
        assert!(size_then > BUDGET - 200, "{size_then}");
        assert!(fitted.shortened);
        let left = fitted.deployments.len();
        assert_eq!(left + fitted.deployments_left_out, 5000);
        // What does not run is told first.
        let failed = fitted.deployments.values();
        let failed = failed.filter(|status| status.phase == Phase::Failed);
        assert_eq!(failed.count(), 2500.min(left));
        assert!(left > 2500, "{left}");
    }

    #[test]
    fn the_mildest_cut_is_taken() {
        let whole = report(10, &"x".repeat(990), 2);
        let cut_to = |budget| {
            let fitted = fitted(whole.clone(), budget);
            let status =
                |n: usize| fitted.deployments[&format!("{n:0>63}").parse().unwrap()].clone();
            let (failed, running) = (status(0), status(1));
            let detail = failed.detail.map_or(0, |detail| detail.chars().count());
            let services = (failed.services.len(), running.services.len());
            let has_versions = running.ran.is_some() && running.refused.is_some();
            assert_eq!(has_versions, running.desired.is_some());
            (detail, services, has_versions)
        };
        assert_eq!(cut_to(size(&whole)), (990, (2, 2), true));
        assert_eq!(cut_to(size(&whole) - 1), (401, (2, 2), true));
        assert_eq!(cut_to(10_000), (401, (2, 0), true));
        assert_eq!(cut_to(7000), (201, (0, 0), true));
        assert_eq!(cut_to(6100), (81, (0, 0), true));
        assert_eq!(cut_to(1600), (81, (0, 0), false));
        assert_eq!(cut_to(1400), (31, (0, 0), false));
        assert_eq!(cut_to(1200), (0, (0, 0), false));
    }
}
