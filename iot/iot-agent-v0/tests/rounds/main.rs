//! Rounds of faults: the agent's own program beside real servers of NATS, and a Podman that records each call.
//!
//! Each kind of fault is one test. `HARMONY_ROUNDS` is the number of rounds of each, 2 without it, and `HARMONY_SEED` the
//! seed that a run printed. What is judged is what was done: every change once, nothing lost, nothing harmed, true reports.
//! Times are told, in one row for each kind (kind, rounds, within 5 s, median, 95 %, longest), and not judged but for the
//! bound of 60 s. `IOT_AGENT_BINARY` names another program than the test profile's own; `nats-server` is the first in
//! `PATH`.

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
mod way;

use std::path::Path;
use std::time::Instant;

use iot_contracts::KvBucket;
use tempfile::TempDir;

use crate::device::Access;
use crate::platform::Platform;
use crate::rounds::{Bench, count};
use crate::server::{Server, USERS, with_jetstream, without_jetstream};
use crate::server_for_all::free_port;

/// A server on that port with its files in `dir`, and how it is reached, as a device and as the platform.
async fn one_server(dir: &Path, port: u16) -> (Server, Access, Platform) {
    let config = with_jetstream(dir, "127.0.0.1", port, USERS);
    let mut server = Server::new(dir, "nats", &config);
    server.start();
    let access = Access::of_port(port);
    let platform = Platform::connect(&access.urls, 1).await;
    (server, access, platform)
}

/// A device and the one server that it follows.
struct Single {
    server: Server,
    bench: Bench,
    port: u16,
    // The last, so that it goes after all that write into it.
    dir: TempDir,
}

impl Single {
    async fn start(kind: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let (server, access, platform) = one_server(dir.path(), port).await;
        let bench = Bench::start(kind, dir.path(), &access, None, platform).await;
        Self {
            server,
            bench,
            port,
            dir,
        }
    }
}

#[tokio::test]
#[ignore = "needs nats-server: kills it again and again"]
async fn rounds_of_a_killed_server() {
    let mut single = Single::start("NATS killed").await;
    for _ in 0..count() {
        single.bench.begin().await;
        single.server.kill();
        single.bench.sleep(0.5..12.0).await;
        single.server.start();
        let returned = single.bench.change().await;
        single.bench.end(returned).await;
    }
    single.bench.tell();
}

#[tokio::test]
#[ignore = "needs nats-server: runs it without JetStream for a while"]
async fn rounds_without_jetstream() {
    let mut single = Single::start("JetStream not ready").await;
    let ready = with_jetstream(single.dir.path(), "127.0.0.1", single.port, USERS);
    for _ in 0..count() {
        single.bench.begin().await;
        single.server.kill();
        // It answers, and not for the bucket.
        let unready = without_jetstream(single.port);
        single.server = Server::new(single.dir.path(), "nats", &unready);
        single.server.start();
        single.bench.sleep(1.0..12.0).await;
        single.server.reload(&ready);
        let returned = single.bench.change().await;
        single.bench.end(returned).await;
    }
    single.bench.tell();
}

#[tokio::test]
#[ignore = "needs nats-server: deletes the bucket of the desired state, and makes another in its place"]
async fn rounds_without_the_bucket() {
    let mut single = Single::start("bucket missing").await;
    for round in 0..count() {
        let bench = &mut single.bench;
        bench.begin().await;
        bench.platform.lose_the_bucket().await;
        bench.sleep(0.5..12.0).await;
        // What takes its place says so when all is in it.
        bench.platform.make_bucket(&KvBucket::DESIRED_STATE).await;
        bench.put_the_rest().await;
        bench.change().await;
        let (old, new) = (format!("b{round}"), format!("b{}", round + 1));
        bench.platform.mark(&new, &[&old]).await;
        bench.end(Instant::now()).await;
    }
    single.bench.tell();
}
