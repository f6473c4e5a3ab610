//! The size of a report.

use std::collections::BTreeMap;

use iot_contracts::{AgentStatus, KvBucket, Phase};

use crate::error::cut;

/// What is left free of what the bucket takes, in bytes: the protocol's own part of a message counts too.
const SLACK: usize = 1024;

/// The largest report, in bytes of JSON.
pub const BUDGET: usize = KvBucket::AGENT_STATUS.max_value_bytes as usize - SLACK;

/// How much is left of a report, from the mildest cut to the hardest.
const CUTS: [Cut; 6] = [
    Cut::new(400, Services::All),
    Cut::new(400, Services::OfTroubled),
    Cut::new(200, Services::None),
    Cut::new(80, Services::None),
    Cut::new(30, Services::None),
    Cut::new(0, Services::None),
];

/// What a cut leaves.
#[derive(Debug, Clone, Copy)]
struct Cut {
    detail_chars: usize,
    services: Services,
}

impl Cut {
    const fn new(detail_chars: usize, services: Services) -> Self {
        Self {
            detail_chars,
            services,
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

/// `status`, cut until its JSON is within `budget` bytes. Each deployment and its phase stay: 2400 of them fit with the
/// longest names.
pub fn fitted(mut status: AgentStatus, budget: usize) -> AgentStatus {
    for cut in CUTS {
        if size(&status) <= budget {
            break;
        }
        cut.apply(&mut status);
    }
    status
}

fn size(status: &AgentStatus) -> usize {
    // What is made of strings and numbers always serialises.
    serde_json::to_vec(status).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use iot_contracts::{
        AgentStatus, DeploymentName, DeploymentStatus, Phase, ServiceState, ServiceStatus,
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
            };
            (format!("service-{n}").parse().unwrap(), service)
        };
        let deployment = |n: usize| {
            let name: DeploymentName = format!("{n:0>63}").parse().unwrap();
            let failed = n.is_multiple_of(2);
            let status = DeploymentStatus {
                phase: if failed {
                    Phase::Failed
                } else {
                    Phase::Running
                },
                detail: failed.then(|| detail.to_owned()),
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
            deployments: (0..deployments).map(deployment).collect(),
            problems: Vec::new(),
            shortened: false,
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
    fn the_mildest_cut_is_taken() {
        let whole = report(10, &"x".repeat(990), 2);
        let cut_to = |budget| {
            let fitted = fitted(whole.clone(), budget);
            let status =
                |n: usize| fitted.deployments[&format!("{n:0>63}").parse().unwrap()].clone();
            let (failed, running) = (status(0), status(1));
            let detail = failed.detail.map_or(0, |detail| detail.chars().count());
            (detail, failed.services.len(), running.services.len())
        };
        assert_eq!(cut_to(size(&whole)), (990, 2, 2));
        assert_eq!(cut_to(size(&whole) - 1), (401, 2, 2));
        assert_eq!(cut_to(5600), (401, 2, 0));
        assert_eq!(cut_to(3000), (201, 0, 0));
        assert_eq!(cut_to(2000), (81, 0, 0));
        assert_eq!(cut_to(1450), (31, 0, 0));
        assert_eq!(cut_to(0), (0, 0, 0));
    }
}
