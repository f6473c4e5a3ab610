//! A login in a guest: commands, and files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::Result;
use super::problem::VmError;
use super::vm::Machine;
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand, HostFile, LinuxHost};
use crate::modules::linux::{LinuxError, STDERR_TAIL_BYTES, label, tail};
use crate::modules::ssh::SshLinuxHost;

/// How much of a file's mode is copied.
const PERMISSION_BITS: u32 = 0o777;

/// A login in the guest of a virtual machine, over SSH. The user may use sudo without a password.
#[derive(Debug)]
pub struct Login {
    machine: Arc<Machine>,
    session: SshLinuxHost,
}

impl Login {
    pub(super) fn new(machine: Arc<Machine>, session: SshLinuxHost) -> Self {
        Self { machine, session }
    }

    /// Runs a program with these arguments and returns what it left, whatever its exit code. Arguments are data: no shell
    /// reads them.
    ///
    /// # Errors
    /// When the guest cannot be reached, stops, or the program does not end within 30 minutes.
    pub async fn run(
        &self,
        program: impl Into<String>,
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Output> {
        let command = HostCommand::new(program).args(arguments);
        self.run_command(&command, &[]).await
    }

    /// Runs a command, as root where it [says so](HostCommand::as_root); `input` becomes its standard input.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_command(&self, command: &HostCommand, input: &[u8]) -> Result<Output> {
        let running = self.session.run(command, input);
        let output = self.machine.while_running("a command", running).await?;
        Ok(Output {
            command: label(command),
            output,
        })
    }

    /// Copies a file of this host to an absolute path in the guest, with its permissions. It becomes the login user's, is
    /// replaced as a whole, and is not sent when it is there already.
    ///
    /// # Errors
    /// A file that cannot be read; a path that is not absolute, or at which something else than a file is; a guest that
    /// cannot be reached or stops.
    pub async fn copy(&self, from: impl AsRef<Path>, to: impl Into<String>) -> Result<Change> {
        let from = from.as_ref();
        let metadata = tokio::fs::metadata(from).await;
        let metadata = metadata.map_err(VmError::io("read", from))?;
        let content = tokio::fs::read(from).await;
        let user = self.machine.user().unwrap_or("root");
        let file = HostFile {
            path: to.into(),
            content: content.map_err(VmError::io("read", from))?,
            owner: format!("{user}:{user}"),
            mode: metadata.permissions().mode() & PERMISSION_BITS,
        };
        let files = std::slice::from_ref(&file);
        let copying = self.session.ensure_files(files);
        let changes = self.machine.while_running("a copy", copying).await?;
        Ok(changes.first().copied().unwrap_or(Change::Unchanged))
    }

    /// The guest as a Linux host, for packages, files, users and units.
    pub fn linux(&self) -> &SshLinuxHost {
        &self.session
    }
}

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a command that failed says so by its exit code only"]
pub struct Output {
    command: String,
    output: CommandOutput,
}

impl Output {
    /// Standard output, with invalid UTF-8 replaced.
    pub fn stdout(&self) -> &str {
        &self.output.stdout
    }

    /// Standard error, with invalid UTF-8 replaced.
    pub fn stderr(&self) -> &str {
        &self.output.stderr
    }

    /// The exit code; 128 plus the signal's number when it was killed by one.
    pub fn exit_code(&self) -> u32 {
        self.output.status
    }

    /// Whether the exit code is 0.
    pub fn success(&self) -> bool {
        self.exit_code() == 0
    }

    /// Standard output of a command that had to succeed.
    ///
    /// # Errors
    /// [`LinuxError::CommandFailed`] with the end of its standard error, unless the exit code is 0.
    pub fn expect_success(self) -> Result<String> {
        if self.success() {
            return Ok(self.output.stdout);
        }
        Err(LinuxError::CommandFailed {
            command: self.command,
            status: self.output.status,
            stderr: tail(&self.output.stderr, STDERR_TAIL_BYTES).to_owned(),
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandOutput, LinuxError, Output};

    fn output(status: u32) -> Output {
        Output {
            command: "ls /x".to_owned(),
            output: CommandOutput {
                status,
                stdout: "out\n".to_owned(),
                stderr: "no such file\n".to_owned(),
            },
        }
    }

    #[test]
    fn only_exit_code_0_is_a_success() {
        let good = output(0).expect_success().expect("a success");
        assert_eq!(good, "out\n");
        for status in [1, 137] {
            let error = output(status).expect_success().expect_err("a failure");
            let Some(LinuxError::CommandFailed {
                command,
                status: is,
                stderr,
            }) = error.downcast_ref()
            else {
                panic!("{error:?}");
            };
            let found = (command.as_str(), *is, stderr.as_str());
            assert_eq!(found, ("ls /x", status, "no such file"));
        }
    }
}
