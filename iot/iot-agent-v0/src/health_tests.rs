//! Containers that run and do not work.

use std::time::Duration;

use iot_contracts::{Phase, ServiceHealth};

use super::Bench;
use crate::container::Health;
use crate::desired::DesiredState;
use crate::history::STEADY;
use crate::reconcile::LOOK_INTERVAL;

/// What the check of [`score`] has for becoming healthy: 60 s, 2 runs of up to 5 s, and 30 s more.
const BOUND: Duration = Duration::from_secs(100);

fn score(tag: &str, more: &str) -> String {
    format!(
        r#"{{"type":"PodmanV1","data":{{"services":[{{"name":"a","image":"host/x:{tag}",{more}
            "health":{{"command":["c"],"interval_seconds":3,"timeout_seconds":2,"retries":2,
            "start_period_seconds":60}}}}]}}}}"#
    )
}

/// A bench where `host/x:1` runs and is healthy.
async fn bench() -> Bench {
    let bench = Bench::new();
    bench.known();
    bench.podman.set_health("host/x:1", Health::Healthy);
    bench.put("web", &score("1", ""));
    bench.run_for(2 * STEADY).await;
    assert_eq!(bench.status("web"), (Phase::Running, None));
    bench.podman.take_log();
    bench
}

#[tokio::test(start_paused = true)]
async fn health_is_told_of_what_runs() {
    let bench = bench().await;
    let health = || {
        let statuses = bench.statuses.borrow();
        statuses[&"web".parse().unwrap()].services[&"a".parse().unwrap()].health
    };
    for (is, told) in [
        (Health::Starting, ServiceHealth::Starting),
        (Health::Healthy, ServiceHealth::Healthy),
    ] {
        bench.podman.set_health("host/x:1", is);
        bench.pass().await;
        assert_eq!(health(), Some(told));
    }
    bench.podman.fail("start host/x:1");
    bench.podman.cut_power();
    bench.pass().await;
    assert_eq!(health(), None);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_unhealthy_gives_way_to_what_ran_before() {
    let bench = bench().await;
    bench.podman.set_health("host/x:2", Health::Unhealthy);
    bench.put("web", &score("2", ""));
    bench.run_for(Duration::from_secs(5)).await;
    assert_eq!(
        bench.podman.take_log(),
        [
            "image host/x:2",
            "set aside web.a",
            "create web.a",
            // The port is free before the one that has it comes back.
            "stop web.a",
            "rename web.a web.a.failed",
            "rename web.a.previous web.a",
            "start web.a"
        ]
    );
    let both = ["web.a host/x:1 runs", "web.a.failed host/x:2 down"];
    assert_eq!(bench.podman.containers(), both);
    let detail = "a: unhealthy; the one before it is kept".to_owned();
    assert_eq!(bench.status("web"), (Phase::Failed, Some(detail)));
    // Another agent knows why, and does not try it at once.
    bench.run_for(Duration::from_secs(5)).await;
    assert_eq!(bench.podman.take_log(), [""; 0]);
    let detail = "a: unhealthy; the one before it is kept".to_owned();
    assert_eq!(bench.status("web"), (Phase::Failed, Some(detail)));
}

#[tokio::test(start_paused = true)]
async fn an_update_has_its_bound_for_becoming_healthy() {
    for becomes_healthy in [true, false] {
        let bench = bench().await;
        bench.put("web", &score("2", ""));
        let watch = async {
            tokio::time::sleep(BOUND - Duration::from_secs(3)).await;
            let both = ["web.a host/x:2 runs", "web.a.previous host/x:1 down"];
            assert_eq!(bench.podman.containers(), both);
            let detail = "a: new, waits for its health check; the one before it is kept";
            assert_eq!(
                bench.status("web"),
                (Phase::Pending, Some(detail.to_owned()))
            );
            if becomes_healthy {
                bench.podman.set_health("host/x:2", Health::Healthy);
            }
            tokio::time::sleep(STEADY).await;
            if becomes_healthy {
                assert_eq!(bench.podman.containers(), ["web.a host/x:2 runs"]);
                assert_eq!(bench.status("web"), (Phase::Running, None));
            } else {
                let both = ["web.a host/x:1 runs", "web.a.failed host/x:2 down"];
                assert_eq!(bench.podman.containers(), both);
                let detail = "a: not healthy within 100 s; the one before it is kept".to_owned();
                assert_eq!(bench.status("web"), (Phase::Failed, Some(detail)));
            }
        };
        tokio::join!(bench.run_for(BOUND + STEADY), watch);
    }
}

/// The power goes after each step of the way back.
#[tokio::test(start_paused = true)]
async fn the_way_back_converges_whenever_the_power_goes() {
    let steps = [
        "stop web.a",
        "rename web.a web.a.failed",
        "rename web.a.previous web.a",
        "start web.a",
    ];
    for step in steps {
        let bench = bench().await;
        bench.podman.set_health("host/x:2", Health::Unhealthy);
        bench.podman.hang(step);
        bench.put("web", &score("2", ""));
        bench.run_for(2 * STEADY).await;
        bench.podman.cut_power();
        bench.podman.heal();
        // The platform is away at first.
        let known = bench.desired.send_replace(DesiredState::default());
        bench.run_for(Duration::from_secs(1)).await;
        assert_eq!(bench.podman.running(), ["web.a"], "{step}");
        bench.desired.send_replace(known);
        bench.run_for(3 * STEADY).await;
        assert_eq!(bench.podman.running(), ["web.a"], "{step}");
        let there = bench.podman.containers();
        assert!(
            there.contains(&"web.a host/x:1 runs".to_owned()),
            "{step}: {there:?}"
        );
        assert_eq!(bench.status("web").0, Phase::Failed, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_turns_unhealthy_is_started_again_with_patience() {
    for (more, starts) in [
        ("", true),
        (r#""restart":"on-failure","#, true),
        (r#""restart":"never","#, false),
    ] {
        let bench = Bench::new();
        bench.known();
        bench.podman.set_health("host/x:1", Health::Healthy);
        bench.put("web", &score("1", more));
        let turns = async {
            tokio::time::sleep(6 * STEADY).await;
            bench.podman.take_log();
            bench.podman.set_health("host/x:1", Health::Unhealthy);
            tokio::time::sleep(LOOK_INTERVAL + Duration::from_secs(300)).await;
            let (phase, detail) = bench.status("web");
            assert_eq!(phase, Phase::Failed, "{more}");
            assert!(detail.unwrap().starts_with("a: unhealthy"), "{more}");
            let log = bench.podman.take_log();
            let stops = log.iter().filter(|step| *step == "stop web.a").count();
            // After 1, 2, 4, 8, 16 s, and then every 30 s.
            assert_eq!((5..=16).contains(&stops), starts, "{more}: {log:?}");
            assert_eq!(log.len(), 2 * stops, "{more}: {log:?}");
            bench.podman.set_health("host/x:1", Health::Healthy);
            tokio::time::sleep(2 * LOOK_INTERVAL).await;
            assert_eq!(bench.status("web").0, Phase::Running, "{more}");
        };
        tokio::join!(bench.run_for(Duration::from_secs(500)), turns);
    }
}

/// A look costs a device processor time.
#[tokio::test(start_paused = true)]
async fn one_that_is_healthy_is_looked_at_as_rarely_as_one_without_a_check() {
    let bench = bench().await;
    bench.run_for(2 * STEADY).await;
    bench.podman.take_looks();
    bench.run_for(10 * LOOK_INTERVAL).await;
    // Two at the beginning.
    assert!(bench.podman.take_looks() <= 13);
}
