//! A new program proves itself: it is run beside the launcher until it has listed, looked and reported.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

use crate::watchdog::{REPORTED, REPORTED_BLIND, ServiceManager};

/// How long a program that is asked to end may take.
const END: Duration = Duration::from_secs(10);

/// How a trial ended. The program does not run any more.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A report of it was stored, after it had done its work once.
    Proven,
    /// It cannot be started, or no such report was stored within the bound.
    Failed(String),
    /// It ended by itself before.
    Ended,
    /// The launcher was asked to end.
    Stopped,
}

/// Runs `program`, and has it prove itself `within` that time, also without Podman where it `may_be_blind`. `socket` is where
/// it speaks to the launcher as to a service manager; `manager` hears meanwhile that the launcher goes on.
///
/// # Errors
///
/// The kernel does not do its part; the program does not run.
pub async fn run(
    mut program: Command,
    socket: &Path,
    within: Duration,
    may_be_blind: bool,
    manager: &ServiceManager,
) -> io::Result<Verdict> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let heard = UnixDatagram::bind(socket)?;
    let mut stopped = signal(SignalKind::terminate())?;
    let until = Instant::now() + within;
    program
        .env("NOTIFY_SOCKET", socket)
        .env_remove("WATCHDOG_PID");
    let child = match program.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Verdict::Failed(format!("it cannot be started: {error}"))),
    };
    let mut running = Running::of(child)?;
    let watchdog = manager.watchdog();
    let mut buffer = [0; 256];
    let mut is_blind = false;
    loop {
        tokio::select! {
            biased;
            word = heard.recv(&mut buffer) => {
                let word = &buffer[..word?];
                is_blind |= word == REPORTED_BLIND.as_bytes();
                if word == REPORTED.as_bytes() || (is_blind && may_be_blind) {
                    running.end().await?;
                    return Ok(Verdict::Proven);
                }
            }
            ended = running.ended() => {
                ended?;
                let status = running.child.wait()?;
                tracing::warn!(%status, "the new agent ended before it was proven");
                return Ok(Verdict::Ended);
            }
            _ = stopped.recv() => {
                running.end().await?;
                return Ok(Verdict::Stopped);
            }
            () = sleep_until(until) => {
                running.end().await?;
                let seconds = within.as_secs();
                let why = match is_blind {
                    true => format!("it did not see Podman within {seconds} s, which the one before did"),
                    false => format!("no report of its work was stored within {seconds} s"),
                };
                return Ok(Verdict::Failed(why));
            }
            () = watchdog.due() => watchdog.goes_on(),
        }
    }
}

/// A process and the descriptor that tells its end. It is killed when this is dropped.
struct Running {
    child: Child,
    end: AsyncFd<OwnedFd>,
}

impl Running {
    fn of(mut child: Child) -> io::Result<Self> {
        let watched = pid(&child).and_then(|pid| {
            let end = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe for types whose descriptor may change; an OwnedFd's never does"
            )]
            AsyncFd::new(end)
        });
        match watched {
            Ok(end) => Ok(Self { child, end }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    async fn ended(&self) -> io::Result<()> {
        self.end.readable().await.map(drop)
    }

    /// Asks it to end, and makes it end where it does not.
    async fn end(&mut self) -> io::Result<()> {
        kill_process(pid(&self.child)?, Signal::TERM)?;
        if timeout(END, self.ended()).await.is_err() {
            self.child.kill()?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, but for a failure of the kernel's above.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
