//! How the agent connects to NATS, and how soon it tries again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{ConnectOptions, Event};
use iot_contracts::NatsCredentials;
use tokio::sync::watch;

use crate::config::Loaded;

/// The wait before a first try to connect; it doubles with each further one.
const FIRST_TRY: Duration = Duration::from_millis(100);
/// The longest wait between two of the first [`EAGER_TRIES`].
const EAGER_TRY: Duration = Duration::from_secs(1);
/// About two minutes of tries: a device that boots gets its network within them, and reports within two
/// seconds of it.
const EAGER_TRIES: usize = 120;
/// The wait between two tries in a longer outage.
const LATE_TRY: Duration = Duration::from_secs(4);
/// What the client makes room for before it reads, in bytes; it makes more for a message that is longer.
const READ_BUFFER_BYTES: u16 = 8192;

/// Options for a client that keeps trying for ever; `counter` grows with each connection.
///
/// # Errors
///
/// The credentials file cannot be understood.
pub fn options(config: &Loaded, counter: watch::Sender<u64>) -> std::io::Result<ConnectOptions> {
    let log = Mutex::new(EventLog::default());
    let options = ConnectOptions::new()
        .name(format!("iot-agent-v0 {}", config.device_id()))
        .retry_on_initial_connect()
        .max_reconnects(None)
        .read_buffer_capacity(READ_BUFFER_BYTES)
        .reconnect_delay_callback(wait_before_try)
        .event_callback(move |event| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.note(&event);
            if let Event::Connected = event {
                counter.send_modify(|count| *count += 1);
            }
            std::future::ready(())
        });
    Ok(match &config.config().nats.credentials {
        None => options,
        Some(NatsCredentials::UserPassword { username, password }) => {
            options.user_and_password(username.clone(), password.expose().to_owned())
        }
        Some(NatsCredentials::Token { token }) => options.token(token.expose().to_owned()),
        Some(NatsCredentials::CredsFile { .. }) => {
            options.credentials(config.creds().unwrap_or_default())?
        }
    })
}

/// How long to wait before a try to connect; they are counted from 1, anew after each connection.
fn wait_before_try(number: usize) -> Duration {
    if number > EAGER_TRIES {
        return LATE_TRY;
    }
    let doublings = u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_TRY
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(EAGER_TRY)
}

/// Tells what happens to the connection: every change, and a failure once for as long as it stays the same.
#[derive(Default)]
struct EventLog {
    failure: Option<String>,
}

impl EventLog {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Connected => {
                tracing::info!("connected to NATS");
                self.failure = None;
            }
            Event::ClientError(error) if self.is_news(error.to_string()) => {
                tracing::warn!(%error, "no connection to NATS");
            }
            Event::ClientError(error) => tracing::debug!(%error, "still no connection to NATS"),
            event => tracing::warn!(%event, "NATS"),
        }
    }

    fn is_news(&mut self, failure: String) -> bool {
        let before = self.failure.replace(failure);
        before != self.failure
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{EAGER_TRIES, EventLog, wait_before_try};

    #[test]
    fn a_late_network_is_noticed_within_a_second() {
        let waits = [
            (0, 100),
            (1, 100),
            (2, 200),
            (3, 400),
            (4, 800),
            (5, 1000),
            (EAGER_TRIES, 1000),
            (EAGER_TRIES + 1, 4000),
            (usize::MAX, 4000),
        ];
        for (number, expected_ms) in waits {
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(wait_before_try(number), expected, "try {number}");
        }
        let eager: Duration = (1..=EAGER_TRIES).map(wait_before_try).sum();
        assert!(eager > Duration::from_secs(110), "{eager:?}");
    }

    #[test]
    fn a_failure_is_told_once() {
        let mut log = EventLog::default();
        let failures = [("a", true), ("a", false), ("b", true), ("a", true)];
        for (failure, expected) in failures {
            assert_eq!(log.is_news(failure.to_owned()), expected, "{failure}");
        }
        log.note(&async_nats::Event::Connected);
        assert!(log.is_news("a".to_owned()));
    }
}
