//! How commands get to a host, and what is built from that alone.

use async_trait::async_trait;

use super::error::LinuxError;
use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand};

/// How much of a command's standard error is kept in an error, in bytes.
pub(crate) const STDERR_TAIL_BYTES: usize = 2048;

/// How much of a command is shown in errors and logs, in characters.
const LABEL_CHARS: usize = 120;

/// A shell script that is the same for every host; its data are positional parameters.
pub(super) struct Script {
    /// What it does, for errors and logs.
    pub(super) name: &'static str,
    /// POSIX shell; `$1` is the first parameter.
    pub(super) text: &'static str,
}

impl Script {
    /// The command that runs this script with `parameters`.
    pub(super) fn command(&self, parameters: &[&str]) -> HostCommand {
        HostCommand::new("sh")
            .args(["-c", self.text, self.name])
            .args(parameters.iter().copied())
    }
}

/// What a command is called in errors and logs: its beginning, on one line; a script by its name.
pub(crate) fn label(command: &HostCommand) -> String {
    let words = match command.argv() {
        [shell, option, _, name, parameters @ ..] if shell == "sh" && option == "-c" => {
            [std::slice::from_ref(name), parameters].concat()
        }
        argv => argv.to_vec(),
    };
    let line = words.join(" ").replace(char::is_control, " ");
    match line.char_indices().nth(LABEL_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The last `limit` bytes of a text, from the beginning of a character on, without the white space
/// around it.
pub(crate) fn tail(text: &str, limit: usize) -> &str {
    let text = text.trim();
    let start = (text.len().saturating_sub(limit)..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    &text[start..]
}

/// A way to have commands run on a Linux host. What has one and is a
/// [`Topology`](crate::domain::topology::Topology) is a
/// [`LinuxHost`](crate::domain::topology::linux_host::LinuxHost).
#[async_trait]
pub trait Shell: Send + Sync {
    /// Runs a command, whatever its exit status; `input` becomes its standard input.
    ///
    /// # Errors
    /// When the host cannot be reached or the command does not end within the connection's bound.
    async fn execute(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<CommandOutput, ExecutorError>;

    /// Whether an error of [`execute`](Self::execute) says that the connection broke, so that another attempt may
    /// succeed. The command may have run.
    fn is_lost(&self, error: &ExecutorError) -> bool;
}

impl dyn Shell + '_ {
    /// Runs a command that has to succeed, and returns its standard output.
    pub(super) async fn expect(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<String, ExecutorError> {
        let output = self.execute(command, input).await?;
        match output.status {
            0 => Ok(output.stdout),
            status => Err(LinuxError::CommandFailed {
                command: label(command),
                status,
                stderr: tail(&output.stderr, STDERR_TAIL_BYTES).to_owned(),
            }
            .into()),
        }
    }

    /// Runs a script as root that has to succeed, and returns its standard output.
    pub(super) async fn expect_script(
        &self,
        script: &Script,
        parameters: &[&str],
    ) -> Result<String, ExecutorError> {
        self.expect(&script.command(parameters).as_root(), &[])
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::{Script, label, tail};
    use crate::domain::topology::linux_host::HostCommand;

    #[test]
    fn labels_are_one_short_line() {
        let script = Script {
            name: "upload",
            text: "set -eu\ncat",
        };
        let long = "x".repeat(500);
        let table = [
            (script.command(&["/etc/x"]), "upload /etc/x".to_owned()),
            (HostCommand::new("a").arg("b\nc"), "a b c".to_owned()),
            (
                HostCommand::new(long.as_str()),
                format!("{}…", "x".repeat(120)),
            ),
        ];
        for (command, expected) in table {
            assert_eq!(label(&command), expected);
        }
    }

    #[test]
    fn tails_begin_at_a_character() {
        let table = [
            ("", 4, ""),
            ("  short \n", 10, "short"),
            ("0123456789", 4, "6789"),
            ("aaé", 1, ""),
            ("aaé", 2, "é"),
            ("aaé", 3, "aé"),
        ];
        for (text, limit, expected) in table {
            assert_eq!(tail(text, limit), expected, "{text:?} {limit}");
        }
    }
}
