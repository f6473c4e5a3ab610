//! How soon the agent is back after its server is.

use std::time::{Duration, Instant};

use futures::StreamExt;
use iot_contracts::{AgentStatus, Phase, marker_subject};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::platform::{LIMIT, Platform, score, until, with_agent};
use super::server::{Server, free_port};
use crate::bucket::{Bucket, BucketError, message};
use crate::changes::SILENCE;
use crate::connection::PING;
use crate::fake::FakePodman;

/// The longest time from the server's return until a new desired state is brought about.
const BACK: Duration = Duration::from_secs(5);

/// The longest time that a dead connection is kept: three times the wait for a ping.
const GIVEN_UP: Duration = Duration::from_secs(16);
/// How often the agent of these tests reports.
const HEARTBEAT: Duration = Duration::from_secs(1);

fn signal(server: &Server, signal: Signal) {
    let pid = Pid::from_raw(server.id().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Puts a new version at once, by a client that has seen no outage.
async fn is_back(port: u16, podman: &FakePodman, tag: &str) {
    let since = Instant::now();
    let platform = Platform::of(port).await;
    platform.put("pi-1.web", &score(tag)).await;
    let image = format!("image host/x:{tag}");
    until(|| podman.take_log().contains(&image)).await;
    let after = since.elapsed();
    assert!(after <= BACK, "{tag}: back after {after:?}");
    platform.phase("web", Phase::Running).await;
}

#[tokio::test]
#[ignore = "needs nats-server: lets it say something before it falls silent"]
async fn what_the_server_said_before_it_fell_silent_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Server::start(dir.path(), port);
    // It waits for the server.
    let _platform = Platform::of(port).await;
    let client =
        async_nats::ConnectOptions::with_user_and_password("device".into(), "hunter2".into())
            .ping_interval(PING)
            .connect(format!("127.0.0.1:{port}"))
            .await
            .unwrap();
    let (mut silent, _other) = (
        client.subscribe("silent").await.unwrap(),
        client.subscribe("other").await.unwrap(),
    );
    let waiting = message(&client, &mut silent, SILENCE);
    let falls_silent = async {
        client.publish("other", "x".into()).await.unwrap();
        client.flush().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        signal(&server, Signal::STOP);
    };
    let (ended, ()) = tokio::join!(waiting, falls_silent);
    signal(&server, Signal::CONT);
    assert!(matches!(ended, Err(BucketError::Dead)), "{ended:?}");
    // One that answers the client's question is there.
    let ended = message(&client, &mut silent, SILENCE).await;
    assert!(matches!(ended, Err(BucketError::Silence)), "{ended:?}");
}

#[tokio::test]
#[ignore = "needs nats-server: leaves without an answer what is asked first"]
async fn what_nobody_answers_is_asked_again_long_before_patience_ends() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let connect = async || {
        async_nats::ConnectOptions::with_user_and_password("device".into(), "hunter2".into())
            .retry_on_initial_connect()
            .connect(format!("127.0.0.1:{port}"))
            .await
            .unwrap()
    };
    let answering = connect().await;
    let mut asked = answering.subscribe(marker_subject()).await.unwrap();
    answering.flush().await.unwrap();
    let answers = async {
        asked.next().await.unwrap();
        let again = asked.next().await.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Sequence", "1");
        let marker = r#"{"id":"b1"}"#.into();
        let sent = answering.publish_with_headers(again.reply.unwrap(), headers, marker);
        sent.await.unwrap();
    };
    let (context, device) = (
        async_nats::jetstream::new(connect().await),
        "pi-1".parse().unwrap(),
    );
    let bucket = Bucket::new(&context, &device, LIMIT);
    let both = async { tokio::join!(bucket.marker(), answers) };
    let (marker, ()) = tokio::time::timeout(BACK, both).await.expect("asked again");
    assert!(marker.unwrap().is_some_and(|seen| seen.revision == 1));
}

/// Who is on the way, and takes no more of what is sent once it is frozen: as a network that loses everything.
async fn on_the_way(
    listener: &TcpListener,
    port: u16,
    mut frozen: watch::Receiver<bool>,
    open_again: &watch::Sender<Option<Instant>>,
) {
    let (mut agent, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tokio::select! {
        ended = copy_bidirectional(&mut agent, &mut server) => panic!("the connection ended: {ended:?}"),
        _ = frozen.wait_for(|frozen| *frozen) => {}
    }
    let since = Instant::now();
    let again = tokio::time::timeout(LIMIT, listener.accept()).await;
    let (mut again, _) = again.expect("it comes again").unwrap();
    let after = since.elapsed();
    assert!(
        after <= GIVEN_UP,
        "the dead connection was given up after {after:?}"
    );
    let mut anew = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    open_again.send_replace(Some(Instant::now()));
    let ended = copy_bidirectional(&mut again, &mut anew).await;
    panic!("the new connection ended: {ended:?}");
}

#[tokio::test]
#[ignore = "needs nats-server: loses everything on the way to it, and closes nothing"]
async fn a_connection_that_is_dead_is_given_up_within_sixteen_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let platform = Platform::of(port).await;
    platform.put("pi-1.web", &score("1")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = listener.local_addr().unwrap().port();
    let (freeze, open_again) = (watch::Sender::new(false), watch::Sender::new(None));
    let podman = FakePodman::default();
    with_agent(way, &podman, async {
        let scenario = async {
            platform.phase("web", Phase::Running).await;
            freeze.send_replace(true);
            let mut again = open_again.subscribe();
            again.wait_for(Option::is_some).await.unwrap();
            let since: Instant = again.borrow().unwrap();
            let last = platform.report("the last", |_| true).await.sequence;
            // What was sent on the dead connection is not waited for.
            let later = |report: &AgentStatus| report.sequence > last;
            platform.report("one by the new connection", later).await;
            let after = since.elapsed();
            assert!(after <= HEARTBEAT / 2, "a report after {after:?}");
        };
        tokio::select! {
            () = scenario => {}
            () = on_the_way(&listener, port, freeze.subscribe(), &open_again) => {}
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: stops it for 3, 9 and 24 s, and kills it"]
async fn the_agent_is_back_within_five_seconds_of_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let platform = Platform::of(port).await;
    platform.put("pi-1.web", &score("0")).await;
    with_agent(port, &podman, async {
        platform.phase("web", Phase::Running).await;
        // It says nothing and keeps its connections; the agent gives them up after a while.
        for seconds in [3, 9, 24] {
            signal(&server, Signal::STOP);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            signal(&server, Signal::CONT);
            is_back(port, &podman, &format!("stopped-{seconds}")).await;
        }
        drop(server);
        tokio::time::sleep(Duration::from_secs(12)).await;
        let _server = Server::start(dir.path(), port);
        is_back(port, &podman, "killed").await;
    })
    .await;
}
