//! A server that ends with its test, and what is awaited of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use iot_contracts::{NatsConfig, NatsUrls};
use nkeys::KeyPair;
use tokio::net::{TcpListener, TcpStream};

use super::raw::Raw;

/// How long any awaited event may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How long the server may take for what it does on its own.
pub(super) const SETTLE: Duration = Duration::from_millis(40);

/// A server that ends with this.
pub(super) struct Server(Child);

impl Server {
    pub(super) fn is_running(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server that the tests are for, with its data in `dir` and more of a configuration.
pub(super) async fn start_in(dir: &Path, more: &str) -> (u16, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let store = dir.join("store");
    let text =
        format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n{more}\n");
    let config = dir.join("nats.conf");
    std::fs::write(&config, text).expect("written");
    let program = std::env::var_os("HARMONY_TEST_NATS_SERVER");
    let mut command = Command::new(program.unwrap_or("nats-server".into()));
    command.arg("-c").arg(config).stderr(Stdio::null());
    let server = Server(command.spawn().expect("nats-server is installed"));
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listens = tokio::time::timeout(LIMIT, listens);
    listens.await.expect("it listens");
    (port, server)
}

pub(super) fn config(port: u16) -> NatsConfig {
    let url = format!("nats://127.0.0.1:{port}").parse().expect("valid");
    NatsConfig::new(NatsUrls::try_from(vec![url]).expect("one"))
}

/// A connection of the user with this key, as soon as the server has read that there is one.
pub(super) async fn once_known(port: u16, key: &KeyPair) -> Raw {
    let known = async {
        loop {
            if let Ok(raw) = Raw::connect(port, key, None).await {
                return raw;
            }
            tokio::time::sleep(SETTLE).await;
        }
    };
    let known = tokio::time::timeout(LIMIT, known);
    known.await.expect("the server knows it")
}

/// What a connection is told.
pub(super) async fn heard(raw: &mut Raw) -> String {
    let heard = async {
        loop {
            let said = raw.flush().await.expect("connected");
            if !said.is_empty() {
                return format!("{said:?}").replace('\\', "");
            }
            tokio::time::sleep(SETTLE).await;
        }
    };
    let heard = tokio::time::timeout(LIMIT, heard);
    heard.await.expect("an answer")
}

/// Waits until the server has ended a connection.
pub(super) async fn once_gone(raw: &mut Raw) {
    let gone = async {
        while raw.flush().await.is_some() {
            tokio::time::sleep(SETTLE).await;
        }
    };
    let gone = tokio::time::timeout(LIMIT, gone);
    gone.await.expect("the server ends it");
}
