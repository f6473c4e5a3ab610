//! A registry that takes requests and never answers, beside twenty deployments that are well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use iot_contracts::{AgentStatus, Phase};

use crate::device::Device;
use crate::podman::{HANGING_REGISTRY, Podman, State};
use crate::rounds::{Figures, LIMIT, chance, count, tell};
use crate::site::{By, Site};

/// How many deployments are well.
const WELL: usize = 20;
/// How long a container has to have run so that its end is not taken for a failure to come up.
const STEADY: Duration = Duration::from_secs(11);
/// How long a report may say that a container runs which has ended: the agent notices within half a second, looks, and
/// tells. On a busy machine it takes longer.
const STALE: Duration = Duration::from_secs(5);
/// How soon all have to run again in 95 % of the rounds.
const WANTED: Duration = Duration::from_secs(10);

fn name(number: usize) -> String {
    format!("s{number:02}")
}

fn all_run(state: &State) -> bool {
    (0..WELL).all(|number| state.runs(&name(number), "host/x:1"))
}

/// Which deployments are down, and since when.
fn down(state: &State) -> BTreeMap<String, Instant> {
    let all = (0..WELL).map(name);
    let down = all.filter_map(|name| {
        let container = state.named(&format!("harmony.{name}.a"))?;
        (!container.runs).then_some((name, container.since))
    });
    down.collect()
}

/// What a report says that is not so, and was not for a while.
fn untrue(report: &AgentStatus, down: &BTreeMap<String, Instant>) -> Option<String> {
    let phase = |name: &str| {
        let status = report.deployments.get(&name.parse().unwrap());
        status.map(|status| status.phase)
    };
    if phase("hang") == Some(Phase::Running) {
        return Some("hang runs".to_owned());
    }
    let long = down.iter().filter(|(_, since)| since.elapsed() > STALE);
    let said = long.filter(|(name, _)| phase(name) == Some(Phase::Running));
    said.map(|(name, since)| format!("{name} runs, which ended {:?} ago", since.elapsed()))
        .next()
}

#[tokio::test]
#[ignore = "needs nats-server: lets a pull hang while twenty containers end again and again"]
async fn rounds_beside_a_hanging_registry() {
    for by in By::ALL {
        hanging_registry(by).await;
    }
}

async fn hanging_registry(by: By) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::on_loopback(dir.path(), by);
    let (_server, port) = site.start_server();
    let (platform, access) = (site.platform(&[port], 1).await, site.access(&[port]));
    platform.make_buckets("b0").await;
    let mut device = Device::new(dir.path(), &access, None);
    let podman = Podman::start(&device.socket(), true);
    for number in 0..WELL {
        platform.put(&name(number), "host/x:1").await;
    }
    platform
        .put("hang", &format!("{HANGING_REGISTRY}x:0"))
        .await;
    device.start();
    let up = podman.wait(LIMIT, all_run).await;
    assert!(up.is_some(), "{}", device.last_words());
    let kind = format!("registry hangs, {by}");
    let (mut chance, mut figures) = (chance(&kind, by), Figures::of(&kind, Some(WANTED)));
    for round in 1..=count(by) {
        tokio::time::sleep(STEADY).await;
        // Another pull that hangs, or the same one still.
        let image = format!("{HANGING_REGISTRY}x:{}", round / 2);
        platform.put("hang", &image).await;
        let power_cut = chance.bool();
        let takes = Duration::from_millis(chance.u64(..300));
        if power_cut {
            device.kill();
        }
        podman.change(|state| {
            state.start_takes = takes;
            state.end_all();
        });
        if power_cut {
            device.start();
        }
        let since = Instant::now();
        let watched = async {
            loop {
                let was_down = down(&podman.state());
                // A power cut leaves the report of the agent before it.
                if let Some(report) = platform.report().await.filter(|_| !power_cut)
                    && let Some(lie) = untrue(&report, &was_down)
                {
                    let still = down(&podman.state());
                    assert!(
                        untrue(&report, &still).is_none(),
                        "UNTRUE in round {round}: {lie}"
                    );
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let there = tokio::select! {
            there = podman.wait(LIMIT, all_run) => there,
            () = watched => None,
        };
        let Some(at) = there else {
            tell(&device.last_words());
            panic!("in round {round} not all run again within {LIMIT:?}");
        };
        figures.note(at.saturating_duration_since(since));
        let says_so = |report: &AgentStatus| {
            let phase = |name: &str| {
                report
                    .deployments
                    .get(&name.parse().unwrap())
                    .map(|s| s.phase)
            };
            phase("hang").is_some_and(|phase| phase != Phase::Running)
                && (0..WELL).all(|number| phase(&name(number)) == Some(Phase::Running))
        };
        if let Err(last) = platform.reported(says_so).await {
            tell(&device.last_words());
            panic!("UNTRUE in round {round}, the last report: {last:?}");
        }
        assert_eq!(device.ended(), None);
    }
    figures.tell();
}
