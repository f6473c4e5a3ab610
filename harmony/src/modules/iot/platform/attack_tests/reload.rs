//! Devices are added to a running server.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use iot_contracts::{IotScore, NatsConfig, PodmanV0};
use nkeys::KeyPair;

use super::layouts::id;
use super::raw::Raw;
use super::server;
use crate::modules::iot::platform::{DeviceRegistry, Platform, PlatformError};

/// A server that reads of devices in a registry, and how the platform reaches it.
async fn start(dir: &Path) -> (DeviceRegistry, NatsConfig, u16, server::Server) {
    let registry = DeviceRegistry::new(dir);
    let credentials = registry.platform_credentials().expect("made");
    let config = format!(
        "include \"accounts.json\"\npid_file: {:?}",
        registry.pid_file()
    );
    let (port, server) = server::start_in(dir, &config).await;
    let mut nats = server::config(port);
    nats.credentials = Some(credentials);
    (registry, nats, port, server)
}

#[tokio::test]
#[ignore = "needs nats-server: adds devices to a running one, and removes one"]
async fn a_device_is_added_by_a_reload_and_the_others_stay_connected() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (registry, nats, port, server) = start(dir.path()).await;
    let platform = Platform::connect(&nats).await.expect("the buckets");
    let keys = ["a", "b"].map(|name| (name, KeyPair::new_user()));
    let mut connections = Vec::new();
    for (name, key) in &keys {
        let early = Raw::connect(port, key, None).await;
        early.map(drop).expect_err("unknown");
        let public = key.public_key().parse().expect("a user's");
        registry.add(&id(name), &public).expect("told");
        platform.enrol(&id(name), &public).await.expect("enrolled");
        let mut device = server::once_known(port, key).await;
        device
            .subscribe(&format!("_INBOX.{}.>", key.public_key()))
            .await;
        connections.push(device);
    }
    // The first one has seen two reloads.
    for ((name, key), device) in keys.iter().zip(&mut connections) {
        let inbox = format!("_INBOX.{}.x", key.public_key());
        let status = format!("$KV.agent-status.status.{name}");
        device.publish(&status, &inbox, &[], "x").await;
        let stored = server::heard(device).await;
        assert!(stored.contains("\"seq\""), "{name}: {stored}");
    }
    // A device is enrolled while the server reads of it.
    for number in 0..8 {
        let (id, key) = (id(&format!("more-{number}")), KeyPair::new_user());
        let public = key.public_key().parse().expect("a user's");
        registry.add(&id, &public).expect("told");
        platform.enrol(&id, &public).await.expect("enrolled");
    }
    let [(_, a), (_, b)] = &keys;
    registry.remove(&id("b")).expect("told");
    server::once_gone(&mut connections[1]).await;
    let refused = Raw::connect(port, b, None).await;
    refused.map(drop).expect_err("forgotten");
    assert!(connections[0].flush().await.is_some());
    for expected in [true, false] {
        let key = a.public_key().parse().expect("a user's");
        assert_eq!(platform.withdraw(&key).await.expect("answered"), expected);
    }
    drop(server);
}

#[tokio::test]
#[ignore = "needs nats-server: has one read its configuration again and again, and asks it for everything meanwhile"]
async fn what_the_platform_asks_for_is_answered_while_devices_are_added() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (registry, nats, _, server) = start(dir.path()).await;
    let first = Platform::connect(&nats).await.expect("the buckets");
    let reloads = async {
        for number in 0..60 {
            let public = KeyPair::new_user().public_key().parse();
            let added = registry.add(&id(&format!("pi-{number}")), &public.expect("a user's"));
            assert!(added.expect("told"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (device, web) = (id("a"), "web".parse().expect("valid"));
    let score = IotScore::PodmanV0(PodmanV0::new(Vec::new()).expect("no service"));
    let rounds = Cell::new(0);
    let asks = async {
        loop {
            let platform = Platform::connect(&nats).await.expect("connected");
            platform.marker().await.expect("there");
            platform
                .put_score(&device, &web, &score)
                .await
                .expect("put");
            let report = first.status(&device).await.expect("read");
            assert_eq!(report, None);
            let bound = Duration::from_millis(5);
            let awaited = platform.wait_for_status(&device, "a report", bound, |_| true);
            let error = awaited.await.expect_err("nobody reports");
            assert!(matches!(error, PlatformError::TimedOut { .. }), "{error:?}");
            first.delete_score(&device, &web).await.expect("deleted");
            rounds.set(rounds.get() + 1);
        }
    };
    tokio::select! {
        () = reloads => {}
        () = asks => unreachable!("it goes on"),
    }
    // Some took more than one request; none has hung.
    assert!(rounds.get() >= 3, "{} rounds", rounds.get());
    drop(server);
}
