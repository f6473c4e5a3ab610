//! A device in a network namespace of its own, and a way to its server that loses everything for a while.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::rounds::{Bench, count};
use crate::site::{By, Site};

/// What every namespace of these tests is called, before the number of its process.
const PREFIX: &str = "harmony-test-rounds-";

/// The device's network: one cable to the host.
struct Network {
    namespace: String,
    device: String,
    host: String,
}

impl Network {
    fn new() -> Self {
        sweep();
        let number = std::process::id();
        let (host_end, device_end) = (format!("hr{number}h"), format!("hr{number}d"));
        // Addresses that are for tests of devices and on no network (RFC 2544).
        let (a, b) = (fastrand::u8(..), 4 * fastrand::u8(..63));
        let network = Self {
            namespace: format!("{PREFIX}{number}"),
            device: format!("198.18.{a}.{}", b + 2),
            host: format!("198.18.{a}.{}", b + 1),
        };
        let Self {
            namespace,
            device,
            host,
        } = &network;
        ip(&format!("netns add {namespace}"));
        ip(&format!(
            "link add {host_end} type veth peer name {device_end} netns {namespace}"
        ));
        ip(&format!("addr add {host}/30 dev {host_end}"));
        ip(&format!("link set {host_end} up"));
        ip(&format!(
            "-n {namespace} addr add {device}/30 dev {device_end}"
        ));
        ip(&format!("-n {namespace} link set {device_end} up"));
        network
    }

    /// From now on every packet is lost, both ways.
    fn cut(&self) {
        self.nft(
            "add table inet cut; \
            add chain inet cut in { type filter hook input priority 0; policy drop; }; \
            add chain inet cut out { type filter hook output priority 0; policy drop; }",
        );
    }

    /// From now on none is.
    fn mend(&self) {
        self.nft("delete table inet cut");
    }

    fn nft(&self, rules: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "nft", rules]);
        run(command, rules);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The cable goes with it.
        let mut command = Command::new("ip");
        command.args(["netns", "delete", &self.namespace]);
        let ended = command.status();
        assert!(
            ended.is_ok_and(|status| status.success()) || std::thread::panicking(),
            "{} is left",
            self.namespace
        );
    }
}

/// Removes what a process left that is gone.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.expect("ip is installed (iproute2)").stdout;
    for line in String::from_utf8_lossy(&listed).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let Some(process) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if !std::path::Path::new("/proc").join(process).exists() {
            ip(&format!("netns delete {name}"));
        }
    }
}

fn ip(arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    run(command, arguments);
}

fn run(mut command: Command, what: &str) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.expect("ip and nft are installed (iproute2, nftables)");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {words}");
}

#[tokio::test]
#[ignore = "needs nats-server, nft and root: loses every packet between the device and its server"]
async fn rounds_of_a_partition() {
    let network = Network::new();
    for by in By::ALL {
        partition(&network, by).await;
    }
}

async fn partition(network: &Network, by: By) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::at(dir.path(), by, &network.host);
    let (_server, port) = site.start_server();
    let platform = site.platform(&[port], 1).await;
    let (kind, access) = (format!("partition, {by}"), site.access(&[port]));
    let namespace = Some(network.namespace.clone());
    let mut bench = Bench::start((kind, by), dir.path(), &access, namespace, platform).await;
    for _ in 0..count(by) {
        bench.begin().await;
        network.cut();
        bench.sleep(0.2..12.0).await;
        bench.change().await;
        bench.sleep(0.2..12.0).await;
        assert!(!bench.has_applied(&bench.podman.state()), "nothing was cut");
        network.mend();
        bench.end(Instant::now()).await;
    }
    bench.tell();
}
