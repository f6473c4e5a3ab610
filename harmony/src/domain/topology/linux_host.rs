//! The capability to configure a Linux host.

use std::fmt;

use async_trait::async_trait;

use super::Topology;
use crate::domain::change::Change;
use crate::domain::error::ExecutorError;

/// A program and its arguments. Arguments are data: an implementation quotes them, callers never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// The program and its arguments; never empty.
    argv: Vec<String>,
    /// Whether it runs as root.
    as_root: bool,
}

impl HostCommand {
    /// `program` without arguments, as the login user.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            argv: vec![program.into()],
            as_root: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Runs it as root.
    #[must_use]
    pub fn as_root(mut self) -> Self {
        self.as_root = true;
        self
    }

    /// The program and its arguments.
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Whether it runs as root.
    pub fn is_root(&self) -> bool {
        self.as_root
    }
}

impl fmt::Display for HostCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv.join(" "))
    }
}

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// The exit status; 128 plus the signal's number when it was killed by one.
    pub status: u32,
    /// Standard output, with invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, with invalid UTF-8 replaced.
    pub stderr: String,
}

/// A file that should exist.
#[derive(Clone, PartialEq, Eq)]
pub struct HostFile {
    /// The absolute path.
    pub path: String,
    /// The whole content.
    pub content: Vec<u8>,
    /// `user:group`.
    pub owner: String,
    /// Permission bits, for example `0o644`.
    pub mode: u32,
}

impl fmt::Debug for HostFile {
    /// Without the content, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFile")
            .field("path", &self.path)
            .field("bytes", &self.content.len())
            .field("owner", &self.owner)
            .field("mode", &format_args!("{:#o}", self.mode))
            .finish()
    }
}

/// A system user that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostUser {
    /// The login name.
    pub name: String,
    /// The home directory.
    pub home: String,
    /// Whether it has subordinate ids and its systemd user manager runs without a login, as rootless
    /// Podman needs.
    pub lingering: bool,
}

/// A systemd unit of the system manager that should be enabled and running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostUnit {
    /// The unit's name, with its suffix.
    pub name: String,
    /// Restart it although it runs, because something that it reads has changed.
    pub restart: bool,
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinuxFacts {
    /// `uname -m`.
    pub machine: String,
    /// The boot's id: another one after each boot, and in each guest that was restored from a checkpoint.
    pub boot_id: String,
    /// The default gateway's IPv4 address, when there is one.
    pub default_gateway: Option<std::net::Ipv4Addr>,
}

/// A Linux host that can be configured. Everything named `ensure` is idempotent.
#[async_trait]
pub trait LinuxHost: Topology {
    /// Runs a command and returns what it left, whatever its exit status. `input` becomes its
    /// standard input.
    ///
    /// # Errors
    /// When the host cannot be reached or the command does not end within the connection's bound.
    async fn run(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<CommandOutput, ExecutorError>;

    /// What the host says of itself.
    async fn facts(&self) -> Result<LinuxFacts, ExecutorError>;

    /// Waits until the first boot's set-up (cloud-init) has ended and what it wrote is on the disk: from then on a
    /// power cut does no harm.
    ///
    /// # Errors
    /// When it ended with an error, with what it says of it.
    async fn wait_first_boot(&self) -> Result<(), ExecutorError>;

    /// Installs the packages that are missing.
    async fn ensure_packages(&self, names: &[&str]) -> Result<Change, ExecutorError>;

    /// Makes files have these contents, owners and modes; each compared by content hash and replaced atomically, in
    /// their order. Returns what was done to each.
    async fn ensure_files(&self, files: &[HostFile]) -> Result<Vec<Change>, ExecutorError>;

    /// Makes a system user exist.
    async fn ensure_user(&self, user: &HostUser) -> Result<Change, ExecutorError>;

    /// Makes a systemd unit enabled and running, after reloading unit files that changed.
    async fn ensure_unit(&self, unit: &HostUnit) -> Result<Change, ExecutorError>;
}
