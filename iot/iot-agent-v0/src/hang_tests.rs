//! What the service manager hears of the loop.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::super::LONGEST_LOOK;
use super::{Bench, score};
use crate::watchdog::{GOES_ON, ServiceManager};

/// The longest silence; a word is due three times within it.
const SILENCE: Duration = Duration::from_secs(120);

/// How often the loop says within `time` that it goes on.
async fn words(bench: &Bench, time: Duration) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let manager = ServiceManager::at(Some(path.into()), Some(SILENCE));
    let watchdog = manager.watchdog();
    let desired = bench.desired.subscribe();
    let run = super::run(&bench.podman, desired, &bench.statuses, None, &watchdog);
    tokio::pin!(run);
    let (mut heard, mut buffer) = (0, [0; 64]);
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        let step = SILENCE.min(end - tokio::time::Instant::now());
        let ended = tokio::time::timeout(step, &mut run).await;
        assert!(ended.is_err(), "the loop ended by itself");
        while let Ok(length) = socket.recv(&mut buffer) {
            assert_eq!(&buffer[..length], GOES_ON.as_bytes());
            heard += 1;
        }
    }
    heard
}

#[tokio::test(start_paused = true)]
async fn a_podman_that_is_slow_or_away_is_no_hang() {
    let minutes = Duration::from_secs(600);
    let expected = 15..=16;
    let bench = Bench::new();
    assert!(expected.contains(&words(&bench, minutes).await), "idle");

    bench.put("web", &score("1"));
    bench.podman.hang("image host/x:1");
    bench.podman.set_looking(Duration::from_secs(59));
    let heard = words(&bench, minutes).await;
    assert!(expected.contains(&heard), "slow: {heard}");

    bench.podman.set_absent(true);
    let heard = words(&bench, minutes).await;
    assert!(expected.contains(&heard), "away: {heard}");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_does_not_end_is_one() {
    let bench = Bench::new();
    bench.podman.set_looking(LONGEST_LOOK * 10);
    let heard = words(&bench, LONGEST_LOOK * 3).await;
    assert!((90..=91).contains(&heard), "{heard}");
}
