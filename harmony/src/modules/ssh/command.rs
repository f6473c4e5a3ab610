//! One command on a session: quoting, input, bounded output.

use std::time::Duration;

use harmony_base::words::ShellWord;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tracing::debug;

use crate::domain::topology::linux_host::{CommandOutput, HostCommand};

/// What is kept of a command's two output streams together.
pub(super) const OUTPUT_LIMIT_BYTES: usize = 16 << 20;

/// The line that makes a POSIX shell run exactly this argument vector for at most `bound`, and a
/// second: this side gives up first. The host ends it then by itself, with SIGTERM and 10 s later with
/// SIGKILL, also when it has lost this side. `with_sudo` puts sudo, which never asks, in front.
///
/// # Errors
/// The place of an argument with a NUL byte in it, which no shell can be told.
pub(super) fn command_line(
    command: &HostCommand,
    with_sudo: bool,
    bound: Duration,
) -> Result<String, usize> {
    let sudo: &[&str] = if with_sudo {
        &["sudo", "-n", "--"]
    } else {
        &[]
    };
    let seconds = bound.as_secs().saturating_add(2).to_string();
    let argv = command.argv();
    if let Some(index) = argv.iter().position(|word| word.contains('\0')) {
        return Err(index);
    }
    let words = sudo.iter().copied();
    let words = words.chain(["timeout", "-k", "10", &seconds]);
    ShellWord::line(words.chain(argv.iter().map(String::as_str))).map_err(|_| 0)
}

/// Why a command left no exit status.
#[derive(Debug)]
pub(super) enum Incomplete {
    /// The channel or the session ended first.
    Lost(Option<russh::Error>),
    /// It wrote more than [`OUTPUT_LIMIT_BYTES`].
    OutputTooLarge,
}

/// The two halves of a channel on which one command runs.
pub(super) struct Execution {
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
}

impl Execution {
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        let (read, write) = channel.split();
        Self { read, write }
    }

    /// Starts `line`, feeds it `input` and collects what it leaves.
    pub(super) async fn complete(
        &mut self,
        line: String,
        input: &[u8],
    ) -> Result<CommandOutput, Incomplete> {
        let Self { read, write } = self;
        let lost = |error| Incomplete::Lost(Some(error));
        write.exec(true, line).await.map_err(lost)?;
        let feed = async {
            write.data_bytes(input.to_vec()).await?;
            write.eof().await
        };
        tokio::pin!(feed);
        let mut fed = false;
        let mut collected = Collected::default();
        loop {
            // A command may end without having read all of its input: then the rest is not sent.
            tokio::select! {
                result = &mut feed, if !fed => {
                    fed = true;
                    if let Err(error) = result {
                        debug!(%error, "the command's input was not taken");
                    }
                }
                message = read.wait() => match message {
                    Some(ChannelMsg::Failure) => return Err(lost(russh::Error::RequestDenied)),
                    Some(ChannelMsg::Close) | None => break,
                    Some(message) => collected.take(message)?,
                }
            }
        }
        collected.finish()
    }

    /// Gives the channel up; the host ends the command.
    pub(super) async fn abandon(&self) {
        if let Err(error) = self.write.close().await {
            debug!(%error, "the session was already gone");
        }
    }
}

/// What has come from a command so far.
#[derive(Default)]
struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<u32>,
}

impl Collected {
    fn take(&mut self, message: ChannelMsg) -> Result<(), Incomplete> {
        match message {
            ChannelMsg::Data { data } => self.stdout.extend_from_slice(&data),
            // 1 is SSH_EXTENDED_DATA_STDERR; RFC 4254 defines no other.
            ChannelMsg::ExtendedData { data, ext: 1 } => self.stderr.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                self.status = Some(128 + signal_number(&signal_name));
            }
            _ => {}
        }
        if self.stdout.len() + self.stderr.len() > OUTPUT_LIMIT_BYTES {
            return Err(Incomplete::OutputTooLarge);
        }
        Ok(())
    }

    fn finish(self) -> Result<CommandOutput, Incomplete> {
        Ok(CommandOutput {
            status: self.status.ok_or(Incomplete::Lost(None))?,
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
        })
    }
}

/// Linux' number of a signal; 0 for one that SSH has no name for.
fn signal_number(signal: &Sig) -> u32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) if name == "USR2" => 12,
        Sig::Custom(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::command_line;
    use crate::domain::topology::linux_host::HostCommand;

    #[test]
    fn every_argument_reaches_a_shell_as_one_word() {
        let second = Duration::from_millis(1500);
        let table: [&[&str]; 6] = [
            &["uname", "-m"],
            &["printf", "%s", "a b"],
            &["echo", "", "~", "#", "-n"],
            &["echo", "$(reboot)", "`x`", "a;b", "&"],
            &["echo", "it's", "\"", "\\"],
            &["echo", "a\nb", "--", "*"],
        ];
        for argv in table {
            let command = HostCommand::new(argv[0]).args(argv[1..].iter().copied());
            for (with_sudo, prefix) in [
                (false, "timeout -k 10 3"),
                (true, "sudo -n -- timeout -k 10 3"),
            ] {
                let line = command_line(&command, with_sudo, second).expect("no NUL");
                let words = shlex::split(&line).expect("a shell line");
                let expected = prefix.split(' ').chain(argv.iter().copied());
                assert_eq!(words, expected.collect::<Vec<_>>(), "{line}");
            }
        }
        let quoted = HostCommand::new("rm").args(["$(x)", "a b"]);
        assert_eq!(
            command_line(&quoted, false, second).as_deref(),
            Ok("timeout -k 10 3 rm '$(x)' 'a b'")
        );
        let nul = HostCommand::new("echo").args(["a", "b\0"]);
        assert_eq!(command_line(&nul, true, second), Err(2));
    }
}
