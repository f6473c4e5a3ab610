//! The script that gives a restored guest its own identity, before its network is up. Pure.
//!
//! In this order: entropy, so that nothing made from here on is equal in two forks; clock; names; SSH host key;
//! Ethernet addresses; what programs below `/etc/harmony/identity.d` make of their own; then the services that keep any of it in memory are started anew.

use std::fmt;

use data_encoding::HEXLOWER;
use harmony_base::words::{NulInWord, ShellWord};
use uuid::Uuid;

use crate::modules::kvm::types::MacAddress;
use crate::modules::ssh::HostKey;

/// The bytes of fresh randomness that a fork gets: twice what the kernel's generator holds.
pub(super) const ENTROPY_BYTES: usize = 64;

/// Who a fork is, from inside.
pub(super) struct GuestIdentity {
    /// The host name.
    pub(super) hostname: String,
    /// systemd's machine id.
    pub(super) machine_id: Uuid,
    /// The SSH host key.
    pub(super) host_key: HostKey,
    /// Each card's address in the checkpoint, and the fork's.
    pub(super) macs: Vec<(MacAddress, MacAddress)>,
    /// Fresh randomness of the host.
    pub(super) entropy: [u8; ENTROPY_BYTES],
    /// Seconds since 1970 in UTC.
    pub(super) now: u64,
}

impl fmt::Debug for GuestIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestIdentity")
            .field("hostname", &self.hostname)
            .field("machine_id", &self.machine_id)
            .field("macs", &self.macs)
            .finish_non_exhaustive()
    }
}

/// What does not depend on who the fork is. Its variables are set before it.
const STEPS: &str = include_str!("identity.sh");

impl GuestIdentity {
    /// The script, for a POSIX shell as root. It fails at the first step that does.
    pub(super) fn script(&self) -> Result<String, NulInWord> {
        let Self {
            hostname,
            machine_id,
            host_key,
            macs,
            entropy,
            now,
        } = self;
        let macs: Vec<String> = macs
            .iter()
            .map(|(old, new)| format!("{old}={new}"))
            .collect();
        let variables = [
            ("hostname", hostname.clone()),
            ("machine_id", machine_id.simple().to_string()),
            ("host_key", host_key.private_openssh().to_owned()),
            ("host_key_public", host_key.public_line()),
            ("macs", macs.join(" ")),
            ("entropy", HEXLOWER.encode(entropy)),
            ("now", now.to_string()),
        ];
        let mut script = String::from("set -eu\n");
        for (name, value) in variables {
            script.push_str(&format!("{name}={}\n", ShellWord::new(&value)?));
        }
        script.push_str(STEPS);
        Ok(script)
    }
}

#[cfg(test)]
mod tests;
