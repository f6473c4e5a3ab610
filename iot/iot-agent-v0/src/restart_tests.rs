//! When a container is started again, and how a registry is logged in to.

use std::time::Duration;

use iot_contracts::Phase;

use super::Bench;
use crate::desired::DesiredState;
use crate::reconcile::LOOK_INTERVAL;

fn score(tag: &str, restart: &str) -> String {
    format!(
        r#"{{"type":"PodmanV1","data":{{"services":[{{"name":"a","image":"host/x:{tag}",
            "restart":"{restart}"}}]}}}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_started_again_as_its_score_says() {
    let again = "is not to be started again";
    let cases = [
        ("always", 0, true, Phase::Failed, "exited with code 0"),
        ("always", 3, true, Phase::Failed, "exited with code 3"),
        (
            "on-failure",
            0,
            false,
            Phase::Running,
            "has ended with code 0",
        ),
        ("on-failure", 3, true, Phase::Failed, "exited with code 3"),
        ("never", 0, false, Phase::Running, "has ended with code 0"),
        ("never", 3, false, Phase::Failed, "exited with code 3, and "),
    ];
    for (restart, code, starts, phase, text) in cases {
        let case = format!("{restart} {code}");
        let bench = Bench::new();
        bench.known();
        bench.podman.exits_with("host/x:1", code);
        bench.put("web", &score("1", restart));
        bench.run_for(10 * LOOK_INTERVAL).await;
        let log = bench.podman.take_log();
        let started = log.iter().filter(|step| *step == "start web.a").count();
        // With patience: after 1, 2, 4, 8, 16 s, and then every 30 s.
        assert_eq!((10..=15).contains(&started), starts, "{case}: {log:?}");
        assert!(starts || started == 0, "{case}: {log:?}");
        let (seen, detail) = bench.status("web");
        assert_eq!(seen, phase, "{case}");
        let detail = detail.unwrap();
        assert!(detail.contains(text), "{case}: {detail}");
        assert_eq!(
            detail.contains(again),
            text.ends_with("and "),
            "{case}: {detail}"
        );
        // Neither another agent nor one that does not know what is desired starts it.
        let known = bench.desired.send_replace(DesiredState::default());
        bench.run_for(Duration::from_secs(1)).await;
        bench.desired.send_replace(known);
        bench.run_for(Duration::from_secs(1)).await;
        let started = bench.podman.take_log().len();
        assert_eq!(started > 0, starts, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_with_the_power_did_not_end() {
    for restart in ["on-failure", "never"] {
        let bench = Bench::new();
        bench.known();
        bench.put("web", &score("1", restart));
        bench.pass().await;
        bench.podman.cut_power_from("host/x:1");
        bench.pass().await;
        assert_eq!(bench.podman.running(), ["web.a"], "{restart}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_updated_and_rolled_back_as_anything_else() {
    for (code, image) in [(0, "host/x:2"), (3, "host/x:1")] {
        let bench = Bench::new();
        bench.known();
        bench.podman.exits_with("host/x:1", 0);
        bench.podman.exits_with("host/x:2", code);
        bench.put("web", &score("1", "never"));
        bench.run_for(Duration::from_secs(5)).await;
        bench.put("web", &score("2", "never"));
        bench.run_for(Duration::from_secs(5)).await;
        let there = bench.podman.containers();
        let expected = format!("web.a {image} down");
        assert!(there.contains(&expected), "{there:?}");
        assert_eq!(there.len(), 1 + usize::from(code != 0), "{there:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_is_logged_in_to_and_another_login_restarts_nothing() {
    let score = |login: &str| {
        format!(
            r#"{{"type":"PodmanV1","data":{{"services":[{{"name":"a","image":"host/x:1"}},
                {{"name":"b","image":"host/x:1","registry_login":{{"username":"{login}","password":"hunter2"}}}}]}}}}"#
        )
    };
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("me"));
    bench.run_for(Duration::from_secs(1)).await;
    // One pull is for both, and is the one that may.
    assert_eq!(bench.podman.logins(), ["host/x:1 me"]);
    assert_eq!(bench.podman.running(), ["web.a", "web.b"]);
    bench.podman.take_log();
    bench.put("web", &score("you"));
    bench.run_for(Duration::from_secs(60)).await;
    assert_eq!(bench.podman.take_log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_keeps_the_image_from_nobody_else() {
    let score = |login: &str| {
        format!(
            r#"{{"type":"PodmanV1","data":{{"services":[{{"name":"a","image":"host/x:1"{login}}}]}}}}"#
        )
    };
    let login = |user: &str| {
        score(&format!(
            r#","registry_login":{{"username":"{user}","password":"hunter2"}}"#
        ))
    };
    for other in [login("me"), score("")] {
        let bench = Bench::new();
        bench.known();
        bench.podman.refuse("odd");
        bench.put("a-odd", &login("odd"));
        bench.put("web", &other);
        bench.run_for(LOOK_INTERVAL).await;
        assert_eq!(bench.status("web"), (Phase::Running, None), "{other}");
    }
}
