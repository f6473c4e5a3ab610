//! Linux hosts over SSH.
//!
//! [`SshLinuxHost`] offers the [`LinuxHost`](crate::domain::topology::linux_host::LinuxHost)
//! capability over one SSH connection that is opened on demand and opened again when it was lost.
//! The server must present the pinned key of its [`SshTarget`], else nothing is sent to it, not even
//! the login name.
//!
//! | file | owns |
//! |---|---|
//! | `keys` | key pairs and host keys: made, stored, parsed, pinned |
//! | `connection` | the session: pinning, login, reopening, waiting for a guest that boots |
//! | `command` | one command on a session: quoting, input, bounded output, bounded time |
//! | `host` | the capability: a [shell](crate::modules::linux::Shell) on the host |

mod command;
mod connection;
mod error;
mod host;
mod keys;
mod server_key;

pub use connection::{SshLinuxHost, SshTarget};
pub use error::SshError;
pub use keys::{
    HostKey, KeyError, PinnedHostKey, SshKeyPair, ensure_key_pair, generate_host_key,
    known_hosts_line,
};

#[cfg(test)]
mod host_tests;
