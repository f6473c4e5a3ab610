//! A guest as a Linux host, through its agent.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::debug;

use super::GuestAgent;
use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand};
use crate::modules::kvm::libvirt::Libvirt;
use crate::modules::kvm::topology::{KvmVirtualMachineHost, checked};
use crate::modules::linux::{Shell, label};

/// How long a guest that runs may take to have an agent, and a network.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);

/// The most that a command may be given: libvirt takes messages of 4 MiB, and base64 makes 4 bytes of 3.
const INPUT_LIMIT_BYTES: usize = 2 << 20;

/// Ends when the kernel has an IPv4 default route or, after 10 s, any address that leads out; fails after 45 s. The
/// kernel is asked again and again: what follows its routes has to be begun before the first question. The shell reads
/// the routes by itself, and only its rests are a program.
const WAIT_FOR_NETWORK: &str = r#"
has_default_route() {
  while read -r _ destination _; do
    if [ "$destination" = 00000000 ]; then return 0; fi
  done </proc/net/route
  return 1
}
waited=0
until has_default_route; do
  if [ "$waited" -ge 50 ] && [ -n "$(ip -4 -o address show scope global)" ]; then exit 0; fi
  [ "$waited" -lt 225 ] || { ip -br address >&2; exit 1; }
  sleep 0.2
  waited=$((waited + 1))
done
"#;

/// What is asked of a guest's agent and cannot be.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{command}' has {bytes} bytes of input (expected at most {INPUT_LIMIT_BYTES} through the guest's agent)"
)]
pub struct InputTooLarge {
    /// The command.
    pub command: String,
    /// What it was given.
    pub bytes: usize,
}

impl HintedError for InputTooLarge {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidRequest
    }

    fn hint(&self) -> Option<String> {
        Some("send it over SSH".to_owned())
    }
}

/// A guest that is configured through its agent: it needs no network, no login and no key, and a command takes a
/// fraction of what it takes over SSH where the guest is emulated.
#[derive(Clone)]
pub struct GuestAgentHost {
    libvirt: Libvirt,
    name: String,
    /// Whether it has a network card.
    connected: bool,
}

impl fmt::Debug for GuestAgentHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestAgentHost")
            .field("name", &self.name)
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl KvmVirtualMachineHost {
    /// The guest of a VM of harmony's that runs.
    ///
    /// # Errors
    /// No such VM, or one that is not harmony's.
    pub async fn guest(&self, name: &str) -> Result<GuestAgentHost, ExecutorError> {
        let record = self.existing(&checked(name)?).await?;
        Ok(GuestAgentHost {
            libvirt: self.libvirt().await?.clone(),
            name: name.to_owned(),
            connected: !record.spec.networks.is_empty(),
        })
    }
}

impl GuestAgentHost {
    fn agent(&self) -> GuestAgent<'_> {
        GuestAgent {
            libvirt: &self.libvirt,
            name: &self.name,
        }
    }
}

#[async_trait]
impl Topology for GuestAgentHost {
    fn name(&self) -> String {
        format!("guest-agent({})", self.name)
    }

    /// Waits until the agent answers, and a guest with a network card has an IPv4 default route, or at least an
    /// address after 10 s without one.
    async fn ensure_ready(&self) -> Result<(), ExecutorError> {
        let agent = self.agent();
        agent.wait(READY_TIMEOUT).await?;
        if self.connected {
            let action = "get an address";
            agent
                .run_script(WAIT_FOR_NETWORK, action, READY_TIMEOUT)
                .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Shell for GuestAgentHost {
    /// As root: there is no other user to run it.
    async fn execute(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<CommandOutput, ExecutorError> {
        let start = Instant::now();
        if input.len() > INPUT_LIMIT_BYTES {
            return Err(InputTooLarge {
                command: label(command),
                bytes: input.len(),
            }
            .into());
        }
        // The guest ends by itself what is given up on here.
        let seconds = COMMAND_TIMEOUT.as_secs().saturating_add(2).to_string();
        let words = ["-k", "10", &seconds].into_iter();
        let words: Vec<&str> = words
            .chain(command.argv().iter().map(String::as_str))
            .collect();
        let agent = self.agent();
        let output = agent.run("timeout", &words, input, COMMAND_TIMEOUT).await?;
        debug!(command = %label(command), status = output.status, took = ?start.elapsed(), "ran");
        Ok(output)
    }

    fn is_lost(&self, _: &ExecutorError) -> bool {
        false
    }
}
