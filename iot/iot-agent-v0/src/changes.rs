//! The entries that a consumer of the device's own gives it, in order.

use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, Message, StatusCode, Subscriber};
use iot_contracts::{
    DeploymentName, DeviceId, KvBucket, agent_release_key, desired_state_key_deployment,
};
use serde_json::json;

use crate::bucket::{BucketError, failed, message};
use crate::followed::Entry;
use crate::update::Wanted;

/// How often the server says that there is nothing new.
pub const HEARTBEAT: Duration = Duration::from_secs(4);
/// When it has not for so long, the second time was missed as well: nobody is there any more. Linux repeats what was not
/// acknowledged after waits that double from 200 ms, so that the sixth time is 6.2 s after the first and the seventh 6.4 s
/// later: whoever is back by then is not waited for longer than half of that.
pub const SILENCE: Duration = Duration::from_millis(9500);
/// How long a request for changes stands.
const PULL: Duration = Duration::from_secs(30);
/// How many entries the server may send before it is asked again; each may have 256 KiB.
const BATCH: usize = 16;

/// What happened to a key of the device.
#[derive(Debug)]
pub enum Change {
    /// A deployment's.
    Entry(Entry),
    /// A deployment's entry went by itself, which nobody ordered.
    Expired(DeploymentName),
    /// The key of the agent's release: what it wants, if it is there.
    Release(Option<Wanted>),
    /// One that is no deployment's; whether it is there.
    Odd {
        /// The key.
        key: String,
        /// Whether it is there.
        is_there: bool,
    },
}

/// The device's keys as they change.
pub struct Changes {
    context: Context,
    client: Client,
    device_id: DeviceId,
    subscriber: Subscriber,
    inbox: String,
    next: String,
    /// How many entries the server may still send unasked.
    asked: usize,
    /// How many entries came.
    delivered: u64,
    /// How many entries the server had more when it sent the last one.
    pending: u64,
}

impl Changes {
    /// Asks the device's consumer, which has `pending` entries.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: nothing can be asked.
    pub async fn begin(
        context: &Context,
        device_id: &DeviceId,
        pending: u64,
    ) -> Result<Self, BucketError> {
        let client = context.client();
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(inbox.clone()).await;
        let stream = KvBucket::DESIRED_STATE.stream_name();
        let mut changes = Self {
            subscriber: subscriber.map_err(failed("read the desired state"))?,
            context: context.clone(),
            client,
            device_id: device_id.clone(),
            inbox,
            next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{device_id}"),
            asked: 0,
            delivered: 0,
            pending,
        };
        changes.ask().await?;
        Ok(changes)
    }

    /// Hands on everything that is there now, one by one: all together may be more than there is room for.
    ///
    /// # Errors
    ///
    /// As [`Changes::next`].
    pub async fn listing(&mut self, mut take: impl FnMut(Change)) -> Result<(), BucketError> {
        while self.pending > 0 {
            take(self.next().await?);
        }
        Ok(())
    }

    /// The next change. Can be dropped at any time; what is then in flight is not lost, unless it is not polled again.
    ///
    /// # Errors
    ///
    /// [`BucketError::Ended`]: the server does not go on; what comes after has to be listed anew.
    pub async fn next(&mut self) -> Result<Change, BucketError> {
        let ended = |why: &str| BucketError::Ended(why.to_owned());
        loop {
            if self.asked == 0 {
                self.ask().await?;
            }
            let message = message(&self.client, &mut self.subscriber, SILENCE).await?;
            match message.status {
                None | Some(StatusCode::OK) => return self.take(message),
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                // They are gone meanwhile, and this listing would wait for them for ever.
                Some(StatusCode::TIMEOUT) if self.pending > 0 => {
                    return Err(ended("entries that were there did not come"));
                }
                // Nothing came while the request stood.
                Some(StatusCode::TIMEOUT) => self.asked = 0,
                Some(StatusCode::NO_RESPONDERS) => return Err(ended("nobody answers")),
                Some(status) => {
                    let why = message.description.unwrap_or_default();
                    return Err(ended(&format!("{status} {why}")));
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<(), BucketError> {
        let request = json!({
            "batch": BATCH, "expires": nanoseconds(PULL), "idle_heartbeat": nanoseconds(HEARTBEAT),
        });
        let (subject, inbox) = (self.next.clone(), self.inbox.clone());
        let request = request.to_string().into();
        let asked = self
            .client
            .publish_with_reply(subject, inbox, request)
            .await;
        asked.map_err(failed("ask for changes"))?;
        self.asked = BATCH;
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<Change, BucketError> {
        let what = "read a change";
        let message = jetstream::Message {
            message,
            context: self.context.clone(),
        };
        let info = message.info().map_err(failed(what))?;
        let (revision, number, pending) =
            (info.stream_sequence, info.consumer_sequence, info.pending);
        if number != self.delivered + 1 {
            return Err(BucketError::Ended(
                "a change was lost on the way".to_owned(),
            ));
        }
        self.delivered = number;
        self.pending = pending;
        self.asked = self.asked.saturating_sub(1);
        let prefix = KvBucket::DESIRED_STATE.subject_prefix();
        let subject = message.message.subject.as_str();
        let key = subject.strip_prefix(&prefix).unwrap_or(subject).to_owned();
        Ok(Change::of(&self.device_id, key, revision, &message.message))
    }
}

impl Change {
    /// What that message, the newest of `key`, says.
    pub fn of(device_id: &DeviceId, key: String, revision: u64, message: &Message) -> Self {
        let is_expired = is_expiry(message);
        let is_there = !is_expired && !is_deletion(message);
        if key == agent_release_key(device_id) {
            let value = message.payload.to_vec();
            let wanted = Wanted { revision, value };
            return Self::Release(is_there.then_some(wanted));
        }
        match desired_state_key_deployment(device_id, &key) {
            Ok(name) if is_expired => Self::Expired(name),
            Ok(name) => Self::Entry(Entry {
                name,
                revision,
                value: is_there.then(|| message.payload.to_vec()),
            }),
            Err(_) => Self::Odd { key, is_there },
        }
    }
}

/// A header's value.
pub fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    Some(message.headers.as_ref()?.get(name)?.as_str())
}

/// Whether a message says that the key is not there: that it was deleted, or [that it expired](is_expiry).
pub fn is_deletion(message: &Message) -> bool {
    matches!(header(message, "KV-Operation"), Some("DEL" | "PURGE"))
        || header(message, "Nats-Marker-Reason").is_some()
}

/// Whether a message says that the key's entry expired.
pub fn is_expiry(message: &Message) -> bool {
    header(message, "Nats-Marker-Reason") == Some("MaxAge")
}

/// As JetStream takes a time.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
