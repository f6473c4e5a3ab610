//! The whole agent, obeying an operator, with a server that anyone may write to.

use iot_contracts::{AgentConfig, AgentStatus, DeploymentStatus, Phase, Refusal};

use super::platform::{Platform, score, until, with_configured};
use super::server::{Server, free_port};
use crate::config::Loaded;
use crate::fake::FakePodman;
use crate::keep::Keeper;
use crate::signing::{key, signed};

fn config(port: u16) -> Loaded {
    let toml = format!(
        "device_id = \"pi-1\"\nheartbeat_seconds = 1\n[nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
         credentials = {{ type = \"user-password\", username = \"device\", password = \"hunter2\" }}\n\
         [operator]\nkeys = [\"{}\"]\n",
        key(1)
    );
    Loaded::for_test(toml::from_str::<AgentConfig>(&toml).unwrap())
}

fn web(counter: u64, tag: &str) -> String {
    String::from_utf8(signed(1, "pi-1", "web", counter, Some(score(tag)))).unwrap()
}

/// Waits for a report whose `web` is like that.
async fn web_is(
    platform: &Platform,
    what: &str,
    expected: impl Fn(&DeploymentStatus) -> bool,
) -> DeploymentStatus {
    let web = "web".parse().unwrap();
    let is_so = |report: &AgentStatus| report.deployments.get(&web).is_some_and(&expected);
    let report = platform.report(what, is_so).await;
    report.deployments[&web].clone()
}

async fn refused(platform: &Platform, expected: Refusal) -> DeploymentStatus {
    let is_it = |web: &DeploymentStatus| web.refused.as_ref().is_some_and(|r| r.why == expected);
    web_is(platform, &expected.to_string(), is_it).await
}

async fn runs(platform: &Platform, counter: u64) {
    let is_it = |web: &DeploymentStatus| {
        let of = web.ran.as_ref().and_then(|ran| ran.counter);
        web.phase == Phase::Running && of == Some(counter) && web.desired == web.ran
    };
    web_is(platform, &format!("{counter} runs"), is_it).await;
}

#[tokio::test]
#[ignore = "needs nats-server: writes what nobody signed, and what was signed before"]
async fn a_device_obeys_its_operator_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let config = config(port);
    with_configured(&config, &podman, Some(state.path()), async {
        let platform = Platform::of(port).await;
        let report = platform.report("any", |_| true).await;
        assert_eq!(report.operator_keys, 1);

        platform.put("pi-1.web", &score("0")).await;
        let web_is = refused(&platform, Refusal::Unsigned).await;
        assert_eq!((web_is.phase, web_is.desired), (Phase::Failed, None));
        platform.problem("deployment 'web', revision").await;
        assert!(podman.take_log().is_empty());

        for counter in [100, 101] {
            platform
                .put("pi-1.web", &web(counter, &counter.to_string()))
                .await;
            runs(&platform, counter).await;
        }
        platform.no_problem().await;
        podman.take_log();

        let (counter, highest) = (100, 101);
        platform.put("pi-1.web", &web(100, "100")).await;
        let web_is = refused(&platform, Refusal::CounterNotAbove { counter, highest }).await;
        assert_eq!(web_is.phase, Phase::Running);
        platform.desired.delete("pi-1.web").await.unwrap();
        refused(&platform, Refusal::UnsignedRemoval).await;
        platform.desired.purge("pi-1.web").await.unwrap();
        platform.put("pi-1.web", &web(100, "100")).await;
        let web_is = refused(&platform, Refusal::CounterNotAbove { counter, highest }).await;
        assert_eq!(web_is.desired.unwrap().counter, Some(101));
        assert!(podman.take_log().is_empty());
        assert_eq!(podman.running(), ["web.a"]);

        let removal = String::from_utf8(signed(1, "pi-1", "web", 102, None)).unwrap();
        platform.put("pi-1.web", &removal).await;
        platform.gone("web").await;
        assert!(podman.running().is_empty());
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: ends the agent between what it accepts and what it does"]
async fn what_was_accepted_before_a_power_cut_is_not_overtaken_by_what_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), port);
    let podman = FakePodman::default();
    let config = config(port);
    let keeper = Keeper::new(state.path().to_owned(), config.device_id());
    let platform = Platform::of(port).await;
    with_configured(&config, &podman, Some(state.path()), async {
        platform.put("pi-1.web", &web(100, "100")).await;
        runs(&platform, 100).await;
        podman.hang("image host/x:101");
        platform.put("pi-1.web", &web(101, "101")).await;
        until(|| podman.begun("image host/x:101") > 0).await;
        // It was kept before anything was begun.
        let kept = keeper.recall().0.memory;
        let version = kept.desired().wanted(&"web".parse().unwrap()).cloned();
        assert_eq!(version.unwrap().version.unwrap().counter, Some(101));
    })
    .await;
    podman.cut_power();
    podman.heal();
    platform.put("pi-1.web", &web(100, "100")).await;
    with_configured(&config, &podman, Some(state.path()), async {
        let (counter, highest) = (100, 101);
        refused(&platform, Refusal::CounterNotAbove { counter, highest }).await;
        runs(&platform, 101).await;
    })
    .await;
}
