//! Who gets TLS with a registry's server, and who does not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use async_nats::Client;
use iot_contracts::{NatsConfig, NatsTls, NatsUrl, NatsUrls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::server;
use crate::domain::error::error_chain;
use crate::modules::iot::platform::{
    DeviceRegistry, Platform, PlatformError, RegistryError, connection,
};

/// What a guest's gateway is: an address that leads to the server, and that the server does not know of.
struct Gateway {
    address: SocketAddr,
    /// It ends with this.
    _forwarding: JoinSet<()>,
}

impl Gateway {
    async fn to(port: u16, host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.expect("listening");
                connections.spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", port)).await;
                    let mut server = server.expect("it listens");
                    // Either side may end it at any time.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            _forwarding: forwarding,
        }
    }
}

fn url(scheme: &str, address: impl std::fmt::Display) -> NatsUrl {
    format!("{scheme}://{address}").parse().expect("valid")
}

fn config(registry: &DeviceRegistry, url: &NatsUrl) -> NatsConfig {
    let urls = NatsUrls::from(url.clone());
    registry.platform_config(urls).expect("there")
}

/// Why there is no connection.
async fn refused(nats: &NatsConfig) -> String {
    let error = connection::connect(nats).await.map(drop);
    let error = error.expect_err("refused");
    assert!(matches!(error, PlatformError::Connect { .. }), "{error:?}");
    error_chain(&error)
}

/// How often a client has connected, once it has been answered.
async fn connections(client: &Client) -> u64 {
    client.flush().await.expect("connected");
    client.statistics().connects.load(Ordering::Relaxed)
}

/// What a server says to who speaks plain text, after its first line.
async fn answer_in_plain_text(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("it listens");
    let hello = b"CONNECT {\"verbose\":false}\r\nPING\r\n";
    stream.write_all(hello).await.expect("open");
    let mut said = Vec::new();
    // It ends the connection, one way or the other.
    let _ = stream.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said).into_owned();
    let (first, rest) = said.split_once("\r\n").expect("its first line");
    assert!(first.starts_with("INFO "), "{first}");
    rest.to_owned()
}

async fn start(registry: &DeviceRegistry, dir: &Path) -> (u16, server::Server) {
    registry.platform_credentials().expect("made");
    assert!(registry.ensure_certificate(&[]).expect("made"));
    let more = registry.server_config().expect("absolute");
    server::start_in(dir, &more).await
}

#[tokio::test]
#[ignore = "needs nats-server: names it anew by a reload, while clients are connected"]
async fn a_name_is_added_by_a_reload_and_only_tls_by_the_authority_is_taken() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let registry = DeviceRegistry::new(dir.path());
    let (port, _server) = start(&registry, dir.path()).await;
    let here = url("tls", format_args!("localhost:{port}"));
    let nats = config(&registry, &here);
    Platform::connect(&nats).await.expect("the buckets");
    let early = connection::connect(&nats).await.expect("by the authority");

    let gateway = Gateway::to(port, "127.0.0.2").await;
    let there = url("tls", gateway.address);
    let by_gateway = config(&registry, &there);
    let why = refused(&by_gateway).await;
    assert!(why.contains("not valid for name"), "{why}");
    for _ in 0..2 {
        let certified = registry.certify(&[(&here, there.host())]).await;
        certified.expect("it shows it");
        connection::connect(&by_gateway).await.expect("named");
    }
    assert_eq!(connections(&early).await, 1);

    // A certificate of which the server was not told, as when the process ended there.
    let second_gateway = Gateway::to(port, "127.0.0.3").await;
    let second = url("tls", second_gateway.address);
    let by_second = config(&registry, &second);
    assert!(registry.ensure_certificate(&[second.host()]).expect("made"));
    refused(&by_second).await;
    let certified = registry.certify(&[(&here, second.host())]).await;
    certified.expect("it is told");
    connection::connect(&by_second).await.expect("named");
    connection::connect(&by_gateway).await.expect("still named");
    assert_eq!(connections(&early).await, 1);

    let other = tempfile::tempdir().expect("temporary directory");
    let other = DeviceRegistry::new(other.path());
    let made = other.ensure_certificate(&[]);
    assert!(made.expect("made"));
    let mut by_other = nats.clone();
    by_other.tls = Some(NatsTls {
        ca: Some(other.ca_file()),
        ..NatsTls::default()
    });
    let why = refused(&by_other).await;
    assert!(why.contains("UnknownIssuer"), "{why}");
    let by_system = NatsConfig { tls: None, ..nats };
    let why = refused(&by_system).await;
    assert!(why.contains("UnknownIssuer"), "{why}");
    let said = answer_in_plain_text(port).await;
    assert!(!said.contains("PONG"), "{said}");
}

#[tokio::test]
#[ignore = "needs nats-server: starts it without TLS, and with another authority's certificate"]
async fn a_server_that_shows_something_else_is_told_of() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let registry = DeviceRegistry::new(dir.path());
    registry.platform_credentials().expect("made");
    let plain = format!(
        "include \"accounts.json\"\npid_file: {:?}",
        registry.pid_file()
    );
    let (port, server) = server::start_in(dir.path(), &plain).await;
    let here = url("tls", format_args!("127.0.0.1:{port}"));
    not_served(&registry, &here).await;
    drop(server);

    let other = tempfile::tempdir().expect("temporary directory");
    let (port, _server) = start(&DeviceRegistry::new(other.path()), other.path()).await;
    std::fs::copy(other.path().join("nats.pid"), registry.pid_file()).expect("there");
    let here = url("tls", format_args!("127.0.0.1:{port}"));
    not_served(&registry, &here).await;
}

async fn not_served(registry: &DeviceRegistry, url: &NatsUrl) {
    let error = registry.certify(&[(url, "10.0.2.2")]).await;
    let error = error.expect_err("another one, or none");
    let RegistryError::NotServed { name, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(name, "10.0.2.2");
}
