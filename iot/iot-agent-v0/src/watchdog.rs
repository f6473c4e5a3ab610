//! What the service manager is told (sd_notify(3)): that the agent is up, and again and again that it goes on.
//!
//! The loop that looks after the containers says so itself ([`Watchdog`]): where it hangs nobody says anything any more,
//! and the service manager starts the agent anew. What it waits for, such as a slow Podman, does not stop it.

use std::cell::Cell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::Instant;

use crate::desired::DesiredState;
use crate::update::Progress;

/// The variable with the socket's address.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The variable with the longest silence, in microseconds.
const SILENCE: &str = "WATCHDOG_USEC";
/// The variable with the process that has to speak.
const WHO: &str = "WATCHDOG_PID";

/// How often a word is said within the longest silence: two may be late.
const WORDS: u32 = 3;

/// The agent is up.
pub const READY: &str = "READY=1";
/// The agent goes on.
pub const GOES_ON: &str = "WATCHDOG=1";
/// JetStream has stored a report of the agent, made after the desired state was listed and all containers were looked at.
/// systemd passes over what begins with `X_`; an update is proven by it.
pub const REPORTED: &str = "X_HARMONY_REPORTED=1";
/// The same of a report that says that Podman does not answer.
pub const REPORTED_BLIND: &str = "X_HARMONY_REPORTED_BLIND=1";

/// The service manager that started this process, if one did that wants to be told something.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it is told that the agent goes on.
    every: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says. A socket that is not there is told and passed over: the agent works without.
    pub fn of_this_process() -> Self {
        let silence = expected_of(
            std::process::id(),
            env::var_os(WHO).as_deref(),
            env::var_os(SILENCE).as_deref(),
        );
        Self::at(env::var_os(SOCKET), silence)
    }

    /// The one that listens at `address`, and wants a word within each `silence`.
    pub fn at(address: Option<OsString>, silence: Option<Duration>) -> Self {
        let Some(address) = address else {
            return Self::default();
        };
        match open(&address) {
            Ok(socket) => Self {
                socket: Some(socket),
                every: silence.map(|silence| silence / WORDS),
            },
            Err(error) => {
                tracing::warn!(%error, ?address, "the service manager cannot be told anything");
                Self::default()
            }
        }
    }

    /// How often it is told that the agent goes on, if it wants to be.
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Says something; never waits. False where it is not heard: its socket may be full for a moment.
    pub fn tell(&self, what: &str) -> bool {
        let Some((socket, address)) = &self.socket else {
            return true;
        };
        let told = socket.send_to_addr(what.as_bytes(), address);
        told.inspect_err(|error| tracing::debug!(%error, what, "the service manager was not told"))
            .is_ok()
    }

    /// Has a loop say that it goes on.
    pub fn watchdog(&self) -> Watchdog<'_> {
        let next = self.every.map(|every| (every, Cell::new(Instant::now())));
        Watchdog {
            manager: self,
            next,
            progress: None,
        }
    }
}

fn open(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    Ok((socket, address))
}

/// The longest silence that process `own` may keep, if any.
fn expected_of(own: u32, who: Option<&OsStr>, silence: Option<&OsStr>) -> Option<Duration> {
    if let Some(who) = who
        && who.to_str()?.parse() != Ok(own)
    {
        return None;
    }
    let micros = silence?.to_str()?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// A loop's word that it goes on.
#[derive(Debug)]
pub struct Watchdog<'a> {
    manager: &'a ServiceManager,
    /// How often, and when next.
    next: Option<(Duration, Cell<Instant>)>,
    /// Where the loop's looks are noted.
    progress: Option<&'a Progress>,
}

impl<'a> Watchdog<'a> {
    /// The same, and the loop's looks are noted there.
    pub fn noting(self, progress: &'a Progress) -> Self {
        let progress = Some(progress);
        Self { progress, ..self }
    }

    /// The loop has looked at the containers, which are to become `desired`, and goes on; whether it saw them.
    pub fn looked(&self, desired: &DesiredState, sees: bool) {
        if let Some(progress) = self.progress {
            progress.looked(desired, sees);
        }
    }

    /// Waits until the loop has to say that it goes on; for ever where nobody wants to know. Can be dropped at any time.
    pub async fn due(&self) {
        match &self.next {
            Some((_, next)) => tokio::time::sleep_until(next.get()).await,
            None => std::future::pending().await,
        }
    }

    /// The loop goes on.
    pub fn goes_on(&self) {
        if let Some((every, next)) = &self.next {
            next.set(Instant::now() + *every);
            self.manager.tell(GOES_ON);
        }
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
