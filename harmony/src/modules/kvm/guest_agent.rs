//! Commands in a guest through QEMU's guest agent, which needs no network.
//!
//! The channel is the virtio-serial port that every domain of harmony's has. What goes through it is in no
//! process' arguments, neither here nor in the guest.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harmony_base::wait::{self, Look};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::KvmError;
use super::libvirt::Libvirt;
use crate::domain::error::error_chain;
use crate::domain::topology::linux_host::CommandOutput;

mod error;
mod host;

pub use error::GuestAgentError;
pub use host::{GuestAgentHost, InputTooLarge};

/// How long the agent may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is asked at first whether it is there, or whether a command has ended: it does not tell by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often at last: an emulated guest spends milliseconds on each answer.
const SLOW_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The status of a command that a signal ended, less the signal's number, as a shell has it.
const SIGNALLED: u32 = 128;

/// The agent in one guest.
pub(super) struct GuestAgent<'a> {
    pub(super) libvirt: &'a Libvirt,
    pub(super) name: &'a str,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: T,
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    exited: bool,
    exitcode: Option<u32>,
    signal: Option<u32>,
    out_data: Option<String>,
    err_data: Option<String>,
    #[serde(default)]
    out_truncated: bool,
    #[serde(default)]
    err_truncated: bool,
}

impl Status {
    fn output(self) -> Result<CommandOutput, KvmError> {
        if self.out_truncated || self.err_truncated {
            return Err(KvmError::Internal {
                what: "a program in the guest wrote more than its agent keeps".to_owned(),
            });
        }
        let decoded = |data: Option<String>| {
            let bytes = STANDARD.decode(data.unwrap_or_default());
            let bytes = bytes.map_err(|error| KvmError::Internal {
                what: format!("the guest agent's account of a command: {error}"),
            })?;
            Ok::<_, KvmError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(CommandOutput {
            status: match (self.exitcode, self.signal) {
                (Some(status), _) => status,
                (None, signal) => SIGNALLED + signal.unwrap_or(0),
            },
            stdout: decoded(self.out_data)?,
            stderr: decoded(self.err_data)?,
        })
    }
}

impl GuestAgent<'_> {
    /// Waits until the agent answers, for as long as `bound`.
    pub(super) async fn wait(&self, bound: Duration) -> Result<(), KvmError> {
        let look = || async {
            Ok(match self.ask::<Value>("guest-ping", json!({})).await {
                Ok(_) => Look::Done(()),
                Err(error) => Look::NotYet(error_chain(&error)),
            })
        };
        let timed_out = |last_seen| self.timed_out("the guest agent", bound, last_seen);
        wait::until(bound, |_| POLL_INTERVAL, look, timed_out).await
    }

    fn timed_out(&self, awaited: &'static str, bound: Duration, last_seen: String) -> KvmError {
        KvmError::TimedOut {
            name: self.name.to_owned(),
            awaited,
            bound,
            last_seen,
        }
    }

    /// Runs a shell script as root, which goes through the shell's standard input, and has to succeed.
    pub(super) async fn run_script(
        &self,
        script: &str,
        action: &'static str,
        bound: Duration,
    ) -> Result<(), GuestAgentError> {
        let output = self.run("/bin/sh", &["-s"], script.as_bytes(), bound);
        let output = output.await?;
        if output.status == 0 {
            return Ok(());
        }
        Err(GuestAgentError::Failed {
            name: self.name.to_owned(),
            action,
            status: output.status,
            stderr: output.stderr.trim().to_owned(),
        })
    }

    /// Runs a program as root, and waits for its end for as long as `bound`.
    async fn run(
        &self,
        program: &str,
        arguments: &[impl AsRef<str>],
        input: &[u8],
        bound: Duration,
    ) -> Result<CommandOutput, KvmError> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let started: Started = self
            .ask(
                "guest-exec",
                json!({
                    "path": program,
                    "arg": arguments,
                    "input-data": STANDARD.encode(input),
                    "capture-output": true,
                }),
            )
            .await?;
        let look = || async {
            let asked = json!({ "pid": started.pid });
            let status: Status = self.ask("guest-exec-status", asked).await?;
            Ok(match status.exited {
                true => Look::Done(status),
                false => Look::NotYet("it still runs".to_owned()),
            })
        };
        // What has taken long may take an eighth longer.
        let pause = |waited: Duration| (waited / 8).clamp(POLL_INTERVAL, SLOW_POLL_INTERVAL);
        let timed_out =
            |last_seen| self.timed_out("the end of a program in the guest", bound, last_seen);
        let ended = wait::until(bound, pause, look, timed_out).await?;
        ended.output()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        command: &'static str,
        arguments: Value,
    ) -> Result<T, KvmError> {
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        let answer = self
            .libvirt
            .guest_agent(self.name, request, ANSWER_TIMEOUT)
            .await?;
        let answer: Answer<T> =
            serde_json::from_str(&answer).map_err(|error| KvmError::Internal {
                what: format!("the guest agent's answer to {command}: {error}"),
            })?;
        Ok(answer.value)
    }
}
