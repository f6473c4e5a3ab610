//! A cluster that loses the leader of the desired state while that is written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::device::Device;
use crate::podman::{Call, Did, Podman, State};
use crate::rounds::{Figures, LIMIT, between, chance, count, tell};
use crate::server::Server;
use crate::server_for_all::free_port;
use crate::site::{By, Site};

/// How many servers there are, and replicas of each bucket.
const SERVERS: usize = 3;
/// How many values are written in a round.
const WRITES: u32 = 16;
/// How long the leader stays away after the last of them, unless all is there before. A server that cannot be reached may
/// have the device's consumer, and some versions make a new one there as well: then the device is told when it is back.
const AWAY: Duration = Duration::from_secs(15);
/// The deployments that they are for, in turns.
const DEPLOYMENTS: [&str; 4] = ["d0", "d1", "d2", "d3"];

/// Three servers on loopback.
struct Cluster {
    servers: BTreeMap<String, Server>,
    ports: Vec<u16>,
}

impl Cluster {
    fn start(dir: &TempDir, rights: &str) -> Self {
        let ports: Vec<_> = (0..SERVERS).map(|_| free_port()).collect();
        let routes: Vec<_> = (0..SERVERS).map(|_| free_port()).collect();
        let all: Vec<_> = routes
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let mut servers = BTreeMap::new();
        for (number, (port, route)) in ports.iter().zip(&routes).enumerate() {
            let name = format!("n{number}");
            let store = dir.path().join(&name);
            let config = format!(
                "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n\
                 cluster {{ name: c, listen: \"127.0.0.1:{route}\", routes: {all:?} }}\n{rights}\n"
            );
            let mut server = Server::new(dir.path(), &name, &config);
            server.start();
            servers.insert(name, server);
        }
        Self { servers, ports }
    }
}

/// What was written last for each deployment, and all that ever was.
#[derive(Default)]
struct Written {
    last: BTreeMap<&'static str, String>,
    all: Vec<(String, String)>,
}

impl Written {
    fn is_there(&self, state: &State) -> bool {
        self.last
            .iter()
            .all(|(deployment, image)| state.runs(deployment, image))
    }

    /// No value was applied twice, and none after a newer one; nothing happened to what did not change.
    fn judge(&self, state: &State) {
        let harmed: Vec<_> = state
            .calls
            .iter()
            .filter(|call| call.name.starts_with("harmony.keep."))
            .collect();
        assert_eq!(harmed.len(), 2, "HARMED: {harmed:?}");
        let mut newest = BTreeMap::new();
        for call in state.calls.iter().filter(|call| call.did == Did::Create) {
            let Some(order) = self.order(call) else {
                continue;
            };
            let before = newest.insert(&call.name, order);
            assert!(
                before.is_none_or(|before| before < order),
                "TWICE or GONE BACK: {call:?} in {:#?}",
                state.calls
            );
        }
    }

    fn order(&self, call: &Call) -> Option<usize> {
        let written = |(name, image): &(String, String)| *name == call.name && *image == call.image;
        self.all.iter().position(written)
    }
}

#[tokio::test]
#[ignore = "needs nats-server: runs three, and kills the leader in the middle of writes"]
async fn rounds_of_a_cluster_that_loses_its_leader() {
    for by in By::ALL {
        killed_leader(by).await;
    }
}

async fn killed_leader(by: By) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::on_loopback(dir.path(), by);
    let mut cluster = Cluster::start(&dir, &site.rights());
    let access = site.access(&cluster.ports);
    let platform = site.platform(&cluster.ports, SERVERS).await;
    let mut device = Device::new(dir.path(), &access, None);
    let podman = Podman::start(&device.socket(), false);
    platform.make_buckets("b0").await;
    platform.put("keep", "host/keep:1").await;
    device.start();
    let up = podman.wait(LIMIT, |state| state.runs("keep", "host/keep:1"));
    assert!(up.await.is_some(), "{}", device.last_words());
    let kind = format!("cluster's leader killed, {by}");
    // The leader may be away for as long as it takes: no time is too long.
    let (mut chance, mut figures) = (chance(&kind, by), Figures::of(&kind, None));
    let mut written = Written::default();
    for round in 1..=count(by) {
        platform.replicated().await;
        let leader = platform.leader().await;
        let (fatal, moment) = (chance.u32(2..WRITES - 2), between(&mut chance, 0.0..0.05));
        let mut confirmed = Instant::now();
        for number in 0..WRITES {
            let deployment = DEPLOYMENTS[number as usize % DEPLOYMENTS.len()];
            let image = format!("host/x:{round}-{number}");
            written
                .all
                .push((format!("harmony.{deployment}.a"), image.clone()));
            let write = platform.put(deployment, &image);
            if number == fatal {
                let server = cluster.servers.get_mut(&leader).unwrap();
                let kill = async {
                    tokio::time::sleep(moment).await;
                    server.kill();
                };
                tokio::join!(write, kill);
            } else {
                write.await;
            }
            confirmed = Instant::now();
            written.last.insert(deployment, image);
            if number + 1 < WRITES {
                tokio::time::sleep(between(&mut chance, 0.0..0.4)).await;
            }
        }
        let is_there = |state: &State| written.is_there(state);
        let mut there = podman.wait(AWAY, is_there).await;
        cluster.servers.get_mut(&leader).unwrap().start();
        if there.is_none() {
            tell(&format!(
                "{kind}: round {round} took the return of {leader}"
            ));
            there = podman.wait(LIMIT, is_there).await;
        }
        let Some(at) = there else {
            tell(&device.last_words());
            panic!("LOST in round {round}: {:?}", written.last);
        };
        figures.note(at.saturating_duration_since(confirmed));
        written.judge(&podman.state());
        let says_so = |report: &iot_contracts::AgentStatus| {
            platform.is_well(report)
                && written.last.iter().all(|(deployment, image)| {
                    let status = report.deployments.get(&deployment.parse().unwrap());
                    let service = status.and_then(|s| s.services.get(&"a".parse().unwrap()));
                    service.is_some_and(|service| service.image == *image)
                })
        };
        if let Err(last) = platform.reported(says_so).await {
            tell(&device.last_words());
            panic!("UNTRUE in round {round}, the last report: {last:?}");
        }
        assert_eq!(device.ended(), None);
        tokio::time::sleep(Duration::from_millis(chance.u64(..2000))).await;
    }
    figures.tell();
}
