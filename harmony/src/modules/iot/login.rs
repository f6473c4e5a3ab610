//! Logging in to a guest of harmony's.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
use crate::domain::topology::virtualization::{
    GuestAddress, VirtualMachineHost, VirtualMachineSpec,
};
use crate::modules::ssh::{SshKeyPair, SshLinuxHost, SshTarget};

/// How long one attempt to log in may take; an emulated guest needs seconds for the key exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one command in the guest may take: installing packages under emulation is the longest.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);

/// Who logs in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    user: String,
    private_key: PathBuf,
}

/// The machine is not one that harmony can log in to.
#[derive(Debug, thiserror::Error)]
#[error("the virtual machine '{name}' has no {what} of harmony's")]
pub struct NoLogin {
    /// The machine.
    pub name: String,
    /// What it lacks.
    pub what: &'static str,
}

impl HintedError for NoLogin {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn hint(&self) -> Option<String> {
        Some("give its spec a first boot, and make the machine anew".to_owned())
    }
}

impl Login {
    /// The user that the first boot of `spec` makes, with these keys.
    pub(crate) fn of(spec: &VirtualMachineSpec, keys: &SshKeyPair) -> Result<Self, NoLogin> {
        let first_boot = spec.first_boot.as_ref().ok_or_else(|| NoLogin {
            name: spec.name.clone(),
            what: "first boot",
        })?;
        Ok(Self {
            user: first_boot.user.clone(),
            private_key: keys.private_key_path.clone(),
        })
    }

    /// A session with a guest, within the time that it may take to boot.
    pub(crate) async fn open(
        &self,
        host: &dyn VirtualMachineHost,
        name: &str,
        address: &GuestAddress,
    ) -> Result<SshLinuxHost, ExecutorError> {
        let host_key = address.host_key.as_deref().ok_or_else(|| NoLogin {
            name: name.to_owned(),
            what: "pinned SSH host key",
        })?;
        let guest = SshLinuxHost::new(SshTarget {
            address: address.ip,
            port: address.ssh_port,
            user: self.user.clone(),
            private_key: self.private_key.clone(),
            host_key: host_key.parse()?,
            connect_timeout: CONNECT_TIMEOUT,
            command_timeout: COMMAND_TIMEOUT,
        })?;
        guest.wait_reachable(host.boot_timeout(name).await?).await?;
        Ok(guest)
    }
}
