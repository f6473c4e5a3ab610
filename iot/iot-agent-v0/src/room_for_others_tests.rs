//! What takes long makes room for what waits behind it.

use std::time::Duration;

use iot_contracts::Phase;

use super::{Bench, score};
use crate::history::STEADY;

const MINUTE: Duration = Duration::from_secs(60);

fn score_of(image: &str) -> String {
    score("1").replace("host/x:1", image)
}

#[tokio::test(start_paused = true)]
async fn eight_pulls_that_are_never_answered_make_room_for_another_registry() {
    let bench = Bench::new();
    bench.known();
    for n in 0..12 {
        bench.podman.hang(&format!("image dead/x:{n}"));
        bench.put(&format!("dead-{n}"), &score_of(&format!("dead/x:{n}")));
    }
    let others = async {
        tokio::time::sleep(6 * MINUTE).await;
        // From now on nothing is free.
        bench.put("web", &score("1"));
        tokio::time::sleep(MINUTE).await;
        assert_eq!(bench.status("web"), (Phase::Running, None));
        // Nor does a second one that is never answered keep a third one.
        for n in 0..8 {
            bench.podman.hang(&format!("image mute/x:{n}"));
            bench.put(&format!("mute-{n}"), &score_of(&format!("mute/x:{n}")));
        }
        tokio::time::sleep(10 * MINUTE).await;
        bench.put("new", &score("2"));
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(bench.status("new"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(20 * MINUTE), others);
    // What gave way is tried again when it has its turn, and not hotly.
    let begun = |n| bench.podman.begun(&format!("image dead/x:{n}"));
    let tries: usize = (0..12).map(begun).sum();
    assert!((8..=16).contains(&tries), "{tries}");
}

/// They take longer than a minute, and come nevertheless.
#[tokio::test(start_paused = true)]
async fn pulls_from_slow_registries_do_not_drive_each_other_out() {
    let bench = Bench::new();
    bench.known();
    for n in 0..16 {
        let image = format!("slow-{}/x:{n}", n % 3);
        bench.podman.take(&format!("image {image}"), 8 * MINUTE);
        bench.put(&format!("web-{n}"), &score_of(&image));
    }
    bench.run_for(40 * MINUTE).await;
    assert_eq!(bench.podman.running().len(), 16);
}

#[tokio::test(start_paused = true)]
async fn containers_that_take_long_to_stop_make_room_for_others() {
    let bench = Bench::new();
    bench.known();
    let names: Vec<_> = (0..12).map(|n| format!("web-{n:02}")).collect();
    for name in &names {
        bench.put(name, &score("1"));
    }
    bench.run_for(3 * STEADY).await;
    assert_eq!(bench.podman.running().len(), 12);
    let others = async {
        for (n, name) in names.iter().enumerate() {
            bench
                .podman
                .take(&format!("set aside {name}.a"), 10 * MINUTE);
            bench.podman.take(&format!("remove {name}.a"), 10 * MINUTE);
            match n % 2 {
                0 => bench.put(name, &score("2")),
                _ => bench.delete(name),
            }
        }
        tokio::time::sleep(3 * STEADY).await;
        bench.put("zzz", &score("1"));
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(bench.status("zzz"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(3 * MINUTE), others);
}
