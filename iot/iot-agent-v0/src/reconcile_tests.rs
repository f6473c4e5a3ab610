//! The loop against the scripted executor, with tokio's paused clock.

use std::time::Duration;

use iot_contracts::Phase;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    BLIND_INTERVAL, FIRST_RETRY, IDLE_INTERVAL, PASS_INTERVAL, Statuses, next_pass_after, run,
};
use crate::desired::DesiredState;
use crate::fake::FakePodman;

fn score(tag: &str) -> String {
    format!(
        r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"host/x:{tag}"}}]}}}}"#
    )
}

struct Bench {
    podman: FakePodman,
    desired: watch::Sender<DesiredState>,
    statuses: watch::Sender<Statuses>,
}

impl Bench {
    fn new() -> Self {
        Self {
            podman: FakePodman::default(),
            desired: watch::Sender::new(DesiredState::default()),
            statuses: watch::Sender::new(Statuses::new()),
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
        let run = run(&self.podman, desired, &self.statuses, nothing_since);
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
    bench.pass().await;
    assert_eq!(
        bench.podman.take_log(),
        ["image host/x:2", "remove web.a", "create web.a"]
    );
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
        assert_eq!(bench.status("web"), (Phase::Pending, None));
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
        tokio::time::sleep(PASS_INTERVAL).await;
        assert_eq!(bench.podman.running(), ["web.a"]);
        let detail = "a: had exited with code 137, started again".to_owned();
        assert_eq!(bench.status("web"), (Phase::Running, Some(detail)));
    };
    tokio::join!(bench.run_for(PASS_INTERVAL + Duration::from_secs(2)), cut);
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
        tokio::time::sleep(10 * PASS_INTERVAL).await;
        assert_eq!(bench.podman.take_looks(), 10);
    };
    tokio::join!(bench.run_for(IDLE_INTERVAL + 11 * PASS_INTERVAL), change);
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

#[test]
fn the_backoff_is_bounded() {
    let seconds = [0, 1, 2, 3, 4, 5, 6, 7, 40, u32::MAX].map(|n| next_pass_after(n).as_secs());
    assert_eq!(seconds, [30, 1, 2, 4, 8, 16, 30, 30, 30, 30]);
}
