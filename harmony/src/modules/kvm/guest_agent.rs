//! Commands in a guest through QEMU's guest agent, which needs no network.
//!
//! The channel is the virtio-serial port that every domain of harmony's has. What goes through it is in no
//! process' arguments, neither here nor in the guest.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::checkpoint::CheckpointError;
use super::error::KvmError;
use super::libvirt::Libvirt;

/// How long the agent may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is asked whether a command has ended: it does not tell by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What a command in a guest has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// The exit status; none when a signal ended it.
    pub(super) status: Option<i32>,
    /// The standard error, at most what the agent keeps of it.
    pub(super) stderr: String,
}

impl Ended {
    /// Nothing when it succeeded.
    pub(super) fn require(&self, name: &str, action: &'static str) -> Result<(), CheckpointError> {
        if self.status == Some(0) {
            return Ok(());
        }
        Err(CheckpointError::InGuest {
            name: name.to_owned(),
            action,
            status: self
                .status
                .map_or("ended by a signal".to_owned(), |s| s.to_string()),
            stderr: self.stderr.clone(),
        })
    }
}

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
    exitcode: Option<i32>,
    err_data: Option<String>,
}

impl GuestAgent<'_> {
    /// Waits until the agent answers, for as long as `bound`.
    pub(super) async fn wait(&self, bound: Duration) -> Result<(), KvmError> {
        let deadline = Instant::now() + bound;
        loop {
            match self.ask::<Value>("guest-ping", json!({})).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(KvmError::TimedOut {
                        name: self.name.to_owned(),
                        awaited: "the guest agent",
                        bound,
                        last_seen: crate::domain::error::error_chain(&error),
                    });
                }
                Err(_) => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Runs a shell script as root, and waits for its end for as long as `bound`. The script itself goes through
    /// the shell's standard input.
    pub(super) async fn run_script(
        &self,
        script: &str,
        bound: Duration,
    ) -> Result<Ended, KvmError> {
        let started: Started = self
            .ask(
                "guest-exec",
                json!({
                    "path": "/bin/sh",
                    "arg": ["-s"],
                    "input-data": STANDARD.encode(script),
                    "capture-output": true,
                }),
            )
            .await?;
        let deadline = Instant::now() + bound;
        loop {
            let asked = json!({ "pid": started.pid });
            let status: Status = self.ask("guest-exec-status", asked).await?;
            if status.exited {
                let said = status.err_data.unwrap_or_default();
                let said = STANDARD.decode(said).unwrap_or_default();
                return Ok(Ended {
                    status: status.exitcode,
                    stderr: String::from_utf8_lossy(&said).trim().to_owned(),
                });
            }
            if Instant::now() >= deadline {
                return Err(KvmError::TimedOut {
                    name: self.name.to_owned(),
                    awaited: "the end of a script in the guest",
                    bound,
                    last_seen: "it still runs".to_owned(),
                });
            }
            sleep(POLL_INTERVAL).await;
        }
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
