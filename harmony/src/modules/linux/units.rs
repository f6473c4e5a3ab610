//! Units of the system's service manager.

use std::collections::BTreeMap;

use tracing::info;

use super::error::LinuxError;
use super::shell::{Shell, tail};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand, HostUnit};

/// What of a unit is asked for.
const PROPERTIES: &str = "--property=LoadState,NeedDaemonReload,UnitFileState,ActiveState";

/// How much of systemctl's, the status' and the journal's words is kept in an error, in bytes each.
const DETAIL_TAIL_BYTES: usize = 2048;
const JOURNAL_LINES: &str = "--lines=40";

pub(super) async fn ensure(host: &dyn Shell, unit: &HostUnit) -> Result<Change, ExecutorError> {
    check(&unit.name)?;
    let mut state = show(host, &unit.name).await?;
    if state.needs_reload() {
        let reload = HostCommand::new("systemctl").arg("daemon-reload").as_root();
        host.expect(&reload, &[]).await?;
        state = show(host, &unit.name).await?;
    }
    if state.load != "loaded" {
        return Err(LinuxError::UnitNotLoaded {
            unit: unit.name.clone(),
            load_state: state.load,
        }
        .into());
    }
    let actions = state.actions(unit.restart);
    for action in &actions {
        act(host, action, &unit.name).await?;
        info!(unit = %unit.name, %action, "done");
    }
    Ok(match actions.as_slice() {
        [] => Change::Unchanged,
        _ => Change::Changed,
    })
}

/// A unit's state as systemd says it.
#[derive(Debug, PartialEq, Eq)]
struct State {
    load: String,
    needs_daemon_reload: bool,
    unit_file: String,
    active: String,
}

impl State {
    /// Whether systemd has not read what is on disk. It may also not have seen a new file yet.
    fn needs_reload(&self) -> bool {
        self.needs_daemon_reload || self.load == "not-found"
    }

    /// What makes this an enabled, running unit. Units without `[Install]` cannot be enabled, and
    /// need not be.
    fn actions(&self, restart: bool) -> Vec<&'static str> {
        let mut actions = Vec::new();
        if matches!(
            self.unit_file.as_str(),
            "disabled" | "enabled-runtime" | "linked" | "linked-runtime" | "masked" | "bad"
        ) {
            actions.push("enable");
        }
        match self.active.as_str() {
            "active" | "reloading" if restart => actions.push("restart"),
            "active" | "reloading" => {}
            // It may be between two attempts, of what was there before.
            "activating" if restart => actions.push("restart"),
            _ => actions.push("start"),
        }
        actions
    }
}

fn check(name: &str) -> Result<(), LinuxError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte != b'-');
    if first && name.len() <= 255 && name.contains('.') && name.bytes().all(valid) {
        return Ok(());
    }
    Err(LinuxError::InvalidRequest {
        what: "unit name",
        value: name.to_owned(),
        expected: "a systemd unit name with its suffix, such as iot-agent.service",
    })
}

async fn show(host: &dyn Shell, unit: &str) -> Result<State, ExecutorError> {
    let show = HostCommand::new("systemctl").args(["show", PROPERTIES, "--", unit]);
    Ok(parse(&host.expect(&show.as_root(), &[]).await?)?)
}

fn parse(shown: &str) -> Result<State, LinuxError> {
    let properties: BTreeMap<&str, &str> = shown
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let get = |name| {
        let value = properties.get(name).copied().map(str::to_owned);
        value.ok_or_else(|| LinuxError::UnexpectedOutput {
            command: "systemctl show",
            output: shown.chars().take(200).collect(),
            expected: "LoadState, NeedDaemonReload, UnitFileState and ActiveState",
        })
    };
    Ok(State {
        load: get("LoadState")?,
        needs_daemon_reload: get("NeedDaemonReload")? == "yes",
        unit_file: get("UnitFileState")?,
        active: get("ActiveState")?,
    })
}

async fn act(host: &dyn Shell, action: &'static str, unit: &str) -> Result<(), ExecutorError> {
    let command = HostCommand::new("systemctl").args([action, "--", unit]);
    let output = host.execute(&command.as_root(), &[]).await?;
    if output.status == 0 {
        return Ok(());
    }
    let status = HostCommand::new("systemctl")
        .args(["status", "--no-pager", "--full", "--lines=0", "--", unit])
        .as_root();
    let journal = HostCommand::new("journalctl")
        .args([
            "--boot",
            "--no-pager",
            "--output=short-iso",
            JOURNAL_LINES,
            "--unit",
            unit,
        ])
        .as_root();
    // Their exit status tells the unit's state, which is known to be bad.
    let status = host.execute(&status, &[]).await?;
    let journal = host.execute(&journal, &[]).await?;
    Err(LinuxError::UnitFailed {
        unit: unit.to_owned(),
        action,
        detail: detail(&[&output, &status, &journal]),
    }
    .into())
}

fn detail(outputs: &[&CommandOutput]) -> String {
    let texts = outputs
        .iter()
        .flat_map(|output| [&output.stderr, &output.stdout]);
    let tails = texts.map(|text| tail(text, DETAIL_TAIL_BYTES));
    let tails: Vec<&str> = tails.filter(|text| !text.is_empty()).collect();
    tails.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{check, parse};
    use crate::modules::linux::LinuxError;

    fn shown(load: &str, reload: &str, unit_file: &str, active: &str) -> String {
        format!(
            "LoadState={load}\nActiveState={active}\nUnitFileState={unit_file}\nNeedDaemonReload={reload}\n"
        )
    }

    #[test]
    fn a_unit_gets_what_it_lacks() {
        let table: [(&str, &str, bool, &[&str]); 9] = [
            ("enabled", "active", false, &[]),
            ("enabled", "active", true, &["restart"]),
            ("disabled", "inactive", false, &["enable", "start"]),
            ("disabled", "inactive", true, &["enable", "start"]),
            ("enabled", "failed", true, &["start"]),
            ("static", "active", false, &[]),
            ("enabled", "activating", false, &["start"]),
            ("enabled", "activating", true, &["restart"]),
            ("masked", "inactive", false, &["enable", "start"]),
        ];
        for (unit_file, active, restart, expected) in table {
            let state = parse(&shown("loaded", "no", unit_file, active)).expect("complete");
            assert!(!state.needs_reload());
            assert_eq!(state.actions(restart), expected, "{state:?} {restart}");
        }
    }

    #[test]
    fn changed_and_unseen_unit_files_are_reloaded() {
        let table = [("loaded", "yes"), ("not-found", "no")];
        for (load, reload) in table {
            let state = parse(&shown(load, reload, "", "inactive")).expect("complete");
            assert!(state.needs_reload(), "{state:?}");
        }
        let error = parse("LoadState=loaded\n").expect_err("incomplete");
        assert!(
            matches!(error, LinuxError::UnexpectedOutput { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn unit_names() {
        for name in [
            "iot-agent.service",
            "user@990.service",
            "dev-disk-by\\x2duuid.device",
        ] {
            check(name).expect(name);
        }
        for name in [
            "",
            "iot-agent",
            "-x.service",
            "a b.service",
            "*.service",
            "../x.service",
        ] {
            let error = check(name).expect_err(name);
            assert!(
                matches!(
                    error,
                    LinuxError::InvalidRequest {
                        what: "unit name",
                        ..
                    }
                ),
                "{error:?}"
            );
        }
    }
}
