//! Updates of the real agent, from a real server, with programs that do not work, and with power cuts.

mod buckets;
mod empty_podman;
mod https;
mod launched;
mod releases;
mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::kv::{Store, Watch};
use futures::TryStreamExt;
use iot_contracts::{AgentProgram, AgentStatus, UpdatePhase, UpdateStatus};

use crate::buckets::open;
use crate::empty_podman::empty_podman;
use crate::launched::Device;
use crate::releases::{Releases, key, signed};
use crate::server::{Server, free_port};

/// How long any awaited event may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Everything that an update needs.
struct Bench {
    dir: tempfile::TempDir,
    nats: Option<Server>,
    port: u16,
    releases: Releases,
    desired: Store,
    reports: Watch,
    serial: u64,
    /// The revision of what was asked for last.
    asked: u64,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let nats = Server::start(dir.path(), port);
        let releases = Releases::start(dir.path()).await;
        let opening = open(port);
        let (desired, reports) = tokio::time::timeout(LIMIT, opening).await.unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let (key, ca) = (key(), releases.ca());
        let config = format!(
            "device_id = \"pi-1\"\nheartbeat_seconds = 1\npodman.socket = \"/nonexistent/podman.sock\"\n\
             [nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
             credentials = {{ type = \"user-password\", username = \"device\", password = \"hunter2\" }}\n\
             [update]\nkeys = [\"{key}\"]\nca = {ca:?}\nprove_within_seconds = 5\n"
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        Self {
            dir,
            nats: Some(nats),
            port,
            releases,
            desired,
            reports,
            serial: 0,
            asked: 0,
        }
    }

    /// Asks for this program.
    async fn want(&mut self, name: &str, program: &[u8]) {
        self.serial += 1;
        let url = self.releases.serve(name, program);
        let release = signed(self.serial, program, &url);
        self.ask(release).await;
    }

    async fn ask(&mut self, release: String) {
        let put = self.desired.put("pi-1._agent", release.into());
        self.asked = put.await.unwrap();
    }

    /// Puts a program there that scripts can start.
    fn put_program(&self, name: &str, program: &[u8]) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }

    /// Writes another configuration, with another Podman.
    fn configure(&self, name: &str, podman: &Path) {
        let config = std::fs::read_to_string(self.dir.path().join("config.toml")).unwrap();
        let podman = podman.to_str().unwrap();
        let config = config.replace("/nonexistent/podman.sock", podman);
        std::fs::write(self.dir.path().join(name), config).unwrap();
    }

    /// Waits until it is reported that an update fares so.
    async fn reported(
        &mut self,
        what: &str,
        is_so: impl Fn(&UpdateStatus) -> bool,
    ) -> UpdateStatus {
        let mut last = None;
        let awaited = async {
            loop {
                let entry = self.reports.try_next().await.unwrap().unwrap();
                let report: AgentStatus = serde_json::from_slice(&entry.value).unwrap();
                let update = report.update.expect("this agent tells");
                if is_so(&update) {
                    return update;
                }
                last = Some(update);
            }
        };
        let came = tokio::time::timeout(LIMIT, awaited).await;
        came.unwrap_or_else(|_| {
            let log = std::fs::read_to_string(self.dir.path().join("agent.log"));
            panic!(
                "not reported: {what}; last {last:?}\n{}",
                log.unwrap_or_default()
            )
        })
    }

    /// Waits for a report that was made from now on.
    async fn reports(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let awaited = async {
            loop {
                let entry = self.reports.try_next().await.unwrap().unwrap();
                let report: AgentStatus = serde_json::from_slice(&entry.value).unwrap();
                if u128::from(report.timestamp_unix_ms) > now.as_millis() {
                    return;
                }
            }
        };
        let came = tokio::time::timeout(LIMIT, awaited).await;
        came.expect("an agent that is started anew reports");
    }

    async fn proven(&mut self, program: AgentProgram) {
        let asked = self.asked;
        let update = self.reported("proven", |update| is(update, asked, UpdatePhase::Proven));
        assert_eq!(update.await.program, program);
    }

    async fn failed(&mut self, program: AgentProgram, why: &str) {
        let asked = self.asked;
        let update = self.reported(why, |update| {
            is(update, asked, UpdatePhase::Failed) && detail(update).contains(why)
        });
        assert_eq!(update.await.program, program, "{why}");
    }
}

/// Another process does it, and tells nobody.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether what was asked for with that revision fares so.
fn is(update: &UpdateStatus, asked: u64, phase: UpdatePhase) -> bool {
    let last = update.last.as_ref();
    last.is_some_and(|last| (last.revision, last.phase) == (asked, phase))
}

fn detail(update: &UpdateStatus) -> &str {
    let last = update.last.as_ref();
    last.and_then(|last| last.detail.as_deref())
        .unwrap_or_default()
}

/// The agent without its debugging symbols: small enough for an update.
fn stripped(dir: &Path) -> PathBuf {
    let path = dir.join("installed");
    let mut strip = Command::new("strip");
    strip
        .arg("-o")
        .arg(&path)
        .arg(env!("CARGO_BIN_EXE_iot-agent-v0"));
    assert!(strip.status().expect("strip is installed").success());
    path
}

/// Another build of the agent: nobody reads what comes after the program.
fn newer(installed: &Path, build: u8) -> Vec<u8> {
    let mut program = std::fs::read(installed).unwrap();
    program.push(build);
    program
}

#[tokio::test]
#[ignore = "needs nats-server: updates the agent, also by programs that end, hang, or are none"]
async fn an_agent_is_updated_and_comes_back_from_what_does_not_work() {
    let mut bench = Bench::new().await;
    let installed = stripped(bench.dir.path());
    let _device = Device::start(bench.dir.path(), &installed);
    bench
        .reported("the installed one", |update| {
            update.program == AgentProgram::Installed
        })
        .await;

    bench.want("first", &newer(&installed, 1)).await;
    bench.proven(AgentProgram::A).await;

    // None of these says ever that a report was stored.
    bench.want("ends", b"#!/bin/sh\nexit 1\n").await;
    bench.failed(AgentProgram::A, "it ended 3 times").await;
    bench.want("hangs", b"#!/bin/sh\nexec sleep 600\n").await;
    bench.failed(AgentProgram::A, "within 5 s").await;
    bench
        .want(
            "deaf",
            b"#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n",
        )
        .await;
    bench.failed(AgentProgram::A, "within 5 s").await;
    bench.want("none", b"\x7fELF and nothing else").await;
    bench.failed(AgentProgram::A, "cannot be started").await;
    let other_nats = newer(&installed, 2);
    let lost = std::fs::read_to_string(bench.dir.path().join("config.toml")).unwrap();

    // An agent that works and does not get to NATS.
    let lost = lost.replace(&bench.port.to_string(), &free_port().to_string());
    std::fs::write(bench.dir.path().join("lost.toml"), lost).unwrap();
    std::fs::write(bench.dir.path().join("lost"), &other_nats).unwrap();
    let dir = bench.dir.path().to_owned();
    let script = format!(
        "#!/bin/sh\nchmod 700 {0}/lost\nexec {0}/lost --config {0}/lost.toml\n",
        dir.display()
    );
    bench.want("lost", script.as_bytes()).await;
    bench.failed(AgentProgram::A, "within 5 s").await;

    // What is not what was signed for.
    bench.serial += 1;
    let url = bench.releases.serve("other", b"another program");
    let release = signed(bench.serial, b"the signed program", &url);
    let refused = release.replace(&format!("\"serial\":{}", bench.serial), "\"serial\":99");
    bench.ask(refused).await;
    let asked = bench.asked;
    let update = bench
        .reported("refused", |update| is(update, asked, UpdatePhase::Refused))
        .await;
    assert!(
        detail(&update).contains("none of the configuration's keys"),
        "{update:?}"
    );
    bench.ask(release).await;
    let asked = bench.asked;
    bench
        .reported("other size", |update| {
            is(update, asked, UpdatePhase::Fetching)
                && detail(update).contains("15 bytes came (expected 18)")
        })
        .await;
    let url = bench.releases.serve("other", b"an other program.");
    let release = signed(bench.serial, b"the other program", &url);
    bench.ask(release).await;
    bench.failed(AgentProgram::A, "what came has digest").await;

    // All this has harmed nothing, and goes into the other slot.
    bench.want("second", &newer(&installed, 3)).await;
    bench.proven(AgentProgram::B).await;
    let record = std::fs::read_to_string(bench.dir.path().join("state/slots/record")).unwrap();
    assert!(record.contains("\"slot\":\"b\""), "{record}");
}

#[tokio::test]
#[ignore = "needs nats-server: has a proven program end again and again, and one whose server is away"]
async fn a_proven_agent_that_ends_again_and_again_gives_way_to_the_one_before() {
    let mut bench = Bench::new().await;
    let installed = stripped(bench.dir.path());
    let device = Device::start(bench.dir.path(), &installed);
    bench.want("first", &newer(&installed, 1)).await;
    bench.proven(AgentProgram::A).await;

    // It works until that file is there.
    let dir = bench.dir.path().to_owned();
    bench.put_program("second", &newer(&installed, 2));
    let script = format!(
        "#!/bin/sh\n[ -e {0}/broken ] && exit 1\nexec {0}/second \"$@\"\n",
        dir.display()
    );
    bench.want("script", script.as_bytes()).await;
    bench.proven(AgentProgram::B).await;
    device.cut_power_while(|| std::fs::write(dir.join("broken"), "").unwrap());
    let why = "it was proven, and ended 5 times within 15 min";
    bench.failed(AgentProgram::A, why).await;

    // It is not tried again until its key is written anew.
    std::fs::remove_file(dir.join("broken")).unwrap();
    device.cut_power();
    bench.failed(AgentProgram::A, why).await;
    bench.want("script", script.as_bytes()).await;
    bench.proven(AgentProgram::B).await;

    // Once it is trusted, ends that reports came between are no reason to go back, and neither are those that it was asked for.
    device.cut_power_while(|| {
        let record = std::fs::read_to_string(dir.join("state/slots/record")).unwrap();
        let (fresh, trusted) = ("\"is_fresh\":true", "\"is_fresh\":false");
        assert!(record.contains(fresh), "{record}");
        let trusted = record.replace(fresh, trusted);
        std::fs::write(dir.join("state/slots/record"), trusted).unwrap();
    });
    let starts = || {
        let log = std::fs::read_to_string(dir.join("agent.log")).unwrap();
        log.matches("agent starts").count()
    };
    let record = || std::fs::read_to_string(dir.join("state/slots/record")).unwrap();
    for _ in 0..7 {
        let before = starts();
        device.cut_power();
        until("it is started again", || starts() > before).await;
        until("that is forgotten", || record().contains("\"starts\":null")).await;
    }
    bench.nats = None;
    for _ in 0..7 {
        let before = starts();
        device.stop();
        until("it is started again", || starts() > before).await;
    }
    bench.nats = Some(Server::start(&dir, bench.port));
    (bench.desired, bench.reports) = open(bench.port).await;
    bench.reports().await;
    bench.proven(AgentProgram::B).await;
}

#[tokio::test]
#[ignore = "needs nats-server: has new programs report, and die or not work"]
async fn a_program_that_reports_and_does_not_work_is_gone_back_from() {
    let mut bench = Bench::new().await;
    let dir = bench.dir.path().to_owned();
    // One answers that there are no containers, and one answers nothing.
    let (podman, silent) = (dir.join("podman.sock"), dir.join("silent.sock"));
    empty_podman(&podman);
    let _silent = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    bench.configure("blind.toml", &dir.join("no.sock"));
    bench.configure("looks.toml", &silent);
    bench.configure("config.toml", &podman);
    let installed = stripped(&dir);
    let device = Device::start(&dir, &installed);
    bench.want("first", &newer(&installed, 1)).await;
    bench.proven(AgentProgram::A).await;
    bench.put_program("second", &newer(&installed, 2));
    let script = |text: &str| {
        format!(
            "#!/bin/sh\n{}\n",
            text.replace("DIR", dir.to_str().unwrap())
        )
    };

    // Its reports are stored, and it dies of its first look.
    let dies = "DIR/second --config DIR/looks.toml & sleep 1.5; kill -9 $!; exit 1";
    bench.want("dies", script(dies).as_bytes()).await;
    bench.failed(AgentProgram::A, "it ended 3 times").await;
    // It lives, and its first look never ends.
    let looks = "exec DIR/second --config DIR/looks.toml";
    bench.want("looks", script(looks).as_bytes()).await;
    bench.failed(AgentProgram::A, "no report of its work").await;
    let blind = "exec DIR/second --config DIR/blind.toml";
    bench.want("blind", script(blind).as_bytes()).await;
    bench.failed(AgentProgram::A, "did not see Podman").await;

    // It is proven, and works for a moment whenever it is started anew.
    let broken = "[ -e DIR/broken ] || exec DIR/second \"$@\"\n\
        DIR/second \"$@\" & sleep 1.5; kill -9 $!; exit 1";
    bench.want("broken", script(broken).as_bytes()).await;
    bench.proven(AgentProgram::B).await;
    device.cut_power_while(|| std::fs::write(dir.join("broken"), "").unwrap());
    bench
        .failed(
            AgentProgram::A,
            "it was proven, and ended 5 times within 15 min",
        )
        .await;

    // The launcher cannot listen: it is the proven one that runs.
    let socket = dir.join("state/slots/trial.sock");
    let _ = std::fs::remove_file(&socket);
    std::fs::create_dir(&socket).unwrap();
    bench.want("third", &newer(&installed, 3)).await;
    bench.failed(AgentProgram::A, "it cannot be tried").await;
}

#[tokio::test]
#[ignore = "needs nats-server: cuts the power of an update at twelve moments"]
async fn a_power_cut_ends_in_one_of_the_two() {
    let mut bench = Bench::new().await;
    let installed = stripped(bench.dir.path());
    let device = Device::start(bench.dir.path(), &installed);
    bench
        .reported("the installed one", |update| {
            update.program == AgentProgram::Installed
        })
        .await;
    let mut outcomes = Vec::new();
    for round in 0..12_u8 {
        let program = newer(&installed, round);
        bench.want("next", &program).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 90)).await;
        device.cut_power();
        let (digest, asked) = (releases::sha256(&program), bench.asked);
        let update = bench.reported("an end", |update| {
            let last = update.last.as_ref();
            last.is_some_and(|last| last.sha256 == Some(digest))
                && (is(update, asked, UpdatePhase::Proven)
                    || is(update, asked, UpdatePhase::Failed))
        });
        let update = update.await;
        outcomes.push((update.program, update.last.unwrap().phase));
    }
    // One cut is never enough to give an update up.
    let is_proven = |(program, phase): &(AgentProgram, UpdatePhase)| {
        *phase == UpdatePhase::Proven && *program != AgentProgram::Installed
    };
    assert!(outcomes.iter().all(is_proven), "{outcomes:?}");
}

#[tokio::test]
#[ignore = "needs nats-server: installs another agent over an update, and damages one"]
async fn who_installs_an_agent_has_it_run() {
    let mut bench = Bench::new().await;
    let installed = stripped(bench.dir.path());
    let device = Device::start(bench.dir.path(), &installed);
    bench.want("first", &newer(&installed, 1)).await;
    bench.proven(AgentProgram::A).await;
    bench.desired.delete("pi-1._agent").await.unwrap();

    // A disk that lost a byte.
    let slot = bench.dir.path().join("state/slots/a");
    let mut program = std::fs::read(&slot).unwrap();
    device.cut_power_while(|| {
        *program.last_mut().unwrap() = 9;
        std::fs::remove_file(&slot).unwrap();
        std::fs::write(&slot, &program).unwrap();
    });
    bench
        .reported("the installed one", |update| {
            update.program == AgentProgram::Installed
        })
        .await;
    device.cut_power_while(|| {
        *program.last_mut().unwrap() = 1;
        std::fs::write(&slot, &program).unwrap();
        std::fs::set_permissions(&slot, std::fs::Permissions::from_mode(0o700)).unwrap();
    });
    bench
        .reported("the updated one", |update| {
            update.program == AgentProgram::A
        })
        .await;
    device.cut_power_while(|| {
        let other = newer(&installed, 5);
        std::fs::remove_file(&installed).unwrap();
        std::fs::write(&installed, other).unwrap();
        std::fs::set_permissions(&installed, std::fs::Permissions::from_mode(0o700)).unwrap();
    });
    let update = bench
        .reported("the other installed one", |update| {
            update.program == AgentProgram::Installed
        })
        .await;
    assert_eq!(update.last, None);
}
