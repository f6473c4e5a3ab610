//! A guest, seen from inside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harmony::domain::topology::linux_host::{CommandOutput, HostCommand, LinuxHost};
use harmony::domain::topology::virtualization::GuestAddress;
use harmony::modules::ssh::{SshLinuxHost, SshTarget};
use serde::Deserialize;

use crate::Failure;

/// The user that cloud-init makes in the guest.
pub const LOGIN_USER: &str = "harmony";

/// How long the guest may take to let us in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(120);

/// How to log in.
#[derive(Debug, Clone, Deserialize)]
pub struct Login {
    /// The login user.
    pub user: String,
    /// Where SSH answers.
    pub address: std::net::IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// The private key's file.
    pub private_key: PathBuf,
    /// The pinned host key, in OpenSSH's one-line form.
    pub host_key: String,
}

impl Login {
    /// As [`LOGIN_USER`], where the guest was found to answer.
    ///
    /// # Errors
    /// When its host key is not known.
    pub fn at(address: GuestAddress, private_key: &Path) -> Result<Self, Failure> {
        Ok(Self {
            user: LOGIN_USER.to_owned(),
            address: address.ip,
            port: address.ssh_port,
            private_key: private_key.to_owned(),
            host_key: address.host_key.ok_or("no pinned host key")?,
        })
    }
}

/// A guest that we are logged in to.
#[derive(Debug)]
pub struct Guest {
    ssh: SshLinuxHost,
}

impl Guest {
    /// Logs in, within 120 s.
    ///
    /// # Errors
    /// When the guest does not let us in.
    pub async fn log_in(login: &Login) -> Result<Self, Failure> {
        let ssh = SshLinuxHost::new(SshTarget {
            address: login.address,
            port: login.port,
            user: login.user.clone(),
            private_key: login.private_key.clone(),
            host_key: login.host_key.parse()?,
            connect_timeout: Duration::from_secs(60),
            command_timeout: Duration::from_secs(120),
        })?;
        ssh.wait_reachable(LOGIN_TIMEOUT).await?;
        Ok(Self { ssh })
    }

    /// The guest as a host that can be configured.
    pub fn host(&self) -> &SshLinuxHost {
        &self.ssh
    }

    /// What a command leaves, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be run to its end.
    pub async fn run(&self, command: &HostCommand) -> Result<CommandOutput, Failure> {
        Ok(self.ssh.run(command, &[]).await?)
    }

    /// The output of a command that must succeed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn output(&self, command: HostCommand) -> Result<String, Failure> {
        let output = self.run(&command).await?;
        if output.status == 0 {
            Ok(output.stdout)
        } else {
            Err(format!(
                "'{command}' failed in the guest ({}): {}",
                output.status, output.stderr
            )
            .into())
        }
    }
}
