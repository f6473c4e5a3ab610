//! A way to the server that is slow for a while.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rounds::{Bench, count};
use crate::site::{By, Site};

/// The most that is carried at once, in bytes.
const PIECE: usize = 256;

/// How many bytes a second pass each way of each connection; `None` for all there are.
type Rate = Option<f64>;

/// Carries connections to the server. It ends with its runtime.
async fn carry(listener: TcpListener, port: u16, rate: watch::Receiver<Rate>) {
    loop {
        let Ok((device, _)) = listener.accept().await else {
            continue;
        };
        let rate = rate.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            let (device, server) = (device.into_split(), server.into_split());
            // When one way ends the connection has ended.
            tokio::select! {
                () = one_way(device.0, server.1, rate.clone()) => {}
                () = one_way(server.0, device.1, rate) => {}
            }
        });
    }
}

async fn one_way(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut rate: watch::Receiver<Rate>,
) {
    let mut piece = [0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let now = *rate.borrow_and_update();
        if let Some(bytes) = now {
            let time = Duration::from_secs_f64(length as f64 / bytes);
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                // It is not slow any more.
                _ = rate.changed() => {}
            }
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "needs nats-server: carries ten to a thousand bytes a second to it for a while"]
async fn rounds_of_a_slow_way() {
    for by in By::ALL {
        slow_way(by).await;
    }
}

async fn slow_way(by: By) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::on_loopback(dir.path(), by);
    let (_server, port) = site.start_server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = listener.local_addr().unwrap().port();
    let rate = watch::Sender::new(None);
    tokio::spawn(carry(listener, port, rate.subscribe()));
    let platform = site.platform(&[port], 1).await;
    let (kind, access) = (format!("slow, {by}"), site.access(&[way]));
    let mut bench = Bench::start((kind, by), dir.path(), &access, None, platform).await;
    for _ in 0..count(by) {
        bench.begin().await;
        // A report has about two thousand.
        let bytes = 10.0 * 100_f64.powf(bench.chance.f64());
        rate.send_replace(Some(bytes));
        bench.sleep(0.2..8.0).await;
        bench.change().await;
        bench.sleep(0.2..12.0).await;
        rate.send_replace(None);
        bench.end(Instant::now()).await;
    }
    bench.tell();
}
