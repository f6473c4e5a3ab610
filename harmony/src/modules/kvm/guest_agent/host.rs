//! A guest as a Linux host, through its agent.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::debug;

use super::GuestAgent;
use crate::domain::error::ExecutorError;
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand};
use crate::modules::kvm::libvirt::Libvirt;
use crate::modules::kvm::topology::{KvmVirtualMachineHost, checked};
use crate::modules::linux::{Shell, label};

/// How long a guest that runs may take to have an agent, and a network.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);

/// Ends when the kernel has an IPv4 default route, or fails after 50 s.
const WAIT_FOR_ROUTE: &str = r#"
tries=250
until [ -n "$(ip -4 route show default)" ]; do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || { ip -br address >&2; exit 1; }
  sleep 0.2
done
"#;

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

    /// Waits until the agent answers, and a guest with a network card has a default route.
    async fn ensure_ready(&self) -> Result<(), ExecutorError> {
        let agent = self.agent();
        agent.wait(READY_TIMEOUT).await?;
        if self.connected {
            let action = "get a default route";
            agent
                .run_script(WAIT_FOR_ROUTE, action, READY_TIMEOUT)
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
