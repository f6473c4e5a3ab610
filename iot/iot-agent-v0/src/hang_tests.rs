//! What hangs beside the loop, and what the service manager hears of it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use iot_contracts::Phase;

use super::super::{BUSY_INTERVAL, LONGEST_LOOK, LOOK_INTERVAL};
use super::{Bench, score};
use crate::history::STEADY;
use crate::questions::PATIENCE;
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
    let ran = super::ran(&bench.statuses.borrow());
    let run = super::run(
        &bench.podman,
        desired,
        &bench.statuses,
        ran,
        None,
        None,
        &watchdog,
    );
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
    let words = usize::try_from(LONGEST_LOOK.as_secs().div_ceil(40)).unwrap();
    assert!((words..=words + 1).contains(&heard), "{heard}");
}

/// Of its image only is it not known whether it is there.
#[tokio::test(start_paused = true)]
async fn a_question_for_an_image_that_is_never_answered_delays_no_other_container() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.run_for(2 * STEADY).await;
    bench.podman.hang("exists host/x:9");
    bench.put("aaa", &score("9"));
    let second = Duration::from_secs(1);
    let others = async {
        tokio::time::sleep(60 * second).await;
        bench.podman.cut_power();
        tokio::time::sleep(LOOK_INTERVAL + PATIENCE).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        assert_eq!(bench.status("web").0, Phase::Running);
        let waits = Some("a: waits for image 'host/x:9'".to_owned());
        assert_eq!(bench.status("aaa"), (Phase::Pending, waits));
        bench.put("new", &score("2"));
        tokio::time::sleep(2 * PATIENCE).await;
        assert_eq!(bench.status("new"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(120 * second), others);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_asked_for_fails_its_own_deployment() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.podman.fail("exists host/x:9");
    bench.put("aaa", &score("9"));
    let healing = async {
        tokio::time::sleep(STEADY).await;
        assert_eq!(bench.status("web"), (Phase::Running, None));
        let failed = (Phase::Failed, Some("a: scripted failure".to_owned()));
        assert_eq!(bench.status("aaa"), failed);
        bench.podman.heal();
        tokio::time::sleep(BUSY_INTERVAL + PATIENCE).await;
        assert_eq!(bench.status("aaa"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(2 * LOOK_INTERVAL), healing);
}
