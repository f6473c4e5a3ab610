//! Updates, and what comes between.

use std::time::Duration;

use iot_contracts::Phase;

use super::{Bench, score};
use crate::container::ContainerState;
use crate::desired::DesiredState;
use crate::history::{FIRST_SECOND_TRY, STEADY};
use crate::reconcile::LOOK_INTERVAL;
use crate::settle::{BETWEEN, STUCK, TRIAL};

#[tokio::test(start_paused = true)]
async fn an_update_whose_image_fails_leaves_the_old_container() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.fail("image host/x:2");
    bench.put("web", &score("2"));
    bench.pass().await;
    assert_eq!(bench.podman.running(), ["web.a"]);
    assert_eq!(bench.status("web").0, Phase::Failed);
}

#[tokio::test(start_paused = true)]
async fn after_a_power_cut_the_old_container_runs_while_the_new_image_cannot_be_had() {
    for hangs in [false, true] {
        let bench = Bench::new();
        bench.known();
        bench.put("web", &score("1"));
        bench.pass().await;
        match hangs {
            false => bench.podman.fail("image host/x:2"),
            true => bench.podman.hang("image host/x:2"),
        }
        bench.put("web", &score("2"));
        bench.pass().await;
        bench.podman.cut_power();
        bench.run_for(Duration::from_secs(1)).await;
        assert_eq!(bench.podman.containers(), ["web.a host/x:1 runs"]);
        assert_ne!(bench.status("web").0, Phase::Running);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_up_gives_way_to_what_ran_before_and_is_tried_again() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.exits("host/x:2");
    bench.put("web", &score("2"));
    let second = Duration::from_secs(1);
    let end = async {
        tokio::time::sleep(second / 2).await;
        let detail = "a: exited with code 7".to_owned();
        assert_eq!(bench.status("web"), (Phase::Failed, Some(detail)));
        tokio::time::sleep(10 * second).await;
        let both = ["web.a host/x:1 runs", "web.a.failed host/x:2 down"];
        assert_eq!(bench.podman.containers(), both);
        let volumes = ["harmony.web.a v1", "harmony.web.a.failed v1"];
        assert_eq!(bench.podman.volumes(), volumes);
        let detail = "a: exited with code 7; the one before it is kept".to_owned();
        assert_eq!(bench.status("web"), (Phase::Failed, Some(detail)));
    };
    tokio::join!(bench.run_for(20 * second), end);
    // An agent that begins anew does not try it at once.
    bench.podman.take_log();
    bench.run_for(FIRST_SECOND_TRY - second).await;
    assert_eq!(bench.podman.take_log(), [""; 0]);
    // It is tried again, and now it stays up.
    bench.podman.heal();
    bench
        .run_for(FIRST_SECOND_TRY + LOOK_INTERVAL + STEADY)
        .await;
    assert_eq!(bench.podman.containers(), ["web.a host/x:2 runs"]);
    assert_eq!(bench.podman.volumes(), ["harmony.web.a v1"]);
    assert_eq!(bench.status("web"), (Phase::Running, None));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_or_started_gives_way_to_what_ran_before() {
    for step in ["create web.a", "start host/x:2"] {
        let bench = Bench::new();
        bench.known();
        bench.put("web", &score("1"));
        bench.pass().await;
        bench.podman.fail(step);
        bench.put("web", &score("2"));
        let back = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            if step != "create web.a" {
                tokio::time::sleep(STEADY * 3).await;
            }
            let there = bench.podman.containers();
            assert_eq!(there[0], "web.a host/x:1 runs", "{step}");
            let detail = "a: scripted failure; the one before it is kept".to_owned();
            let failed = (Phase::Failed, Some(detail));
            assert_eq!(bench.status("web"), failed, "{step}");
        };
        tokio::join!(bench.run_for(4 * STEADY), back);
    }
}

/// The power goes after each step of an update in turn, with the registry there and without.
#[tokio::test(start_paused = true)]
async fn an_update_converges_whenever_the_power_goes() {
    let steps = [
        "image host/x:2",
        "set aside web.a",
        "create web.a",
        "remove web.a.previous",
    ];
    for step in steps {
        for registry in [true, false] {
            let bench = Bench::new();
            bench.known();
            bench.put("web", &score("1"));
            bench.pass().await;
            bench.podman.hang(step);
            bench.put("web", &score("2"));
            bench.run_for(2 * STEADY).await;
            bench.podman.cut_power();
            bench.podman.heal();
            if !registry {
                bench.podman.fail("image host/x:2");
            }
            // The platform is away at first.
            let known = bench.desired.send_replace(DesiredState::default());
            bench.run_for(Duration::from_secs(1)).await;
            assert_eq!(bench.podman.running(), ["web.a"], "{step}");
            bench.desired.send_replace(known);
            bench.run_for(3 * STEADY).await;
            let (tag, phase) = match registry || step != "image host/x:2" {
                true => (2, Phase::Running),
                false => (1, Phase::Failed),
            };
            let expected = format!("web.a host/x:{tag} runs");
            assert_eq!(bench.podman.containers(), [expected], "{step} {registry}");
            assert_eq!(
                bench.podman.volumes(),
                ["harmony.web.a v1"],
                "{step} {registry}"
            );
            assert_eq!(bench.status("web").0, phase, "{step} {registry}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_rests_between_two_states_is_mended_once() {
    for stops in [true, false] {
        let bench = Bench::new();
        bench.known();
        bench.put("web", &score("1"));
        bench.pass().await;
        bench.podman.take_log();
        bench.podman.set_state("web.a", ContainerState::Between);
        if !stops {
            bench.podman.fail("stop web.a");
        }
        let mended = async {
            tokio::time::sleep(BETWEEN / 2).await;
            let changing = (Phase::Pending, Some("a: changing".to_owned()));
            assert_eq!(bench.status("web"), changing);
            assert_eq!(bench.podman.take_log(), [""; 0]);
            tokio::time::sleep(STUCK + LOOK_INTERVAL).await;
            assert_eq!(bench.podman.containers(), ["web.a host/x:1 runs"]);
            assert_eq!(bench.podman.volumes(), ["harmony.web.a v1"]);
            let log = bench.podman.take_log();
            let made = log.iter().filter(|step| step.contains("create")).count();
            assert_eq!(made, usize::from(!stops), "{log:?}");
            assert!(log.len() < 12, "{log:?}");
        };
        tokio::join!(bench.run_for(3 * STUCK), mended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_image_is_fetched_anew() {
    let bench = Bench::new();
    bench.known();
    bench.podman.damage("host/x:1", false);
    bench.put("web", &score("1"));
    bench.put("web-2", &score("1"));
    bench.run_for(5 * LOOK_INTERVAL).await;
    let running = ["web-2.a host/x:1 runs", "web.a host/x:1 runs"];
    assert_eq!(bench.podman.containers(), running);
    // Once to know that the registry has it.
    assert_eq!(bench.podman.begun("image host/x:1"), 2);
    assert_eq!(bench.status("web").0, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_image_stays_while_there_is_no_other_and_its_containers_data_always() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    let volumes = bench.podman.volumes();
    bench.podman.damage("host/x:1", false);
    bench.podman.fail("image host/x:1");
    bench.podman.cut_power();
    bench.run_for(10 * LOOK_INTERVAL).await;
    assert_eq!(bench.podman.containers(), ["web.a host/x:1 down"]);
    assert_eq!(bench.podman.images_there(), ["host/x:1"]);
    bench.podman.heal();
    bench.run_for(5 * LOOK_INTERVAL).await;
    assert_eq!(bench.podman.containers(), ["web.a host/x:1 runs"]);
    assert_eq!(bench.podman.volumes(), volumes);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_container_goes_with_its_deployment() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.damage("host/x:1", false);
    bench.podman.cut_power();
    bench.podman.take("remove image host/x:1", LOOK_INTERVAL);
    let deletion = async {
        while bench.podman.begun("remove image host/x:1") == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(bench.podman.containers().is_empty());
        bench.delete("web");
    };
    tokio::join!(bench.run_for(5 * LOOK_INTERVAL), deletion);
    assert!(bench.statuses.borrow().is_empty());
    bench.put("web", &score("1"));
    bench.run_for(5 * LOOK_INTERVAL).await;
    assert_eq!(bench.podman.volumes(), ["harmony.web.a v2"]);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_always_damaged_is_not_fetched_for_ever() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.damage("host/x:2", true);
    bench.put("web", &score("2"));
    bench.run_for(60 * LOOK_INTERVAL).await;
    assert_eq!(bench.podman.begun("image host/x:2"), 2);
    let there = bench.podman.containers();
    assert!(
        there.contains(&"web.a host/x:1 runs".to_owned()),
        "{there:?}"
    );
    let (phase, detail) = bench.status("web");
    assert_eq!(phase, Phase::Failed);
    assert!(detail.unwrap().contains("the image is damaged"));
}

/// What ran before cannot be removed, or is not known to be one that may go.
#[tokio::test(start_paused = true)]
async fn what_has_proven_itself_is_never_rolled_back() {
    for (held, starts) in [(false, true), (false, false), (true, true)] {
        let bench = Bench::new();
        bench.known();
        bench.put("web", &score("1"));
        bench.pass().await;
        bench.podman.fail("remove web.a.previous");
        bench.put("web", &score("2"));
        let second = Duration::from_secs(1);
        let ends = async {
            tokio::time::sleep(second).await;
            if held {
                bench.desired.send_replace(DesiredState::default());
            }
            tokio::time::sleep(10 * TRIAL).await;
            if !starts {
                bench.podman.fail("start web.a");
            }
            bench.podman.end("web.a", 3);
            tokio::time::sleep(5 * LOOK_INTERVAL).await;
            bench.podman.heal();
            bench.podman.fail("remove web.a.previous");
            tokio::time::sleep(2 * LOOK_INTERVAL).await;
            let both = ["web.a host/x:2 runs", "web.a.previous host/x:1 down"];
            assert_eq!(bench.podman.containers(), both, "{held} {starts}");
        };
        tokio::join!(bench.run_for(15 * TRIAL), ends);
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_container_is_updated() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.set_state("web.a", ContainerState::Paused);
    bench.put("web", &score("2"));
    bench.run_for(3 * STEADY).await;
    assert_eq!(bench.podman.containers(), ["web.a host/x:2 runs"]);
    assert_eq!(bench.status("web"), (Phase::Running, None));
}

/// Each second try stops the one that runs.
#[tokio::test(start_paused = true)]
async fn what_never_comes_up_is_not_tried_for_ever() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.exits("host/x:2");
    bench.put("web", &score("2"));
    let day = Duration::from_secs(24 * 3600);
    let tries = || bench.podman.begun("create web.a");
    let change = async {
        tokio::time::sleep(day).await;
        let first = tries();
        assert_eq!(first, 10);
        let detail = "a: exited with code 7; given up after 9 tries, a new value of its key is tried; \
                      the one before it is kept";
        let failed = (Phase::Failed, Some(detail.to_owned()));
        assert_eq!(bench.status("web"), failed);
        tokio::time::sleep(day).await;
        assert_eq!(tries(), first);
        bench.put("web", &score("3"));
        tokio::time::sleep(2 * STEADY).await;
        bench.podman.heal();
        bench.put("web", &score("2"));
        tokio::time::sleep(2 * STEADY).await;
        assert_eq!(bench.podman.containers(), ["web.a host/x:2 runs"]);
    };
    tokio::join!(bench.run_for(3 * day), change);
}
