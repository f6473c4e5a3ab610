//! How the agent connects to NATS, and how soon it tries again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{AuthError, ConnectOptions, Event};
use iot_contracts::{NatsConfig, inbox_prefix};
use tokio::sync::watch;

use crate::backoff;
use crate::config::Loaded;
use crate::credentials::Credentials;

/// The longest wait before a first try to connect; it doubles with each further one.
const FIRST_TRY: Duration = Duration::from_millis(100);
/// The longest wait between two of the first [`EAGER_TRIES`].
const EAGER_TRY: Duration = Duration::from_secs(1);
/// One to two minutes of tries: a device that boots gets its network within them, and reports within two
/// seconds of it.
const EAGER_TRIES: u32 = 120;
/// The longest wait between two tries in a longer outage. A server that is there again, and the first packets to which
/// are lost, has its devices back within 5 s: the kernel repeats them within 2 s.
const LATE_TRY: Duration = Duration::from_millis(2500);
/// How long a try may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// After how long without a word from the server it is asked for one; after three times that the connection counts as
/// lost. The kernel repeats what was not acknowledged after waits that double: within that time none is longer than 4 s.
/// While the desired state is followed the server says something more often, so that it is not asked.
pub const PING: Duration = Duration::from_secs(5);
/// What the client makes room for before it reads, in bytes; it makes more for a message that is longer.
const READ_BUFFER_BYTES: u16 = 8192;

/// The tries to connect since JetStream answered last. A connection alone does not count: a server may take one and be
/// of no use.
#[derive(Debug, Default)]
pub struct Tries(AtomicU32);

impl Tries {
    /// JetStream answered.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// How long to wait before the next one.
    fn wait_for_next(&self) -> Duration {
        let number = self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let most = if number > EAGER_TRIES {
            LATE_TRY
        } else {
            EAGER_TRY
        };
        backoff::wait(number, FIRST_TRY, most)
    }
}

/// Options for a client that keeps trying for ever, each time with the newest of these credentials; `counter` grows with
/// each connection.
pub fn options(
    config: &Loaded,
    credentials: Arc<Credentials>,
    counter: watch::Sender<u64>,
    tries: Arc<Tries>,
) -> ConnectOptions {
    let log = Mutex::new(EventLog::default());
    // Where devices are kept apart, nobody else knows the name of a device's inbox.
    let inbox = match credentials.key() {
        Some(key) => inbox_prefix(key.as_str()),
        None => inbox_prefix(config.device_id().as_str()),
    };
    let authenticated = ConnectOptions::with_auth_callback(move |nonce| {
        let auth = credentials.auth(&nonce);
        std::future::ready(auth.map_err(AuthError::new))
    });
    secured(authenticated, &config.config().nats)
        .name(format!("iot-agent-v0 {}", config.device_id()))
        .custom_inbox_prefix(inbox)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .connection_timeout(CONNECT)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING)
        .read_buffer_capacity(READ_BUFFER_BYTES)
        .reconnect_delay_callback(move |_| tries.wait_for_next())
        .event_callback(move |event| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.note(&event);
            if let Event::Connected = event {
                counter.send_modify(|count| *count += 1);
            }
            std::future::ready(())
        })
}

/// The servers of the configuration and no other one, with TLS where they ask for it. What a server says of others comes
/// before TLS and by anyone, and names no scheme: who followed it would be in plain text.
fn secured(options: ConnectOptions, nats: &NatsConfig) -> ConnectOptions {
    let mut options = options
        .ignore_discovered_servers()
        .require_tls(nats.urls.are_tls());
    let tls = nats.tls.clone().unwrap_or_default();
    if let Some(ca) = tls.ca {
        options = options.add_root_certificates(ca);
    }
    if let (Some(certificate), Some(key)) = (tls.certificate, tls.key) {
        options = options.add_client_certificate(certificate, key);
    }
    options
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

    use super::{EAGER_TRIES, EventLog, Tries};

    #[test]
    fn a_late_network_is_noticed_within_a_second_and_a_late_server_within_three() {
        let tries = Tries::default();
        let waits: Vec<_> = (0..=EAGER_TRIES).map(|_| tries.wait_for_next()).collect();
        let (late, eager) = waits.split_last().unwrap();
        assert!(waits[0] <= Duration::from_millis(100), "{waits:?}");
        assert!(eager.iter().all(|wait| *wait <= Duration::from_secs(1)));
        let eager: Duration = eager.iter().sum();
        assert!(eager > Duration::from_secs(55), "{eager:?}");
        assert!(*late >= Duration::from_millis(1250), "{late:?}");
        assert!(*late <= Duration::from_millis(2500), "{late:?}");
        tries.reset();
        assert!(tries.wait_for_next() <= Duration::from_millis(100));
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
