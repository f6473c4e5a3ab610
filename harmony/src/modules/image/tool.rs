//! Programs of the host, run as child processes that never outlive the build.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::error::ImageError;
use super::host_program::search_path;
use super::store::io_error;

pub use super::host_program::HostProgram;

/// The last lines of standard error that an error keeps.
const TAIL_LINES: usize = 15;
/// The longest line kept of them, in bytes.
const TAIL_LINE_BYTES: u64 = 400;

/// A program with its arguments.
#[derive(Debug)]
pub(crate) struct Tool {
    program: &'static str,
    command: Command,
}

impl Tool {
    pub(crate) fn new(program: &'static str) -> Self {
        let mut command = Command::new(program);
        command
            .env("PATH", search_path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group: ending the group ends what the program started.
            .process_group(0);
        Self { program, command }
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.command.arg(arg.into());
        self
    }

    pub(crate) fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Has it, and what it starts, look for programs in `dirs` first: directories with `:` between them.
    pub(crate) fn first_on_path(self, dirs: &str) -> Self {
        let mut path = OsString::from(dirs);
        path.push(":");
        path.push(search_path());
        self.env("PATH", path)
    }

    /// Runs it to its end and returns its standard output.
    pub(crate) async fn run(self) -> Result<String, ImageError> {
        self.run_watched(&mut |_| {}).await
    }

    /// As [`run`](Self::run), with each line of standard error given to `watch` as it comes.
    pub(crate) async fn run_watched(
        mut self,
        watch: &mut (dyn FnMut(&str) + Send),
    ) -> Result<String, ImageError> {
        let program = self.program;
        let failed = |source| io_error("run", Path::new(program), source);
        let mut child = Running(self.command.spawn().map_err(failed)?);
        let stdout = child.0.stdout.take();
        let stderr = child.0.stderr.take();
        let read_stdout = async {
            let mut text = Vec::new();
            match stdout {
                Some(mut stdout) => stdout.read_to_end(&mut text).await.map(|_| text),
                None => Ok(text),
            }
        };
        let (text, tail) = tokio::join!(read_stdout, read_tail(program, stderr, watch));
        let status = child.0.wait().await.map_err(failed)?;
        let tail = tail.map_err(failed)?;
        if !status.success() {
            return Err(ImageError::Tool {
                program,
                status: describe(status),
                stderr_tail: tail,
            });
        }
        Ok(String::from_utf8_lossy(&text.map_err(failed)?).into_owned())
    }
}

/// A child whose process group is ended when the build is given up.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // No id: it has ended and was waited for.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // mmdebstrap removes its own temporary directory when it is terminated.
            if let Err(error) = kill_process_group(pid, Signal::TERM) {
                tracing::warn!(%error, "cannot end a program of the image builder");
            }
        }
    }
}

/// Logs the lines as they come and keeps the last ones.
async fn read_tail(
    program: &str,
    stderr: Option<ChildStderr>,
    watch: &mut (dyn FnMut(&str) + Send),
) -> std::io::Result<String> {
    let Some(stderr) = stderr else {
        return Ok(String::new());
    };
    let mut reader = BufReader::new(stderr);
    let mut tail = std::collections::VecDeque::with_capacity(TAIL_LINES);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(TAIL_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await?;
        if read == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() {
            continue;
        }
        tracing::debug!(program, "{line}");
        watch(&line);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    Ok(Vec::from(tail).join("\n"))
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
mod tests {
    use super::{TAIL_LINES, Tool};
    use crate::modules::image::error::ImageError;

    #[tokio::test]
    async fn output_is_returned_and_a_failure_keeps_the_tail_of_standard_error() {
        let mut seen = Vec::new();
        let output = Tool::new("sh")
            .args(["-c", "echo out; echo err >&2; echo or >&2"])
            .run_watched(&mut |line| seen.push(line.to_owned()))
            .await;
        assert_eq!(output.expect("success"), "out\n");
        assert_eq!(seen, ["err", "or"]);
        let script = "for i in $(seq 40); do echo line $i >&2; done; exit 3";
        match Tool::new("sh").args(["-c", script]).run().await {
            Err(ImageError::Tool {
                program: "sh",
                status,
                stderr_tail,
            }) => {
                assert_eq!(status, "exit status 3");
                assert_eq!(stderr_tail.lines().count(), TAIL_LINES);
                assert_eq!(stderr_tail.lines().next(), Some("line 26"));
                assert_eq!(stderr_tail.lines().last(), Some("line 40"));
            }
            other => panic!("{other:?}"),
        }
        let killed = Tool::new("sh").args(["-c", "kill -9 $$"]).run().await;
        assert!(
            matches!(&killed, Err(ImageError::Tool { status, .. }) if status == "signal 9"),
            "{killed:?}"
        );
        let missing = Tool::new("no-such-program-of-harmony").run().await;
        assert!(
            matches!(&missing, Err(ImageError::Io { action: "run", .. })),
            "{missing:?}"
        );
    }

    #[tokio::test]
    async fn giving_up_ends_the_program_and_its_children() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fifo = dir.path().join("alive");
        let made = Tool::new("mkfifo").arg(&fifo).run().await;
        made.expect("a named pipe");
        // The grandchild holds the pipe open for writing as long as it lives.
        let run = Tool::new("sh")
            .args(["-c", "(sleep 15 >\"$1\") & wait", "sh"])
            .arg(&fifo)
            .run();
        let opened = tokio::task::spawn_blocking(move || std::fs::File::open(fifo));
        let pipe = tokio::select! {
            pipe = opened => pipe.expect("no panic").expect("opened by the grandchild"),
            ended = run => panic!("ended early: {ended:?}"),
        };
        // `run` was dropped: reading comes to the end when the last writer is gone.
        let end = tokio::task::spawn_blocking(move || std::io::read_to_string(pipe));
        let end = tokio::time::timeout(std::time::Duration::from_secs(10), end).await;
        assert_eq!(end.expect("ended").expect("no panic").expect("read"), "");
    }
}
