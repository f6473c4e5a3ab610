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
//! | `host` | the capability, and what it asks of a host |
//! | `facts`, `first_boot`, `packages`, `files`, `users`, `units` | one kind of desired state each |
//!
//! What a host is asked to do is an argument vector, or a constant shell script with its data as
//! positional parameters: no script is ever put together from data.

mod command;
mod connection;
mod error;
mod facts;
mod files;
mod first_boot;
mod host;
mod keys;
mod packages;
mod server_key;
mod subordinate_ids;
mod units;
mod users;

pub use connection::{SshLinuxHost, SshTarget};
pub use error::SshError;
pub use keys::{
    HostKey, KeyError, PinnedHostKey, SshKeyPair, ensure_key_pair, generate_host_key,
    known_hosts_line,
};

#[cfg(test)]
mod host_tests;
