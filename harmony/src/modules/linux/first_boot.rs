//! Waiting for the first boot's set-up: cloud-init's, or that of an image of the default recipe.

use serde::Deserialize;
use tracing::{info, warn};

use super::error::LinuxError;
use super::shell::{Script, Shell, tail};
use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand};

/// How much of cloud-init's own account is kept in an error, in bytes.
const DETAIL_TAIL_BYTES: usize = 2048;

/// Waiting changes nothing, so it is repeated when the session breaks: cloud-init may restart the SSH
/// server or the network.
const ATTEMPTS: u32 = 3;

/// What an image of the default recipe leaves in the guest when it has set itself up.
pub const FIRST_BOOT_NOTE: &str = "/run/harmony/first-boot";

/// What such an image does beside the boot.
pub const GROW_ROOT_UNIT: &str = "harmony-grow-root.service";

/// Who sets the host up: the default recipe's image, as its note (`$1`) says, or cloud-init. The first one's unit
/// (`$2`) is waited for here.
const WHO: Script = Script {
    name: "find-first-boot",
    text: "set -e
if [ -e \"$1\" ]; then
  systemctl start \"$2\"
  sync
  echo recipe
elif command -v cloud-init >/dev/null; then echo cloud-init; else echo nobody; fi",
};

pub(super) async fn wait(host: &dyn Shell) -> Result<(), ExecutorError> {
    match host
        .expect_script(&WHO, &[FIRST_BOOT_NOTE, GROW_ROOT_UNIT])
        .await?
        .trim()
    {
        "recipe" => return Ok(()),
        "cloud-init" => {}
        _ => {
            info!("the host has no cloud-init: nothing to wait for");
            return Ok(());
        }
    }
    let mut attempt = 1;
    let output = loop {
        match wait_once(host).await {
            Err(error) if host.is_lost(&error) && attempt < ATTEMPTS => {
                warn!(attempt, %error, "waiting for cloud-init again");
                attempt += 1;
            }
            result => break result?,
        }
    };
    let long = HostCommand::new("cloud-init")
        .args(["status", "--long"])
        .as_root();
    match ending(&output) {
        Ending::Done => {}
        Ending::Degraded { detail } => {
            warn!(%detail, "cloud-init is done, with complaints");
        }
        Ending::Failed { status } => {
            let account = host.execute(&long, &[]).await?;
            return Err(LinuxError::FirstBootFailed {
                status,
                detail: tail(&account.stdout, DETAIL_TAIL_BYTES).to_owned(),
            }
            .into());
        }
    }
    // cloud-init does not: a power cut within half a minute would leave the host key empty, and its own
    // notes that it has been written.
    host.expect(&HostCommand::new("sync").as_root(), &[])
        .await?;
    Ok(())
}

/// Waits with the machine-readable form, or without it where cloud-init is too old to have it.
async fn wait_once(host: &dyn Shell) -> Result<CommandOutput, ExecutorError> {
    let wait = HostCommand::new("cloud-init")
        .args(["status", "--wait"])
        .as_root();
    let output = host
        .execute(&wait.clone().args(["--format", "json"]), &[])
        .await?;
    if output.stderr.contains("unrecognized arguments") {
        return host.execute(&wait, &[]).await;
    }
    Ok(output)
}

/// How the first boot's set-up ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Done,
    Degraded { detail: String },
    Failed { status: String },
}

/// `cloud-init status --format json`, as far as it is read.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    recoverable_errors: serde_json::Map<String, serde_json::Value>,
}

/// Reads either form. cloud-init prints a dot a second before it while it waits. Exit status 2 says
/// that it is done and had recoverable errors.
fn ending(output: &CommandOutput) -> Ending {
    let json = output
        .stdout
        .find('{')
        .and_then(|start| serde_json::from_str::<Status>(&output.stdout[start..]).ok());
    let plain = || {
        let line = output
            .stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix("status:"));
        line.map(|status| Status {
            status: status.trim().to_owned(),
            recoverable_errors: serde_json::Map::new(),
        })
    };
    let Some(report) = json.or_else(plain) else {
        return Ending::Failed {
            status: format!(
                "unknown, exit status {}: {}",
                output.status,
                tail(&output.stderr, DETAIL_TAIL_BYTES)
            ),
        };
    };
    match (report.status.as_str(), output.status) {
        ("done" | "disabled", 0) => Ending::Done,
        ("done", 2) => Ending::Degraded {
            detail: serde_json::Value::Object(report.recoverable_errors).to_string(),
        },
        _ => Ending::Failed {
            status: report.status,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, ending};
    use crate::domain::topology::linux_host::CommandOutput;

    #[test]
    fn endings_of_old_and_new_cloud_init() {
        let degraded = |detail: &str| Ending::Degraded {
            detail: detail.to_owned(),
        };
        let failed = |status: &str| Ending::Failed {
            status: status.to_owned(),
        };
        let table = [
            (0, "\nstatus: done\n", Ending::Done),
            (0, ".........\nstatus: done\n", Ending::Done),
            (0, "status: disabled\n", Ending::Done),
            (1, "....\nstatus: error\n", failed("error")),
            (2, "status: done\n", degraded("{}")),
            (
                0,
                r#"{"boot_status_code":"enabled","status":"done","extended_status":"done","errors":[],"recoverable_errors":{}}"#,
                Ending::Done,
            ),
            (
                2,
                "....\n{\n \"status\": \"done\",\n \"recoverable_errors\": {\"WARNING\": [\"x\"]}\n}\n",
                degraded(r#"{"WARNING":["x"]}"#),
            ),
            (
                1,
                r#"{"status":"error","errors":["boom"]}"#,
                failed("error"),
            ),
            (0, "status: running\n", failed("running")),
            (1, "status: done\n", failed("done")),
            (127, "", failed("unknown, exit status 127: not there")),
        ];
        for (status, stdout, expected) in table {
            let output = CommandOutput {
                status,
                stdout: stdout.to_owned(),
                stderr: "not there\n".to_owned(),
            };
            assert_eq!(ending(&output), expected, "{stdout:?}");
        }
    }
}
