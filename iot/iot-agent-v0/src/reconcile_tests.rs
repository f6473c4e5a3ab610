//! The loop against the scripted executor, with tokio's paused clock.

#[path = "chaos_tests.rs"]
mod chaos;
#[path = "hang_tests.rs"]
mod hangs;
#[path = "health_tests.rs"]
mod health;
#[path = "pace_tests.rs"]
mod pace;
#[path = "restart_tests.rs"]
mod restarts;
#[path = "room_tests.rs"]
mod room;
#[path = "room_for_others_tests.rs"]
mod room_for_others;
#[path = "update_tests.rs"]
mod updates;
#[path = "version_tests.rs"]
mod versions;

use std::time::Duration;

use iot_contracts::{Phase, ServiceState};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{BLIND_INTERVAL, BUSY_INTERVAL, IDLE_INTERVAL, LOOK_INTERVAL, Statuses, ran, run};
use crate::container::ContainerState;
use crate::desired::DesiredState;
use crate::fake::FakePodman;
use crate::history::{FIRST_RETRY, STEADY};
use crate::watchdog::ServiceManager;

fn score(tag: &str) -> String {
    format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}"}}]}}}}"#
    )
}

struct Bench {
    podman: FakePodman,
    desired: watch::Sender<DesiredState>,
    statuses: watch::Sender<Statuses>,
    state: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            podman: FakePodman::default(),
            desired: watch::Sender::new(DesiredState::default()),
            statuses: watch::Sender::new(Statuses::new()),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn put(&self, name: &str, value: &str) {
        self.desired
            .send_modify(|d| d.put(name.parse().unwrap(), value.as_bytes()));
    }

    fn known(&self) {
        self.desired.send_modify(|d| d.replace_all([]));
    }

    fn delete(&self, name: &str) {
        self.desired
            .send_modify(|d| d.delete(&name.parse().unwrap()));
    }

    /// Runs the loop for that long.
    async fn run_for(&self, time: Duration) {
        self.run_knowing(None, time).await;
    }

    async fn run_knowing(&self, nothing_since: Option<Instant>, time: Duration) {
        let desired = self.desired.subscribe();
        let manager = ServiceManager::default();
        let watchdog = manager.watchdog();
        let ran = ran(&self.statuses.borrow());
        let run = run(
            &self.podman,
            desired,
            &self.statuses,
            ran,
            nothing_since,
            Some(self.state.path()),
            &watchdog,
        );
        let ended = tokio::time::timeout(time, run).await;
        assert!(ended.is_err(), "the loop ended by itself");
    }

    async fn pass(&self) {
        self.run_for(Duration::from_millis(10)).await;
    }

    fn status(&self, name: &str) -> (Phase, Option<String>) {
        let statuses = self.statuses.borrow();
        let status = &statuses[&name.parse().unwrap()];
        (status.phase, status.detail.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn creates_updates_and_removes() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    assert_eq!(bench.podman.take_log(), ["image host/x:1", "create web.a"]);
    assert_eq!(bench.status("web"), (Phase::Running, None));
    bench.pass().await;
    assert_eq!(bench.podman.take_log(), [""; 0]);
    bench.put("web", &score("2"));
    bench.run_for(2 * STEADY).await;
    assert_eq!(
        bench.podman.take_log(),
        [
            "image host/x:2",
            "set aside web.a",
            "create web.a",
            "remove web.a.previous"
        ]
    );
    assert_eq!(bench.status("web"), (Phase::Running, None));
    bench.delete("web");
    bench.pass().await;
    assert_eq!(bench.podman.take_log(), ["remove web.a"]);
    assert!(bench.statuses.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_the_loop_and_overtakes_a_hanging_step() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.podman.hang("image host/x:1");
    let changes = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let waits = Some("a: waits for image 'host/x:1'".to_owned());
        assert_eq!(bench.status("web"), (Phase::Pending, waits));
        bench.delete("web");
        bench.put("db", &score("2"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.podman.running(), ["db.a"]);
    };
    tokio::join!(bench.run_for(Duration::from_secs(7)), changes);
}

#[tokio::test(start_paused = true)]
async fn what_exited_is_back_after_the_interval() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.podman.cut_power();
        tokio::time::sleep(LOOK_INTERVAL).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        let detail = "a: had exited with code 137, started again".to_owned();
        assert_eq!(bench.status("web"), (Phase::Running, Some(detail)));
    };
    tokio::join!(bench.run_for(LOOK_INTERVAL + Duration::from_secs(2)), cut);
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_keep_running_it_looks_seldom_and_still_acts_at_once() {
    let bench = Bench::new();
    bench.known();
    let second = Duration::from_secs(1);
    let change = async {
        tokio::time::sleep(IDLE_INTERVAL - second).await;
        assert_eq!(bench.podman.take_looks(), 1);
        tokio::time::sleep(2 * second).await;
        assert_eq!(bench.podman.take_looks(), 1);
        bench.put("web", &score("1"));
        tokio::time::sleep(second).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        bench.podman.take_looks();
        tokio::time::sleep(10 * LOOK_INTERVAL).await;
        assert_eq!(bench.podman.take_looks(), 10);
    };
    tokio::join!(bench.run_for(IDLE_INTERVAL + 11 * LOOK_INTERVAL), change);
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_before_the_configuration_came_is_not_asked_again_until_something_is_desired()
{
    let bench = Bench::new();
    let second = Duration::from_secs(1);
    let seen = Instant::now();
    tokio::time::advance(IDLE_INTERVAL / 2).await;
    let changes = async {
        tokio::time::sleep(second).await;
        bench.known();
        tokio::time::sleep(second).await;
        assert_eq!(bench.podman.take_looks(), 0);
        bench.put("web", &score("1"));
        tokio::time::sleep(second).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        bench.delete("web");
        tokio::time::sleep(second).await;
        assert!(bench.podman.running().is_empty());
    };
    tokio::join!(bench.run_knowing(Some(seen), 10 * second), changes);
    bench.podman.take_looks();
    // It ages.
    let later = async {
        tokio::time::sleep(IDLE_INTERVAL / 2).await;
        assert_eq!(bench.podman.take_looks(), 1);
    };
    tokio::join!(bench.run_knowing(Some(seen), IDLE_INTERVAL), later);
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_pass_has_left_is_removed_at_once() {
    let bench = Bench::new();
    bench.known();
    let second = Duration::from_secs(1);
    let changes = async {
        tokio::time::sleep(second).await;
        let two = r#"{"type":"PodmanV0","data":{"services":[
            {"name":"a","image":"host/x:1"},{"name":"b","image":"host/y:1"}]}}"#;
        bench.podman.hang("create web.b");
        bench.put("web", two);
        tokio::time::sleep(second).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        bench.delete("web");
        tokio::time::sleep(second).await;
        assert!(bench.podman.running().is_empty());
        assert!(bench.statuses.borrow().is_empty());
    };
    tokio::join!(bench.run_for(10 * second), changes);
}

#[tokio::test(start_paused = true)]
async fn containers_of_an_unknown_state_are_kept_and_started() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.cut_power();
    bench.podman.take_log();
    // The agent starts anew, and NATS is away.
    bench.desired.send_replace(DesiredState::default());
    bench.pass().await;
    assert_eq!(bench.podman.take_log(), ["start web.a"]);
    assert_eq!(bench.status("web").0, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_spares_the_others_and_is_tried_again() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.put("db", &score("2"));
    bench.podman.fail("image host/x:1");
    let healing = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(bench.podman.running(), ["db.a"]);
        let failed = (Phase::Failed, Some("a: scripted failure".to_owned()));
        assert_eq!(bench.status("web"), failed);
        bench.podman.heal();
        tokio::time::sleep(FIRST_RETRY).await;
        assert_eq!(bench.status("web"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(FIRST_RETRY * 2), healing);
}

#[tokio::test(start_paused = true)]
async fn without_podman_everything_has_failed_until_it_is_back() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.podman.set_absent(true);
    let back = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(
            bench.status("web"),
            (Phase::Failed, Some("scripted failure".to_owned()))
        );
        bench.podman.set_absent(false);
        tokio::time::sleep(BLIND_INTERVAL).await;
        assert_eq!(bench.status("web"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(Duration::from_secs(140)), back);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_value_fails_and_keeps_what_runs() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.put("web", "{");
    bench.pass().await;
    assert_eq!(bench.podman.running(), ["web.a"]);
    let (phase, detail) = bench.status("web");
    assert_eq!(phase, Phase::Failed);
    assert!(detail.unwrap().contains("EOF while parsing"));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_stay_up_has_failed() {
    let bench = Bench::new();
    bench.known();
    bench.podman.exit_at_once();
    bench.put("web", &score("1"));
    bench.pass().await;
    let failed = (Phase::Failed, Some("a: exited with code 7".to_owned()));
    assert_eq!(bench.status("web"), failed);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_registry_delays_nobody_and_hides_nothing() {
    let bench = Bench::new();
    bench.known();
    let second = Duration::from_secs(1);
    let names: Vec<_> = (0..20).map(|n| format!("web-{n:02}")).collect();
    for name in &names {
        bench.put(name, &score("1"));
    }
    bench.run_for(second).await;
    assert_eq!(bench.podman.running().len(), 20);
    bench.podman.hang("image host/x:9");
    bench.put("aaa", &score("9"));
    let others = async {
        tokio::time::sleep(70 * second).await;
        bench.podman.cut_power();
        tokio::time::sleep(10 * second).await;
        assert_eq!(bench.podman.running().len(), 20);
        for name in &names {
            assert_eq!(bench.status(name).0, Phase::Running);
        }
        assert_eq!(bench.status("aaa").0, Phase::Pending);
        // One that ends and cannot be started is not told to run.
        bench.podman.fail("start web-00.a");
        bench
            .podman
            .set_state("web-00.a", ContainerState::Exited { code: 1 });
        tokio::time::sleep(BUSY_INTERVAL + second).await;
        assert_eq!(bench.status("web-00").0, Phase::Failed);
        // Another registry is as good as ever.
        bench.put("new", &score("2"));
        tokio::time::sleep(second).await;
        assert_eq!(bench.status("new"), (Phase::Running, None));
    };
    tokio::join!(bench.run_for(120 * second), others);
}

#[tokio::test(start_paused = true)]
async fn registries_that_never_answer_make_room_for_one_that_does() {
    let bench = Bench::new();
    bench.known();
    for n in 0..5 {
        bench.podman.hang(&format!("image host/x:hang{n}"));
        bench.put(&format!("aaa-{n}"), &score(&format!("hang{n}")));
    }
    bench.put("web", &score("zzz"));
    bench.run_for(Duration::from_secs(180)).await;
    assert_eq!(bench.podman.running(), ["web.a"]);
}

#[tokio::test(start_paused = true)]
async fn a_pull_goes_on_while_other_deployments_change() {
    let bench = Bench::new();
    bench.known();
    let second = Duration::from_secs(1);
    bench.podman.take("image host/x:1", 60 * second);
    bench.put("web", &score("1"));
    let changes = async {
        for n in 0..6 {
            tokio::time::sleep(10 * second).await;
            bench.put("db", &score(&format!("db{n}")));
        }
        tokio::time::sleep(second).await;
        assert_eq!(bench.status("web"), (Phase::Running, None));
        assert_eq!(bench.podman.begun("image host/x:1"), 1);
    };
    tokio::join!(bench.run_for(70 * second), changes);
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_when_nobody_wants_its_image() {
    let bench = Bench::new();
    bench.known();
    let second = Duration::from_secs(1);
    bench.podman.take("image host/x:1", 10 * second);
    bench.put("web", &score("1"));
    let change = async {
        tokio::time::sleep(second).await;
        bench.put("web", &score("2"));
    };
    tokio::join!(bench.run_for(20 * second), change);
    assert_eq!(bench.podman.take_log(), ["image host/x:2", "create web.a"]);
}

#[tokio::test(start_paused = true)]
async fn each_service_is_told() {
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    bench.podman.hang("image host/x:2");
    bench.put("web", &score("2"));
    bench.put("db", &score("2"));
    let ends = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench
            .podman
            .set_state("web.a", ContainerState::Exited { code: 3 });
        tokio::time::sleep(2 * BUSY_INTERVAL).await;
        let service = |name: &str| {
            let statuses = bench.statuses.borrow();
            let services = &statuses[&name.parse().unwrap()].services;
            services[&"a".parse().unwrap()].clone()
        };
        assert_eq!(
            (service("web").state, service("web").restarts),
            (ServiceState::Running, 1)
        );
        assert_eq!(service("web").image, "host/x:1");
        assert_eq!(
            (service("db").state, service("db").restarts),
            (ServiceState::Absent, 0)
        );
        assert_eq!(service("db").image, "host/x:2");
    };
    tokio::join!(bench.run_for(LOOK_INTERVAL), ends);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_told() {
    let bench = Bench::new();
    bench.known();
    let value = r#"{"type":"PodmanV0","data":{"services":[{"name":"a","image":"host/x:1",
        "env":{"PASSWORD":"scripted"}}]}}"#;
    bench.podman.fail("create web.a");
    bench.put("web", value);
    bench.pass().await;
    let failed = (Phase::Failed, Some("a: … failure".to_owned()));
    assert_eq!(bench.status("web"), failed);
}
