//! The device's key, which is made on it.

use iot_contracts::{NatsCredentials, UserKey};

use super::files::root_file;
use super::{AGENT_BINARY, AGENT_USER, DeviceError, run};
use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::{HostCommand, HostFile, LinuxHost};

/// Where the private half of the device's key is, in the directory of the agent's state.
pub const AGENT_KEY: &str = "/var/lib/iot-agent-v0/nats.nk";

/// What a guest that goes on from a checkpoint runs before its network is up, so that the key is this guest's own.
const IDENTITY_FILE: &str = "/etc/harmony/identity.d/iot-agent";
pub(super) const IDENTITY_CONTENT: &str = "#!/bin/sh\n\
    # Installed by harmony: a copy of this machine gets a key of its own.\n\
    rm -f /var/lib/iot-agent-v0/nats.nk\n\
    exec runuser -u iot-agent-v0 -- /usr/local/bin/iot-agent-v0 --public-key /var/lib/iot-agent-v0/nats.nk\n";

pub(super) fn identity_file() -> HostFile {
    root_file(IDENTITY_FILE, IDENTITY_CONTENT.as_bytes().to_vec(), 0o755)
}

/// Where the token for that key is, on a device that needs one.
pub const AGENT_TOKEN: &str = "/var/lib/iot-agent-v0/nats.jwt";

/// What a device with a key of its own is configured with, and with a token for it, which [`put_token`] brings.
pub fn own_key(with_token: bool) -> NatsCredentials {
    NatsCredentials::Nkey {
        seed_file: AGENT_KEY.into(),
        jwt_file: with_token.then(|| AGENT_TOKEN.into()),
    }
}

/// Brings a device the token for its key; the agent reads it for each connection.
///
/// # Errors
/// When it cannot be written.
pub async fn put_token<T: LinuxHost>(host: &T, token: &str) -> Result<(), ExecutorError> {
    let file = HostFile {
        path: AGENT_TOKEN.to_owned(),
        content: format!("{token}\n").into_bytes(),
        owner: format!("{AGENT_USER}:{AGENT_USER}"),
        mode: 0o600,
    };
    host.ensure_files(&[file]).await?;
    Ok(())
}

/// The public half of the device's key, which is made when there is none. The agent has been started.
///
/// # Errors
/// When the agent's program cannot make it.
pub async fn public_key<T: LinuxHost>(host: &T) -> Result<UserKey, ExecutorError> {
    let command = HostCommand::new("runuser")
        .args(["-u", AGENT_USER, "--", AGENT_BINARY])
        .args(["--public-key", AGENT_KEY])
        .as_root();
    let printed = run(host, "ask for the device's key", command).await?;
    let key = printed.trim().parse::<UserKey>();
    Ok(key.map_err(DeviceError::Nats)?)
}

#[cfg(test)]
mod tests {
    use super::{AGENT_BINARY, AGENT_KEY, AGENT_USER, IDENTITY_CONTENT};

    #[test]
    fn a_copy_makes_the_key_that_the_agent_uses() {
        let make = format!("runuser -u {AGENT_USER} -- {AGENT_BINARY} --public-key {AGENT_KEY}\n");
        assert!(IDENTITY_CONTENT.ends_with(&make));
        assert!(IDENTITY_CONTENT.contains(&format!("\nrm -f {AGENT_KEY}\n")));
    }
}
