//! What is asked of a Linux host, whatever carries the commands there: SSH, or a guest's agent.
//!
//! | file | owns |
//! |---|---|
//! | `shell` | [`Shell`]: a way to have commands run; scripts, and how commands are called in logs |
//! | `host` | the [`LinuxHost`](crate::domain::topology::linux_host::LinuxHost) capability of everything with a shell |
//! | `facts`, `first_boot`, `packages`, `files`, `users`, `units` | one kind of desired state each |
//!
//! What a host is asked to do is an argument vector, or a constant shell script with its data as
//! positional parameters: no script is ever put together from data.

mod error;
mod facts;
mod files;
mod first_boot;
mod host;
mod packages;
mod shell;
mod subordinate_ids;
mod units;
mod users;

pub use error::LinuxError;
pub use first_boot::{FIRST_BOOT_NOTE, GROW_ROOT_UNIT};
pub use shell::Shell;

pub(crate) use shell::label;
#[cfg(feature = "kvm")]
pub(crate) use shell::{STDERR_TAIL_BYTES, tail};
