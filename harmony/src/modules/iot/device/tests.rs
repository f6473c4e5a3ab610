use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use async_trait::async_trait;
use iot_contracts::PODMAN_SOCKET_VARIABLE;

use super::files::{SERVICE_CONTENT, SOCKET_CONTENT, TMPFILES_CONTENT};
use super::{
    AGENT_BINARY, AGENT_CONFIG, AGENT_USER, CONTAINERS_USER, DeviceError, InstallIotAgentScore,
    ProvisionIotAgentScore, UNIT_CONTENT,
};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::{Change, Outcome};
use crate::domain::inventory::Inventory;
use crate::domain::score::Score;
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{
    CommandOutput, HostCommand, HostFile, HostUnit, HostUser, LinuxFacts, LinuxHost,
};
use crate::domain::topology::virtualization::VmArchitecture;

#[path = "nats_ca_tests.rs"]
mod nats_ca;
#[path = "releases_ca_tests.rs"]
mod releases_ca;
#[path = "taken_tests.rs"]
mod taken;

/// The most that systemd may find the agent exposed, in tenths: https://systemd.io calls up to 4 "OK", and what is left
/// here is that it uses the network.
const MAX_EXPOSURE_TENTHS: u32 = 15;

/// What a host was made to be, in memory. It records every call.
struct Paper {
    machine: &'static str,
    gateway: Option<Ipv4Addr>,
    unit_fails: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    had: BTreeMap<String, Vec<u8>>,
}

impl Paper {
    fn new(machine: &'static str) -> Self {
        Self {
            machine,
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
            unit_fails: false,
            state: Mutex::default(),
        }
    }

    fn call(&self, call: impl Into<String>) {
        self.state.lock().expect("no panic").calls.push(call.into());
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no panic").calls)
    }

    fn has(&self, key: &str, value: &[u8]) -> Change {
        let mut state = self.state.lock().expect("no panic");
        match state.had.insert(key.to_owned(), value.to_vec()) {
            Some(had) if had == value => Change::Unchanged,
            _ => Change::Changed,
        }
    }
}

#[async_trait]
impl Topology for Paper {
    fn name(&self) -> String {
        "paper".to_owned()
    }
    async fn ensure_ready(&self) -> Result<(), ExecutorError> {
        Ok(())
    }
}

#[async_trait]
impl LinuxHost for Paper {
    async fn run(&self, command: &HostCommand, _: &[u8]) -> Result<CommandOutput, ExecutorError> {
        let words = command.argv();
        self.call(command.to_string());
        let mut status = 0;
        if words.iter().any(|word| word.starts_with("is-")) {
            let state = self.state.lock().expect("no panic");
            status = u32::from(!state.had.contains_key("socket"));
        } else if words.iter().any(|word| word == "restart") {
            self.has("socket", b"");
        }
        let stdout = match words[0].as_str() {
            "id" => "990\n".to_owned(),
            "cat" => {
                let state = self.state.lock().expect("no panic");
                let content = state.had.get(&words[1]).cloned().unwrap_or_default();
                String::from_utf8(content).expect("text")
            }
            _ => String::new(),
        };
        Ok(CommandOutput {
            status,
            stdout,
            stderr: String::new(),
        })
    }
    async fn facts(&self) -> Result<LinuxFacts, ExecutorError> {
        Ok(LinuxFacts {
            machine: self.machine.to_owned(),
            boot_id: "1".to_owned(),
            default_gateway: self.gateway,
        })
    }
    async fn wait_first_boot(&self) -> Result<(), ExecutorError> {
        self.call("first boot");
        Ok(())
    }
    async fn ensure_packages(&self, names: &[&str]) -> Result<Change, ExecutorError> {
        self.call("packages");
        Ok(self.has("packages", names.join(" ").as_bytes()))
    }
    async fn ensure_files(&self, files: &[HostFile]) -> Result<Vec<Change>, ExecutorError> {
        let each = files.iter().map(|file| {
            self.call(format!("{} {} {:o}", file.path, file.owner, file.mode));
            self.has(&file.path, &file.content)
        });
        Ok(each.collect())
    }
    async fn ensure_user(&self, user: &HostUser) -> Result<Change, ExecutorError> {
        let lingers = if user.lingering { " lingers" } else { "" };
        self.call(format!("user {} {}{lingers}", user.name, user.home));
        Ok(self.has(&user.name, b""))
    }
    async fn ensure_unit(&self, unit: &HostUnit) -> Result<Change, ExecutorError> {
        if self.unit_fails {
            let path = PathBuf::new();
            let found = String::new();
            return Err(DeviceError::NotAProgram { path, found }.into());
        }
        self.call(format!("unit {} restart={}", unit.name, unit.restart));
        let first = self.has("unit", b"");
        Ok(if unit.restart { Change::Changed } else { first })
    }
}

/// A score for a program of this test's own architecture: the test itself.
fn score(url: &str) -> ProvisionIotAgentScore {
    let config = format!("device_id = 'pi-1'\n[nats]\nurls = ['{url}']\n");
    ProvisionIotAgentScore {
        config: toml::from_str(&config).expect("valid"),
        nats_ca: None,
        releases_ca: None,
        agent_binary: std::env::current_exe().expect("Linux"),
        architecture: VmArchitecture::of_host().expect("a host of ours"),
        insecure_registries: Vec::new(),
    }
}

async fn execute(score: &ProvisionIotAgentScore, host: &Paper) -> Result<Outcome, ExecutorError> {
    let interpret = Score::<Paper>::create_interpret(score);
    interpret.execute(&Inventory::new("/unused"), host).await
}

#[tokio::test]
async fn a_second_run_changes_nothing_and_a_changed_configuration_restarts_the_agent() {
    let host = Paper::new(std::env::consts::ARCH);
    let first = score("nats://127.0.0.1:4222");
    let outcome = execute(&first, &host).await.expect("provisioned");
    assert_eq!(outcome.change, Change::Changed);
    let runuser = "runuser -u iot-agent -- env -C /var/lib/iot-agent \
                   XDG_RUNTIME_DIR=/run/user/990 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/990/bus systemctl --user";
    let questions = [
        "systemctl --global is-enabled --quiet iot-containers.socket".to_owned(),
        format!("{runuser} is-active --quiet iot-containers.socket"),
    ];
    let listen = [
        "systemd-tmpfiles --create /etc/tmpfiles.d/iot-agent.conf".to_owned(),
        "systemctl --global enable iot-containers.socket".to_owned(),
        format!("{runuser} daemon-reload"),
        format!("{runuser} restart iot-containers.socket"),
    ];
    let listen: Vec<&str> = listen.iter().map(String::as_str).collect();
    let expected = |between: &[&str], restart: bool, after: &[&str]| {
        let mut calls = vec![
            "first boot",
            "packages",
            "user iot-agent-v0 /var/lib/iot-agent-v0",
            "user iot-agent /var/lib/iot-agent lingers",
            "id -u iot-agent",
            "/etc/tmpfiles.d/iot-agent.conf root:root 644",
            "/etc/systemd/user/iot-containers.socket root:root 644",
            "/etc/systemd/user/iot-containers.service root:root 644",
        ];
        calls.extend(questions.iter().map(String::as_str));
        calls.extend(between);
        calls.push("cat /var/lib/harmony/iot-agent.applied");
        calls.push("cat /etc/iot-agent/config.toml");
        calls.push("/usr/local/bin/iot-agent-v0 root:root 755");
        calls.push("/etc/systemd/system/iot-agent.service root:root 644");
        calls.push("/etc/containers/registries.conf.d/50-harmony.conf root:root 644");
        calls.push("/etc/iot-agent/config.toml root:iot-agent-v0 640");
        calls.push(match restart {
            true => "unit iot-agent.service restart=true",
            false => "unit iot-agent.service restart=false",
        });
        calls.push("/var/lib/harmony/iot-agent.applied root:root 600");
        calls.extend(after);
        calls.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(host.calls(), expected(&listen, true, &["sync"]));
    {
        let state = host.state.lock().expect("no panic");
        let config = String::from_utf8_lossy(&state.had[AGENT_CONFIG]);
        assert!(config.contains("nats://10.0.2.2:4222"), "{config}");
        let program = fs::read(&first.agent_binary).expect("readable");
        assert!(state.had[AGENT_BINARY] == program, "every byte");
    }

    let outcome = execute(&first, &host).await.expect("provisioned");
    assert_eq!(outcome.change, Change::Unchanged);
    assert_eq!(outcome.details.len(), 9);
    assert!(
        outcome
            .details
            .iter()
            .all(|step| step.ends_with(": unchanged"))
    );
    assert_eq!(host.calls(), expected(&[], false, &[]));

    let other = score("tls://nats.example");
    let outcome = execute(&other, &host).await.expect("provisioned");
    let changed = outcome
        .details
        .iter()
        .filter(|step| step.ends_with(": changed"));
    let changed: Vec<_> = changed.collect();
    assert_eq!(
        changed,
        [
            "/etc/iot-agent/config.toml: changed",
            "iot-agent.service: changed"
        ]
    );
    assert_eq!(host.calls(), expected(&[], true, &["sync"]));
}

#[tokio::test]
async fn what_devices_have_in_common_is_installed_once_and_waits() {
    let host = Paper::new(std::env::consts::ARCH);
    let device = score("nats://127.0.0.1:4222");
    let common = InstallIotAgentScore {
        agent_binary: device.agent_binary.clone(),
        architecture: device.architecture,
    };
    let interpret = Score::<Paper>::create_interpret(&common);
    let inventory = Inventory::new("/unused");
    interpret
        .execute(&inventory, &host)
        .await
        .expect("installed");
    let calls = host.calls();
    let touches = |what: &str| calls.iter().any(|call| call.contains(what));
    assert!(
        touches(AGENT_BINARY) && touches("packages") && touches("podman ps") && touches("sync")
    );
    assert!(
        touches("unit iot-agent.service") && !touches("config.toml"),
        "{calls:?}"
    );

    // Its fork gets what is its own, and nothing else.
    let facts = host.facts().await.expect("paper");
    device.complete(&host, &facts).await.expect("completed");
    assert_eq!(
        host.calls(),
        [
            "/var/lib/harmony/iot-agent.applied root:root 600",
            "/etc/iot-agent/config.toml root:iot-agent-v0 640",
            "sync"
        ]
    );
    // Its registries are its own too.
    let device = ProvisionIotAgentScore {
        insecure_registries: vec!["registry.example:5000".to_owned()],
        ..device
    };
    let outcome = device.complete(&host, &facts).await.expect("completed");
    assert_eq!(outcome.change, Change::Changed);
    assert!(host.calls()[0].starts_with("/etc/containers/registries"));

    // It is then the device that it would have been without.
    let outcome = execute(&device, &host).await.expect("provisioned");
    assert_eq!(outcome.change, Change::Unchanged, "{:?}", outcome.details);

    let digest = common.digest().await.expect("a program");
    let mut program = fs::read(&common.agent_binary).expect("readable");
    program.push(0);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let agent_binary = dir.path().join("agent");
    fs::write(&agent_binary, program).expect("written");
    let other = InstallIotAgentScore {
        agent_binary,
        ..common
    };
    assert_ne!(other.digest().await.expect("a program"), digest);
}

#[tokio::test]
async fn a_restart_that_did_not_come_is_made_up_for() {
    let mut host = Paper::new(std::env::consts::ARCH);
    execute(&score("tls://x"), &host)
        .await
        .expect("provisioned");
    let changed = score("tls://y");
    host.unit_fails = true;
    execute(&changed, &host).await.expect_err("no restart");
    host.unit_fails = false;
    let outcome = execute(&changed, &host).await.expect("provisioned");
    let steps = outcome.details.iter();
    let done: Vec<_> = steps.filter(|step| step.ends_with(": changed")).collect();
    assert_eq!(done, ["iot-agent.service: changed"]);
    let outcome = execute(&changed, &host).await.expect("provisioned");
    assert_eq!(outcome.change, Change::Unchanged);
}

#[tokio::test]
async fn what_is_wrong_on_our_side_is_found_before_the_host_is_asked_anything() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let text = dir.path().join("text");
    fs::write(&text, "#!/bin/sh\n").expect("ours");
    let good = score("nats://127.0.0.1");
    let foreign = VmArchitecture::ALL
        .into_iter()
        .find(|architecture| *architecture != good.architecture);
    let table = [
        ProvisionIotAgentScore {
            agent_binary: dir.path().join("nothing"),
            ..good.clone()
        },
        ProvisionIotAgentScore {
            agent_binary: text,
            ..good.clone()
        },
        ProvisionIotAgentScore {
            architecture: foreign.expect("there are two"),
            ..good.clone()
        },
        ProvisionIotAgentScore {
            insecure_registries: vec!["http://x".to_owned()],
            ..good
        },
    ];
    for (index, score) in table.iter().enumerate() {
        let host = Paper::new(std::env::consts::ARCH);
        let error = execute(score, &host).await.expect_err("wrong");
        let error = error.downcast_ref::<DeviceError>().expect("a DeviceError");
        let expected = match index {
            0 => matches!(error, DeviceError::BinaryUnreadable { .. }),
            1 => matches!(error, DeviceError::NotAProgram { .. }),
            2 => matches!(error, DeviceError::BinaryArchitecture { .. }),
            _ => matches!(error, DeviceError::Registry { .. }),
        };
        assert!(expected, "{index}: {error:?}");
        assert_eq!(host.calls(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_host_that_does_not_fit_is_left_alone() {
    let mut host = Paper::new("riscv64");
    let error = execute(&score("tls://x"), &host)
        .await
        .expect_err("riscv64");
    assert!(
        matches!(
            error.downcast_ref(),
            Some(DeviceError::HostArchitecture { found, .. }) if found == "riscv64"
        ),
        "{error:?}"
    );
    assert_eq!(host.calls(), ["first boot"]);

    host.machine = std::env::consts::ARCH;
    host.gateway = None;
    let error = execute(&score("nats://localhost"), &host)
        .await
        .expect_err("no way");
    assert!(
        matches!(error.downcast_ref(), Some(DeviceError::NoGateway { .. })),
        "{error:?}"
    );
    assert_eq!(host.calls(), ["first boot"]);
}

/// The agent's unit in a directory of its own; the device has the program, this machine need not.
fn unit_in(dir: &Path) -> PathBuf {
    let path = dir.join("iot-agent.service");
    let unit = UNIT_CONTENT.replace(AGENT_BINARY, "/bin/true");
    fs::write(&path, unit).expect("ours");
    path
}

fn systemd_analyze(arguments: &[&str], units: &[&Path]) -> Output {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(arguments).args(units);
    analyze
        .output()
        .expect("systemd-analyze is installed (apt-get install systemd)")
}

#[test]
#[ignore = "needs systemd-analyze: checks the device's units"]
fn the_units_are_such_that_systemd_takes_them() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let agent = unit_in(dir.path());
    let output = systemd_analyze(&["verify", "--man=no"], &[&agent]);
    let found = complaints(&output, "iot-agent.service");
    assert!(output.status.success() && found.is_empty(), "{found:?}");
    let [socket, service] =
        ["socket", "service"].map(|kind| dir.path().join(format!("iot-containers.{kind}")));
    fs::write(&socket, SOCKET_CONTENT).expect("ours");
    let content = SERVICE_CONTENT.replace("/usr/bin/podman", "/bin/true");
    fs::write(&service, content).expect("ours");
    let output = systemd_analyze(&["verify", "--man=no"], &[&socket, &service]);
    let found = complaints(&output, "iot-containers.");
    assert!(output.status.success() && found.is_empty(), "{found:?}");
}

/// What systemd says of the units of that name, but for what its older versions do not know and the unit does not rely
/// on.
fn complaints(output: &Output, unit: &str) -> Vec<String> {
    let since_254 = ["'RestartSteps'", "'RestartMaxDelaySec'"];
    let said = String::from_utf8_lossy(&output.stderr);
    let about_it = said.lines().filter(|line| line.contains(unit));
    let about_it = about_it.filter(|line| !since_254.iter().any(|key| line.contains(key)));
    about_it.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs systemd-analyze: has it judge how exposed the agent is"]
fn the_agent_is_hardly_exposed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = unit_in(dir.path());
    let bound = format!("--threshold={MAX_EXPOSURE_TENTHS}");
    let output = systemd_analyze(
        &["security", "--offline=true", "--no-pager", &bound],
        &[&path],
    );
    let said = String::from_utf8_lossy(&output.stdout);
    // A program that knows no such command judges nothing.
    assert!(said.contains("Overall exposure level"), "{output:?}");
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_agent_has_bounds_and_no_user_of_a_containers() {
    let has = |line: &str| UNIT_CONTENT.lines().any(|own| own == line);
    for line in [
        &format!("User={AGENT_USER}"),
        &format!("Group={AGENT_USER}"),
        "WatchdogSec=2min",
        "MemoryMax=128M",
        "TasksMax=64",
        "Restart=always",
    ] {
        assert!(has(line), "{line}");
    }
    let socket = "/run/iot-agent/podman.sock";
    assert!(has(&format!(
        "Environment={PODMAN_SOCKET_VARIABLE}={socket}"
    )));
    assert!(SOCKET_CONTENT.contains(&format!("ListenStream={socket}\nSocketMode=0660\n")));
    let directory = format!("d /run/iot-agent 2750 {CONTAINERS_USER} {AGENT_USER} -\n");
    assert!(TMPFILES_CONTENT.ends_with(&directory), "{TMPFILES_CONTENT}");
    for unit in [SOCKET_CONTENT, SERVICE_CONTENT] {
        assert!(
            unit.contains(&format!("ConditionUser={CONTAINERS_USER}\n")),
            "{unit}"
        );
    }
    assert_ne!(AGENT_USER, CONTAINERS_USER);
    assert!(!super::user::agent_user().lingering, "no subordinate ids");
}
