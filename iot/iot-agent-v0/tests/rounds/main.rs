//! Rounds of faults: the agent's own program beside real servers of NATS, and a Podman that records each call.
//!
//! Each kind of fault is one test, and in it a device as harmony makes it goes first, and then one with a password or a
//! token. `HARMONY_ROUNDS` is the number of rounds of the first one, 1 without it; the other has half of them.
//! `HARMONY_SEED` is the seed that a run printed. What is judged is what was done: every change once, nothing lost, nothing
//! harmed, true reports. Times are told, in one row for each kind (kind, rounds, those that were soon enough, median, 95 %,
//! longest). They are judged with `HARMONY_JUDGE=1`, and without it only by the bound of 60 s. `IOT_AGENT_BINARY` names
//! another program than the test profile's own; `nats-server` is the first in `PATH`.

mod authority;
mod cluster;
mod credentials;
mod device;
mod platform;
mod podman;
mod proxy;
mod registry;
mod rounds;
mod server;
#[path = "../server/mod.rs"]
#[allow(dead_code, reason = "these servers have a configuration of their own")]
mod server_for_all;
mod site;
mod way;

use std::time::Instant;

use iot_contracts::KvBucket;
use tempfile::TempDir;

use crate::rounds::{Bench, count};
use crate::server::{Server, without_jetstream};
use crate::site::{By, Site};

/// A device and the one server that it follows.
struct Single {
    server: Server,
    bench: Bench,
    port: u16,
    site: Site,
    // The last, so that it goes after all that write into it.
    dir: TempDir,
}

impl Single {
    async fn start(kind: &str, by: By) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::on_loopback(dir.path(), by);
        let (server, port) = site.start_server();
        let platform = site.platform(&[port], 1).await;
        let access = site.access(&[port]);
        let kind = format!("{kind}, {by}");
        let bench = Bench::start((kind, by), dir.path(), &access, None, platform).await;
        Self {
            server,
            bench,
            port,
            site,
            dir,
        }
    }
}

#[tokio::test]
#[ignore = "needs nats-server: kills it again and again"]
async fn rounds_of_a_killed_server() {
    for by in By::ALL {
        let mut single = Single::start("NATS killed", by).await;
        for _ in 0..count(by) {
            single.bench.begin().await;
            single.server.kill();
            single.bench.sleep(0.5..12.0).await;
            single.server.start();
            let returned = single.bench.change().await;
            single.bench.end(returned).await;
        }
        single.bench.tell();
    }
}

#[tokio::test]
#[ignore = "needs nats-server: runs it without JetStream for a while"]
async fn rounds_without_jetstream() {
    for by in By::ALL {
        let mut single = Single::start("JetStream not ready", by).await;
        let ready = single.site.config(single.port);
        for _ in 0..count(by) {
            single.bench.begin().await;
            single.server.kill();
            // It answers, and not for the bucket.
            let unready = without_jetstream(single.port, &single.site.rights());
            single.server = Server::new(single.dir.path(), "nats", &unready);
            single.server.start();
            single.bench.sleep(1.0..12.0).await;
            single.server.reload(&ready);
            let returned = single.bench.change().await;
            single.bench.end(returned).await;
        }
        single.bench.tell();
    }
}

#[tokio::test]
#[ignore = "needs nats-server: deletes the bucket of the desired state, and makes another in its place"]
async fn rounds_without_the_bucket() {
    for by in By::ALL {
        let mut single = Single::start("bucket missing", by).await;
        for round in 0..count(by) {
            let bench = &mut single.bench;
            bench.begin().await;
            bench.platform.lose_the_bucket().await;
            bench.sleep(0.5..12.0).await;
            bench.platform.make_bucket(&KvBucket::DESIRED_STATE).await;
            let is_early = bench.chance.bool();
            if is_early {
                bench.platform.enrol().await;
                bench.sleep(0.0..6.0).await;
            }
            // What takes its place says so when all is in it.
            bench.put_the_rest().await;
            bench.change().await;
            let (old, new) = (format!("b{round}"), format!("b{}", round + 1));
            bench.platform.mark(&new, &[&old]).await;
            if !is_early {
                bench.sleep(0.0..6.0).await;
                bench.platform.enrol().await;
            }
            bench.end(Instant::now()).await;
        }
        single.bench.tell();
    }
}
