//! When a report is due.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::read;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's, which wakes the agent up once a heartbeat. The runtime's own timers sort themselves on
/// the way to their time and would wake it up three times.
#[derive(Debug)]
pub struct Heartbeats(AsyncFd<OwnedFd>);

impl Heartbeats {
    /// A heartbeat every `period`, the first one after it. Time that the device sleeps counts.
    ///
    /// # Errors
    ///
    /// The kernel gives no timer.
    pub fn every(period: Duration) -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let period = Timespec {
            tv_sec: i64::try_from(period.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: period.subsec_nanos().into(),
        };
        let times = Itimerspec {
            it_interval: period,
            it_value: period,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types whose descriptor may change; an OwnedFd's never does"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self(timer))
    }

    /// Waits for the next heartbeat; those that were missed are one. Can be dropped at any time.
    ///
    /// # Errors
    ///
    /// The kernel takes the timer away, which it does not do.
    pub async fn next(&self) -> std::io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            let taken = ready.try_io(|timer| Ok(read(timer, &mut expirations)?));
            if let Ok(taken) = taken {
                return taken.map(drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Heartbeats;

    #[tokio::test]
    async fn heartbeats_come_at_their_interval() {
        let period = Duration::from_millis(20);
        let heartbeats = Heartbeats::every(period).unwrap();
        let since = Instant::now();
        for _ in 0..3 {
            heartbeats.next().await.unwrap();
        }
        assert!(since.elapsed() >= period * 3, "{:?}", since.elapsed());
    }

    #[tokio::test]
    async fn missed_heartbeats_are_one() {
        let heartbeats = Heartbeats::every(Duration::from_millis(20)).unwrap();
        // The agent is not run meanwhile.
        std::thread::sleep(Duration::from_millis(70));
        let since = Instant::now();
        heartbeats.next().await.unwrap();
        heartbeats.next().await.unwrap();
        assert!(
            since.elapsed() >= Duration::from_millis(1),
            "{:?}",
            since.elapsed()
        );
    }
}
