//! The buckets and their marker on a real server.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use iot_contracts::{BucketId, NatsConfig, NatsUrl, NatsUrls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{BucketOptions, Platform, PlatformError};

/// A server on a loopback port, which ends with this.
struct Server(Child);

impl Server {
    async fn start(dir: &Path) -> (Self, NatsConfig) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let mut command = Command::new("nats-server");
        command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]);
        let child = command.arg(dir).stderr(Stdio::null()).spawn();
        let server = Self(child.expect("nats-server is installed"));
        let listens = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let listens = tokio::time::timeout(Duration::from_secs(20), listens);
        listens.await.expect("it listens");
        let url = format!("nats://127.0.0.1:{port}").parse().expect("valid");
        (
            server,
            NatsConfig::new(NatsUrls::try_from(vec![url]).expect("one")),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn context(nats: &NatsConfig) -> jetstream::Context {
    let url = nats.urls.as_slice()[0].as_str();
    jetstream::new(async_nats::connect(url).await.expect("it listens"))
}

async fn settings(nats: &NatsConfig, stream: &str) -> stream::Config {
    let mut stream = context(nats).await.get_stream(stream).await.expect(stream);
    stream.info().await.expect("there").config.clone()
}

#[tokio::test]
#[ignore = "needs nats-server: makes the buckets on one, and changes their settings"]
async fn the_buckets_are_made_and_devices_may_not_erase_each_others_reports() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (_server, nats) = Server::start(dir.path()).await;
    // As a device of an earlier version made it.
    let earlier = stream::Config {
        name: "KV_agent-status".to_owned(),
        subjects: vec!["$KV.agent-status.>".to_owned()],
        max_messages_per_subject: 1,
        allow_rollup: true,
        allow_direct: true,
        deny_delete: true,
        ..stream::Config::default()
    };
    let made = context(&nats).await.create_stream(earlier).await;
    made.expect("made");
    Platform::connect(&nats).await.expect("both buckets");
    let status = settings(&nats, "KV_agent-status").await;
    assert!(!status.allow_rollup);
    let desired = settings(&nats, "KV_desired-state").await;
    let is = (
        desired.allow_rollup,
        desired.deny_delete,
        desired.num_replicas,
    );
    assert_eq!(is, (true, true, 1));
    assert_eq!(desired.discard, stream::DiscardPolicy::New);
    assert_eq!(desired.max_message_size, 262_144);
}

#[tokio::test]
#[ignore = "needs nats-server: asks one server for three replicas"]
async fn replicas_are_what_is_asked_for() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (_server, nats) = Server::start(dir.path()).await;
    let replicas = Some(3);
    let error = Platform::connect_with(&nats, BucketOptions { replicas }).await;
    let error = error.map(drop).expect_err("one server has none");
    let said = format!("{error:?}");
    assert!(
        matches!(error, PlatformError::Request { .. }) && said.contains("replicas"),
        "{said}"
    );
    let replicas = Some(1);
    let made = Platform::connect_with(&nats, BucketOptions { replicas }).await;
    made.expect("made");
    let desired = settings(&nats, "KV_desired-state").await;
    assert_eq!(desired.num_replicas, 1);
}

#[tokio::test]
#[ignore = "needs nats-server: marks the bucket on one, loses it and makes it anew"]
async fn a_bucket_keeps_its_marker_and_takes_anothers_place_only_when_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (_server, nats) = Server::start(dir.path()).await;
    let platform = Platform::connect(&nats).await.expect("marked");
    let first = platform.marker().await.expect("there");
    assert!(first.replaces.is_empty());
    let again = Platform::connect(&nats).await.expect("there");
    assert_eq!(again.marker().await.expect("the same"), first);

    let stream = context(&nats).await;
    let lost = stream.delete_stream("KV_desired-state").await;
    lost.expect("deleted");
    let platform = Platform::connect(&nats).await.expect("made anew");
    let second = platform.marker().await.expect("there");
    assert_ne!(second.id, first.id);
    assert!(second.replaces.is_empty());

    let other: BucketId = "other".parse().expect("valid");
    let told = platform
        .replace_buckets(&[first.id.clone(), other.clone()])
        .await
        .expect("written");
    let replaced = [second.id, first.id, other];
    assert_eq!(told.replaces, replaced);
    assert!(!replaced.contains(&told.id));
    let again = Platform::connect(&nats).await.expect("there");
    assert_eq!(again.marker().await.expect("written"), told);
}

/// A way to the server on which the answer to the first write of `a.web` takes longer than it is awaited.
async fn slow_way(nats: &NatsConfig) -> NatsConfig {
    let server = nats.urls.as_slice()[0].host_and_port();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("a client");
        let server = TcpStream::connect(server).await.expect("it listens");
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (is_first, holds) = (AtomicBool::new(true), AtomicBool::new(false));
        let there = async {
            let mut chunk = vec![0; 65536];
            while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                let write = b"PUB $KV.desired-state.a.web ";
                let mut parts = chunk[..length].windows(write.len());
                if parts.any(|part| part == write) && is_first.swap(false, Ordering::Relaxed) {
                    holds.store(true, Ordering::Relaxed);
                }
                to_server.write_all(&chunk[..length]).await.expect("open");
            }
        };
        let back = async {
            let mut chunk = vec![0; 65536];
            while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
                if holds.swap(false, Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
                to_client.write_all(&chunk[..length]).await.expect("open");
            }
        };
        tokio::join!(there, back);
    });
    NatsConfig::new(NatsUrls::from(url.parse::<NatsUrl>().expect("valid")))
}

#[tokio::test]
#[ignore = "needs nats-server: the answer to a write is late, and another one comes between"]
async fn a_write_that_is_asked_for_again_does_not_undo_what_came_between() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (_server, nats) = Server::start(dir.path()).await;
    let platform = Platform::connect(&nats).await.expect("both buckets");
    let slow = slow_way(&nats).await;
    let slow = Platform::connect(&slow).await.expect("the same server");
    let first = slow.write("store", "a.web", Some(b"first".to_vec()));
    let between = async {
        while platform.desired.get("a.web").await.expect("read").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let second = platform.write("store", "a.web", Some(b"second".to_vec()));
        second.await.expect("stored")
    };
    let (first, second) = tokio::join!(first, between);
    let entry = platform.desired.entry("a.web").await.expect("read");
    let entry = entry.expect("there");
    assert_eq!((&entry.value[..], entry.revision), (&b"second"[..], second));
    assert!(first.expect("stored") < second);
}
