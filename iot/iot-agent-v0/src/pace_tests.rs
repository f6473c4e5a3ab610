//! How soon, how often, and never hotly.

use std::time::Duration;

use iot_contracts::Phase;

use super::{Bench, score};
use crate::container::ContainerState;
use crate::history::STEADY;
use crate::reconcile::LOOK_INTERVAL;

#[tokio::test(start_paused = true)]
async fn what_ends_at_once_is_not_started_hotly() {
    let bench = Bench::new();
    bench.known();
    bench.podman.exit_at_once();
    bench.put("web", &score("1"));
    bench.run_for(Duration::from_secs(300)).await;
    let log = bench.podman.take_log();
    let steps = log.iter().filter(|step| *step == "start web.a").count();
    assert!((10..20).contains(&steps), "{steps}");
}

#[tokio::test(start_paused = true)]
async fn looks_are_few_while_all_is_well() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.take_looks();
    bench.run_for(10 * LOOK_INTERVAL).await;
    assert_eq!(bench.podman.take_looks(), 11);
}

#[tokio::test(start_paused = true)]
async fn what_ends_is_back_at_once() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    let end = async {
        tokio::time::sleep(STEADY + Duration::from_secs(5)).await;
        bench.podman.take_looks();
        bench.podman.end("web.a", 3);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        assert_eq!(bench.podman.take_looks(), 2);
        let detail = "a: had exited with code 3, started again".to_owned();
        assert_eq!(bench.status("web"), (Phase::Running, Some(detail)));
    };
    tokio::join!(bench.run_for(LOOK_INTERVAL), end);
}

#[tokio::test(start_paused = true)]
async fn what_ends_is_back_soon_when_podman_is_slow_to_notice() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    let second = Duration::from_secs(1);
    let end = async {
        tokio::time::sleep(STEADY + 5 * second).await;
        bench.podman.take_looks();
        bench.podman.notice();
        tokio::time::sleep(3 * second / 2).await;
        bench
            .podman
            .set_state("web.a", ContainerState::Exited { code: 3 });
        tokio::time::sleep(3 * second / 2).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        tokio::time::sleep(10 * second).await;
        assert!(bench.podman.take_looks() <= 5);
    };
    tokio::join!(bench.run_for(LOOK_INTERVAL), end);
}

#[tokio::test(start_paused = true)]
async fn what_ends_while_it_is_looked_at_is_not_done_twice() {
    let bench = Bench::new();
    bench.known();
    let second = Duration::from_secs(1);
    bench.podman.set_looking(2 * second);
    for n in 0..4 {
        bench
            .podman
            .take(&format!("create web-{n}.a"), second * (n + 1));
        bench.put(&format!("web-{n}"), &score("1"));
    }
    bench.run_for(60 * second).await;
    assert_eq!(bench.podman.running().len(), 4);
    let log = bench.podman.take_log();
    assert_eq!(log.len(), 5, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn what_podman_says_it_did_and_did_not_is_not_asked_for_hotly() {
    for step in ["remove web.a", "start web.a"] {
        let bench = Bench::new();
        bench.known();
        bench.put("web", &score("1"));
        bench.run_for(2 * STEADY).await;
        bench.podman.take_log();
        bench.podman.hollow(step);
        match step {
            "start web.a" => bench.podman.cut_power(),
            _ => bench.delete("web"),
        }
        bench.run_for(10 * LOOK_INTERVAL).await;
        let steps = bench.podman.take_log().len();
        assert!((8..18).contains(&steps), "{step}: {steps}");
        assert_eq!(bench.status("web").0, Phase::Failed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_mended_by_a_change_is_tried_at_once() {
    let bench = Bench::new();
    bench.known();
    bench.podman.fail("create web.a");
    bench.put("web", &score("1"));
    let change = async {
        tokio::time::sleep(4 * LOOK_INTERVAL).await;
        bench.podman.heal();
        bench.put("web", &score("2"));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(bench.status("web"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(5 * LOOK_INTERVAL), change);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_podman_finds_by_no_name_is_fetched_once_a_try() {
    let bench = Bench::new();
    bench.known();
    bench.podman.hide_images();
    bench.put("web", &score("1"));
    bench.run_for(STEADY).await;
    assert_eq!(bench.podman.take_log(), ["image host/x:1", "create web.a"]);
    bench.podman.fail("create web.a");
    bench.put("web", &score("2"));
    bench.run_for(STEADY).await;
    assert!(bench.podman.begun("image host/x:2") <= 5);
    assert_eq!(bench.podman.containers(), ["web.a host/x:1 runs"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_keeps_nothing_else() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.run_for(2 * STEADY).await;
    bench.podman.exits("host/x:2");
    bench.put("web", &score("2"));
    bench.run_for(2 * STEADY).await;
    let both = ["web.a host/x:1 runs", "web.a.failed host/x:2 down"];
    assert_eq!(bench.podman.containers(), both);
    bench.podman.fail("remove web.a");
    bench.delete("web");
    bench.run_for(STEADY).await;
    assert_eq!(bench.podman.containers(), ["web.a host/x:1 runs"]);
    let failed = (Phase::Failed, Some("a: scripted failure".to_owned()));
    assert_eq!(bench.status("web"), failed);
}
