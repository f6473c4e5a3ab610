//! A device with an identity of its own, in an account that reaches nothing but its subjects.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer;
use iot_contracts::{
    AgentConfig, DeviceConsumer, DeviceId, KvBucket, Phase, ServerAccounts, UserKey, next_subject,
    not_separating,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Nats;
use super::platform::{Platform, score, until, with_configured};
use super::server::{Server, free_port};
use crate::config::Loaded;
use crate::fake::FakePodman;

/// How long a new key may take to be told on a new connection.
const NEW_KEYS: Duration = Duration::from_secs(3);

/// A configuration with a key of its own in `dir`.
fn identified(dir: &Path, name: &str, port: u16) -> Loaded {
    let toml = format!(
        "device_id = \"{name}\"\nheartbeat_seconds = 1\n[nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
         credentials = {{ type = \"nkey\", seed_file = {:?} }}\n",
        dir.join(format!("{name}.nk"))
    );
    Loaded::for_test(toml::from_str::<AgentConfig>(&toml).unwrap())
}

fn key(config: &Loaded) -> UserKey {
    config.key().unwrap().unwrap().public().clone()
}

/// What one of these tests has.
struct Scene {
    dir: tempfile::TempDir,
    port: u16,
    server: Option<Server>,
    operator: Loaded,
    device: Loaded,
    platform: Platform,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let operator = identified(dir.path(), "operator", port);
        let device = identified(dir.path(), "pi-1", port);
        let server = start(dir.path(), port, &operator, &device);
        let platform = Platform::with(&operator).await;
        platform.mark(r#"{"id":"b1"}"#, 0).await.unwrap();
        Self {
            dir,
            port,
            server: Some(server),
            operator,
            device,
            platform,
        }
    }

    /// As the platform does it.
    async fn enrol(&self) {
        let consumer = DeviceConsumer::of(self.device.device_id(), &key(&self.device));
        let consumer = serde_json::to_value(consumer).unwrap();
        let config: consumer::Config = serde_json::from_value(consumer).unwrap();
        let stream = KvBucket::DESIRED_STATE.stream_name();
        let stream = self.platform.nats.context.get_stream_no_info(stream).await;
        stream.unwrap().create_consumer(config).await.unwrap();
    }

    async fn with_agent(&self, podman: &FakePodman, scenario: impl Future<Output = ()>) {
        with_configured(&self.device, podman, None, scenario).await;
    }

    /// There is no problem but one with the server itself, where it is an old one.
    async fn follows(&self) {
        let new = not_separating(&self.platform.nats.server_version()).is_none();
        let follows = |problem: &String| !new && problem.contains("does not keep devices apart");
        self.platform
            .report("no problem", |report| {
                report.problems.iter().all(follows) && report.problems.is_empty() == new
            })
            .await;
    }
}

fn start(dir: &Path, port: u16, operator: &Loaded, device: &Loaded) -> Server {
    let id: DeviceId = device.device_id().clone();
    let devices = BTreeMap::from([(id, key(device))]);
    let accounts = ServerAccounts::new(&[key(operator)], &devices).unwrap();
    let accounts = serde_json::to_string(&accounts).unwrap();
    std::fs::write(dir.join("accounts.json"), accounts).unwrap();
    Server::start_with(dir, port, "include \"accounts.json\"")
}

#[tokio::test]
#[ignore = "needs nats-server: the agent in an account that reaches nothing but its subjects"]
async fn a_device_with_its_own_key_follows_and_reports() {
    let scene = Scene::new().await;
    let (platform, podman) = (&scene.platform, FakePodman::default());
    scene.enrol().await;
    platform.put("pi-1.web", &score("1")).await;
    platform.put("pi-2.web", &score("9")).await;
    scene
        .with_agent(&podman, async {
            platform.phase("web", Phase::Running).await;
            scene.follows().await;
            platform.put("pi-1.web", &score("2")).await;
            platform.put("pi-1.db", &score("1")).await;
            until(|| podman.running() == ["db.a", "web.a"]).await;
            platform.phase("db", Phase::Running).await;
            platform.write_raw("pi-1.a.b", "{}").await;
            platform.problem("key 'pi-1.a.b'").await;
            platform.desired.delete("pi-1.web").await.unwrap();
            platform.gone("web").await;
            platform.desired.purge("pi-1.db").await.unwrap();
            platform.gone("db").await;
        })
        .await;
    let log = podman.take_log();
    assert!(log.contains(&"image host/x:2".to_owned()), "{log:?}");
    assert!(!log.contains(&"image host/x:9".to_owned()), "{log:?}");
}

/// A request that names such a key is longer than the server takes: it ends the connection.
#[tokio::test]
#[ignore = "needs nats-server: a key that is too long to be asked for"]
async fn a_key_of_any_length_harms_itself_only() {
    let scene = Scene::new().await;
    let (platform, podman) = (&scene.platform, FakePodman::default());
    let client = platform.nats.context.client();
    let write = async |letter: &str, operation: &str| {
        let subject = format!("$KV.desired-state.pi-1.{}", letter.repeat(4000));
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", operation);
        // An answer's subject would be too much for the writer as well.
        let sent = client.publish_with_headers(subject, headers, "{}".into());
        sent.await.unwrap();
        client.flush().await.unwrap();
    };
    scene.enrol().await;
    platform.put("pi-1.web", &score("1")).await;
    write("a", "PUT").await;
    scene
        .with_agent(&podman, async {
            platform.phase("web", Phase::Running).await;
            platform.problem("key 'pi-1.aaa").await;
            write("b", "PUT").await;
            platform.problem("key 'pi-1.bbb").await;
            platform.put("pi-1.web", &score("2")).await;
            until(|| podman.take_log().contains(&"image host/x:2".to_owned())).await;
            for letter in ["a", "b"] {
                write(letter, "DEL").await;
            }
            scene.follows().await;
        })
        .await;
}

#[tokio::test]
#[ignore = "needs nats-server: an agent that remembers nothing, and a server that is started again"]
async fn what_was_told_before_is_told_again() {
    let mut scene = Scene::new().await;
    let podman = FakePodman::default();
    scene.enrol().await;
    for (name, tag) in [("web", "1"), ("db", "1"), ("web", "2")] {
        let key = format!("pi-1.{name}");
        scene.platform.put(&key, &score(tag)).await;
    }
    let running = async || until(|| podman.running() == ["db.a", "web.a"]).await;
    scene.with_agent(&podman, running()).await;
    // Another agent, which knows nothing of that, hears of both keys, and never of the old value.
    podman.take_log();
    let platform = &scene.platform;
    scene
        .with_agent(&podman, async {
            platform.put("pi-1.new", &score("1")).await;
            until(|| podman.running() == ["db.a", "new.a", "web.a"]).await;
            platform.phase("web", Phase::Running).await;
            platform.phase("db", Phase::Running).await;
        })
        .await;
    let log = podman.take_log();
    assert!(!log.iter().any(|line| line.contains("web")), "{log:?}");
    // And what happened while it was away.
    platform.put("pi-1.web", &score("3")).await;
    platform.desired.delete("pi-1.db").await.unwrap();
    scene.server = None;
    let (operator, device) = (&scene.operator, &scene.device);
    let (dir, port) = (scene.dir.path(), scene.port);
    scene
        .with_agent(&podman, async {
            let _server = start(dir, port, operator, device);
            until(|| podman.take_log().contains(&"image host/x:3".to_owned())).await;
            until(|| podman.running() == ["new.a", "web.a"]).await;
        })
        .await;
}

#[tokio::test]
#[ignore = "needs nats-server: another connection with the device's key takes notices away"]
async fn a_notice_that_is_lost_comes_again() {
    let scene = Scene::new().await;
    let (platform, podman) = (&scene.platform, FakePodman::default());
    scene.enrol().await;
    scene
        .with_agent(&podman, async {
            scene.follows().await;
            let thief = Nats::connect(&scene.device).await;
            let mut connections = thief.connections();
            connections.wait_for(|count| *count > 0).await.unwrap();
            let client = thief.context().client();
            // As a connection that was lost goes on asking until its requests are over.
            let inbox = client.new_inbox();
            let mut stolen = client.subscribe(inbox.clone()).await.unwrap();
            for _ in 0..9 {
                let next = next_subject(key(&scene.device).as_str());
                let request = r#"{"batch":1,"expires":20000000000}"#.into();
                let sent = client.publish_with_reply(next, inbox.clone(), request);
                sent.await.unwrap();
            }
            client.flush().await.unwrap();
            platform.put("pi-1.web", &score("1")).await;
            futures::StreamExt::next(&mut stolen).await.unwrap();
            platform.phase("web", Phase::Running).await;
        })
        .await;
}

/// Carries a first connection until it is frozen, which neither side is told of, and then another one.
async fn carry(
    listener: &TcpListener,
    port: u16,
    mut frozen: watch::Receiver<bool>,
    again: &watch::Sender<Option<Instant>>,
) {
    let connect = async || TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut device, _) = listener.accept().await.unwrap();
    let mut server = connect().await;
    tokio::select! {
        ended = copy_bidirectional(&mut device, &mut server) => panic!("the connection ended: {ended:?}"),
        _ = frozen.wait_for(|frozen| *frozen) => {}
    }
    let (mut anew, _) = listener.accept().await.unwrap();
    again.send_replace(Some(Instant::now()));
    let ended = copy_bidirectional(&mut anew, &mut connect().await).await;
    panic!("the new connection ended: {ended:?}");
}

#[tokio::test]
#[ignore = "needs nats-server: loses everything on the way to it, and then makes keys"]
async fn a_dead_connection_does_not_keep_new_keys_from_the_next_one() {
    let scene = Scene::new().await;
    let (platform, podman) = (&scene.platform, FakePodman::default());
    scene.enrol().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = listener.local_addr().unwrap().port();
    let device = identified(scene.dir.path(), "pi-1", way);
    let (freeze, again) = (watch::Sender::new(false), watch::Sender::new(None));
    let scenario = async {
        scene.follows().await;
        // It comes by the request that stands.
        platform.put("pi-1.first", &score("1")).await;
        platform.phase("first", Phase::Running).await;
        freeze.send_replace(true);
        // The server serves its requests in turns: of an even number of keys the same ones are told to the dead connection
        // each time.
        for key in ["pi-1.web", "pi-1.db", "pi-1.mq"] {
            platform.put(key, &score("1")).await;
        }
        let mut again = again.subscribe();
        again.wait_for(Option::is_some).await.unwrap();
        let since: Instant = again.borrow().unwrap();
        until(|| podman.running() == ["db.a", "first.a", "mq.a", "web.a"]).await;
        let after = since.elapsed();
        assert!(after <= NEW_KEYS, "told after {after:?}");
    };
    with_configured(&device, &podman, None, async {
        tokio::select! {
            () = scenario => {}
            () = carry(&listener, scene.port, freeze.subscribe(), &again) => {}
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: starts the agent before its device is enrolled, and loses the bucket"]
async fn a_device_that_is_not_enrolled_holds_and_says_so() {
    let scene = Scene::new().await;
    let (platform, podman) = (&scene.platform, FakePodman::default());
    platform.put("pi-1.web", &score("1")).await;
    scene
        .with_agent(&podman, async {
            platform.problem("no consumer for this device's key").await;
            scene.enrol().await;
            platform.phase("web", Phase::Running).await;
            scene.follows().await;
            platform.lose_the_bucket().await;
            platform.problem("desired state not followed").await;
            let again = Platform::with(&scene.operator).await;
            again.mark(r#"{"id":"b2"}"#, 0).await.unwrap();
            scene.enrol().await;
            again.problem("does not take the place of b1").await;
            assert_eq!(podman.running(), ["web.a"]);
            again.put("pi-1.db", &score("1")).await;
            let revision = 1;
            let marker = r#"{"id":"b3","replaces":["b1"]}"#;
            again.mark(marker, revision).await.unwrap();
            until(|| podman.running() == ["db.a", "web.a"]).await;
        })
        .await;
}

#[tokio::test]
#[ignore = "needs nats-server: purges a key without a mark, which a device cannot tell from a server that is behind"]
async fn a_key_that_is_purged_without_a_mark_is_kept() {
    let scene = Scene::new().await;
    let (platform, podman) = (&scene.platform, FakePodman::default());
    let state = scene.dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let file = state.join("desired-state");
    scene.enrol().await;
    platform.put("pi-1.web", &score("1")).await;
    with_configured(&scene.device, &podman, Some(&state), async {
        platform.phase("web", Phase::Running).await;
        until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.contains("host/x:1"))).await;
    })
    .await;
    let stream = &platform.desired.stream;
    let purged = stream.purge().filter("$KV.desired-state.pi-1.web");
    purged.await.unwrap();
    with_configured(&scene.device, &podman, Some(&state), async {
        platform.problem("this device may not ask why").await;
        assert_eq!(podman.running(), ["web.a"]);
        platform.desired.delete("pi-1.web").await.unwrap();
        until(|| podman.running().is_empty()).await;
        scene.follows().await;
    })
    .await;
}
