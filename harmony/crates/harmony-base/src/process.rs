//! Programs of the host, run as child processes that do not outlive the wait for them.
//!
//! Each has a closed standard input, its messages in English, and a process group of its own, which is ended with
//! everything in it when nobody waits any more. What it says is kept within bounds.

mod search;

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub use search::{find_program, is_executable, program_directories, search_path};

/// The last lines of standard error that are kept.
const TAIL_LINES: usize = 15;
/// The longest line kept of them, in bytes.
const TAIL_LINE_BYTES: u64 = 400;
/// The most that a program may write to its standard output, in bytes.
const OUTPUT_BYTES: u64 = 16 << 20;

/// A program that did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, or not be listened to.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It ended with another status than 0.
    #[error("{program} failed with {status}: {}", said.or("no message"))]
    Failed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it said on its standard error.
        said: Said,
    },
    /// It did not end.
    #[error("{program} did not end within {bound:?}: {}", said.or("no message"))]
    TimedOut {
        /// The program.
        program: &'static str,
        /// The longest that it may take.
        bound: Duration,
        /// What it said on its standard error.
        said: Said,
    },
    /// It wrote without end.
    #[error("{program} wrote more than {bound_bytes} bytes (expected no more)")]
    TooMuch {
        /// The program.
        program: &'static str,
        /// The bound.
        bound_bytes: u64,
    },
}

/// What a program has said on its standard error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The first line that is not empty.
    pub first: String,
    /// The last lines.
    pub tail: String,
}

impl Said {
    /// The last lines, or `nothing` where there are none.
    pub fn or<'a>(&'a self, nothing: &'a str) -> &'a str {
        match self.tail.as_str() {
            "" => nothing,
            tail => tail,
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it said on its standard error.
    pub said: Said,
}

/// A program with its arguments.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    command: Command,
    bound: Option<Duration>,
    end: Signal,
}

impl Program {
    /// The program of that name on the [`search_path`].
    pub fn new(name: &'static str) -> Self {
        Self::at(name, Path::new(name))
    }

    /// The program at `path`, called `name` in errors.
    pub fn at(name: &'static str, path: &Path) -> Self {
        let mut command = Command::new(path);
        command
            .env("PATH", search_path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group: ending the group ends what the program started.
            .process_group(0);
        Self {
            name,
            command,
            bound: None,
            end: Signal::KILL,
        }
    }

    /// Gives it an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.command.arg(arg.into());
        self
    }

    /// Gives it arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Has it, and what it starts, look for programs in `dirs` first: directories with `:` between them.
    #[must_use]
    pub fn first_on_path(self, dirs: &str) -> Self {
        let mut path = OsString::from(dirs);
        path.push(":");
        path.push(search_path());
        self.env("PATH", path)
    }

    /// Ends it when it takes longer than `bound`.
    #[must_use]
    pub fn within(mut self, bound: Duration) -> Self {
        self.bound = Some(bound);
        self
    }

    /// When nobody waits for it any more, it is asked to end and not killed: it has something to put in order first.
    #[must_use]
    pub fn ended_by_asking(mut self) -> Self {
        self.end = Signal::TERM;
        self
    }

    /// Runs it to its end, which has to be a success, and returns its standard output.
    ///
    /// # Errors
    /// [`ProcessError`], each of its kinds.
    pub async fn run(self) -> Result<String, ProcessError> {
        self.run_watched(&mut |_| {}).await
    }

    /// As [`run`](Self::run), with each line of standard error given to `watch` as it comes.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_watched(
        self,
        watch: &mut (dyn FnMut(&str) + Send),
    ) -> Result<String, ProcessError> {
        let program = self.name;
        let Ended {
            status,
            stdout,
            said,
        } = self.listened_to(watch).await?;
        if !status.success() {
            let status = describe(status);
            return Err(ProcessError::Failed {
                program,
                status,
                said,
            });
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Runs it to its end, whatever its status.
    ///
    /// # Errors
    /// Each [`ProcessError`] but [`ProcessError::Failed`].
    pub async fn ended(self) -> Result<Ended, ProcessError> {
        self.listened_to(&mut |_| {}).await
    }

    async fn listened_to(
        mut self,
        watch: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Ended, ProcessError> {
        let program = self.name;
        let failed = |source| ProcessError::Run { program, source };
        let mut running = Running {
            child: self.command.spawn().map_err(failed)?,
            end: self.end,
        };
        let (out, err) = (running.child.stdout.take(), running.child.stderr.take());
        let (mut stdout, mut said) = (Vec::new(), Listener::default());
        let end = async {
            let read = async { read_output(program, out, &mut stdout).await };
            let heard = async { said.hear(program, err, watch).await.map_err(failed) };
            tokio::try_join!(read, heard)?;
            running.child.wait().await.map_err(failed)
        };
        let bound = self.bound.unwrap_or(Duration::MAX);
        let ended = timeout(bound, end).await;
        let said = said.said();
        match ended {
            Ok(status) => Ok(Ended {
                status: status?,
                stdout,
                said,
            }),
            Err(_) => {
                running.end = Signal::KILL;
                running.signal();
                running.child.wait().await.map_err(failed)?;
                Err(ProcessError::TimedOut {
                    program,
                    bound,
                    said,
                })
            }
        }
    }
}

/// A child whose process group is ended when it is given up.
struct Running {
    child: Child,
    end: Signal,
}

impl Running {
    fn signal(&self) {
        // No id: it has ended and was waited for.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(pid, self.end)
        {
            tracing::warn!(%error, "cannot end a program");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal();
    }
}

async fn read_output(
    program: &'static str,
    stdout: Option<impl AsyncRead + Unpin>,
    output: &mut Vec<u8>,
) -> Result<(), ProcessError> {
    let Some(stdout) = stdout else {
        return Ok(());
    };
    let read = stdout.take(OUTPUT_BYTES + 1).read_to_end(output).await;
    let read = read.map_err(|source| ProcessError::Run { program, source })?;
    if read as u64 > OUTPUT_BYTES {
        return Err(ProcessError::TooMuch {
            program,
            bound_bytes: OUTPUT_BYTES,
        });
    }
    Ok(())
}

/// Keeps the first line and the last ones.
#[derive(Debug, Default)]
struct Listener {
    first: Option<String>,
    tail: std::collections::VecDeque<String>,
}

impl Listener {
    /// Logs the lines as they come.
    async fn hear(
        &mut self,
        program: &str,
        stderr: Option<impl AsyncRead + Unpin>,
        watch: &mut (dyn FnMut(&str) + Send),
    ) -> std::io::Result<()> {
        let Some(stderr) = stderr else {
            return Ok(());
        };
        let mut reader = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            let mut rest = (&mut reader).take(TAIL_LINE_BYTES);
            if rest.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                continue;
            }
            tracing::debug!(program, "{line}");
            watch(&line);
            self.first.get_or_insert_with(|| line.clone());
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
    }

    fn said(self) -> Said {
        Said {
            first: self.first.unwrap_or_default(),
            tail: Vec::from(self.tail).join("\n"),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests;
