//! Images come and go.

use std::time::Duration;

use iot_contracts::Phase;

use super::{Bench, score};
use crate::history::{NO_SPACE_RETRY, STEADY};
use crate::reconcile::LOOK_INTERVAL;
use crate::room::keeper::{SWEEP_INTERVAL, SWEPT};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn the_longest_unused_images_go_where_there_is_no_room_and_the_one_before_stays() {
    let bench = Bench::new();
    bench.known();
    bench.podman.set_room(3);
    let updates = async {
        for tag in 1..=12 {
            bench.put("web", &score(&tag.to_string()));
            tokio::time::sleep(NO_SPACE_RETRY + SWEPT + 2 * STEADY).await;
            let runs = format!("web.a host/x:{tag} runs");
            assert_eq!(bench.podman.containers(), [runs]);
        }
    };
    let time = 13 * (NO_SPACE_RETRY + SWEPT + 2 * STEADY);
    tokio::join!(bench.run_for(time), updates);
    let there = bench.podman.images_there();
    assert!((2..=4).contains(&there.len()), "{there:?}");
    assert!(there.contains(&"host/x:12".to_owned()));
    assert!(there.contains(&"host/x:11".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn unused_images_go_when_they_are_old() {
    let bench = Bench::new();
    bench.known();
    let updates = async {
        bench.put("web", &score("1"));
        tokio::time::sleep(LOOK_INTERVAL).await;
        bench.put("web", &score("2"));
        tokio::time::sleep(7 * DAY).await;
        assert_eq!(bench.podman.images_there(), ["host/x:1", "host/x:2"]);
        tokio::time::sleep(2 * SWEEP_INTERVAL).await;
        assert_eq!(bench.podman.images_there(), ["host/x:2"]);
    };
    tokio::join!(bench.run_for(8 * DAY), updates);
}

/// Each life loses the time since its last sweep.
#[tokio::test(start_paused = true)]
async fn unused_images_go_when_they_are_old_also_where_no_agent_lives_that_long() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.put("web", &score("2"));
    for _ in 0..6 {
        bench.run_for(DAY).await;
        assert_eq!(bench.podman.images_there(), ["host/x:1", "host/x:2"]);
    }
    bench.run_for(DAY).await;
    bench.run_for(DAY).await;
    assert_eq!(bench.podman.images_there(), ["host/x:2"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_begins_on_a_full_disk_makes_room_at_once() {
    let bench = Bench::new();
    bench.known();
    bench.podman.set_room(0);
    bench.put("web", &score("1"));
    bench.run_for(STEADY).await;
    bench.delete("web");
    bench.run_for(STEADY).await;
    bench.put("web", &score("2"));
    bench.run_for(STEADY).await;
    assert_eq!(bench.podman.containers(), ["web.a host/x:2 runs"]);
    assert_eq!(bench.podman.images_there(), ["host/x:2"]);
}

#[tokio::test(start_paused = true)]
async fn want_of_space_is_told_and_not_tried_hotly() {
    let bench = Bench::new();
    bench.known();
    bench.podman.set_room(0);
    bench.put("web", &score("1"));
    bench.run_for(Duration::from_secs(1)).await;
    assert_eq!(bench.podman.running(), ["web.a"]);
    for n in 2..5 {
        bench.put(&format!("web-{n}"), &score(&n.to_string()));
    }
    bench.run_for(2 * NO_SPACE_RETRY).await;
    let told = "a: no space left: 0 MiB are free, 0 MiB are kept free".to_owned();
    assert_eq!(bench.status("web-2"), (Phase::Failed, Some(told)));
    assert_eq!(bench.status("web"), (Phase::Running, None));
    assert_eq!(bench.podman.begun("image host/x:2"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_eats_the_reserve_is_ended() {
    let bench = Bench::new();
    bench.known();
    bench.podman.set_room(10);
    bench.podman.hang("image host/x:1");
    bench.put("web", &score("1"));
    let full = async {
        tokio::time::sleep(LOOK_INTERVAL).await;
        assert_eq!(bench.status("web").0, Phase::Pending);
        bench.podman.fill();
        tokio::time::sleep(LOOK_INTERVAL).await;
        let (phase, detail) = bench.status("web");
        assert_eq!(phase, Phase::Failed);
        assert!(detail.unwrap().contains("no space left"));
        bench.podman.heal();
        bench.podman.set_room(10);
        tokio::time::sleep(NO_SPACE_RETRY + LOOK_INTERVAL).await;
        assert_eq!(bench.status("web"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(2 * NO_SPACE_RETRY), full);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fills_the_disk_between_two_looks_is_ended_in_time() {
    let bench = Bench::new();
    bench.known();
    bench.podman.set_room(10);
    for tag in ["1", "2"] {
        bench.podman.hang(&format!("image host/x:{tag}"));
        bench.put(&format!("web-{tag}"), &score(tag));
    }
    let full = async {
        let second = Duration::from_secs(1);
        tokio::time::sleep(LOOK_INTERVAL + second / 10).await;
        bench.podman.take_looks();
        bench.podman.fill();
        tokio::time::sleep(second).await;
        for name in ["web-1", "web-2"] {
            let (phase, detail) = bench.status(name);
            assert_eq!(phase, Phase::Failed);
            assert!(detail.unwrap().contains("no space left"));
        }
        tokio::time::sleep(NO_SPACE_RETRY / 2).await;
        assert_eq!(bench.podman.begun("image host/x:1"), 1);
    };
    tokio::join!(bench.run_for(NO_SPACE_RETRY), full);
}

#[tokio::test(start_paused = true)]
async fn what_becomes_wanted_while_images_are_removed_stays() {
    let bench = Bench::new();
    bench.known();
    bench.podman.set_room(10);
    for tag in ["1", "2", "3"] {
        bench.put("web", &score(tag));
        bench.run_for(2 * STEADY).await;
    }
    bench.podman.take("discard host/x:1", 2 * STEADY);
    bench.podman.take("create web.a", 2 * STEADY);
    bench.podman.set_room(0);
    let change = async {
        bench.put("web-2", &score("4"));
        tokio::time::sleep(STEADY).await;
        assert_eq!(bench.podman.begun("discard host/x:1"), 1);
        bench.put("web", &score("2"));
    };
    tokio::join!(bench.run_for(4 * STEADY), change);
    assert_eq!(bench.podman.begun("image host/x:2"), 1);
    assert_eq!(bench.podman.begun("discard host/x:2"), 0);
    let there = bench.podman.containers();
    assert!(
        there.contains(&"web.a host/x:2 runs".to_owned()),
        "{there:?}"
    );
}
