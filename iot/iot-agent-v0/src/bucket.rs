//! The desired-state bucket as a device reads it: its marker, the device's keys as they are and as they change.
//!
//! Each request names the device in its subject, and no other device's keys can be asked for by it: a server can
//! permit a device exactly these. Keys come with their revisions from one consumer, in order, so that a value is never
//! older than the revision that it is applied under.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::stream::DiscardPolicy;
use async_nats::jetstream::{self, Context};
use async_nats::{
    Client, Message, Request, RequestError, RequestErrorKind, StatusCode, Subscriber,
};
use futures::{StreamExt, TryStreamExt};
use iot_contracts::{
    BucketMarker, DESIRED_STATE_MARKER_KEY, DeviceId, KvBucket, desired_state_key_deployment,
    desired_state_watch,
};
use serde::Deserialize;
use serde_json::json;

use crate::memory::{Entry, SeenMarker};

/// How often the server says that there is nothing new.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// When it has not for so long, the second time was missed as well: nobody is there any more.
const SILENCE: Duration = Duration::from_secs(9);
/// How long a request for changes stands.
const PULL: Duration = Duration::from_secs(30);
/// How many entries the server may send before it is asked again; each may have 256 KiB.
const BATCH: usize = 16;
/// How long the server keeps a consumer that nobody asks.
const ABANDONED: Duration = Duration::from_secs(300);

/// JetStream's code for a consumer that it does not have.
const NO_CONSUMER: u64 = 10014;
/// JetStream's code for a stream that it does not have.
const NO_STREAM: u64 = 10059;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Nobody answers for the bucket.
    #[error("there is no bucket '{0}' (the platform makes it), or JetStream is not ready")]
    Missing(&'static str),
    /// A request failed.
    #[error("cannot {what}")]
    Request {
        /// What was asked.
        what: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
    /// The marker is none.
    #[error("the bucket's marker '{DESIRED_STATE_MARKER_KEY}' cannot be read (expected its id)")]
    Marker,
    /// The consumer was deleted.
    #[error("the changes ended: {0}")]
    Ended(String),
}

fn failed<E: Into<Source>>(what: &'static str) -> impl FnOnce(E) -> BucketError {
    move |source| BucketError::Request {
        what,
        source: source.into(),
    }
}

/// The bucket, for one device.
pub struct Bucket<'a> {
    context: &'a Context,
    client: Client,
    device_id: &'a DeviceId,
    patience: Duration,
}

/// What happened to a key of the device.
#[derive(Debug)]
pub enum Change {
    /// A deployment's.
    Entry(Entry),
    /// One that is no deployment's; whether it is there.
    Odd {
        /// The key.
        key: String,
        /// Whether it is there.
        is_there: bool,
    },
}

/// What the stream's leader says.
#[derive(Debug)]
pub struct Evidence {
    /// The stream's newest revision.
    pub last_revision: u64,
    /// The device's keys that are there, or were deleted with a marker.
    pub keys: BTreeSet<String>,
    /// Whether entries may vanish although nobody deleted them.
    pub forgets: bool,
}

impl<'a> Bucket<'a> {
    /// On that connection. An answer may take as long as `patience`: a request that came while a cluster had no leader
    /// is never answered, and one that is slow always takes its time.
    pub fn new(context: &'a Context, device_id: &'a DeviceId, patience: Duration) -> Self {
        Self {
            client: context.client(),
            context,
            device_id,
            patience,
        }
    }

    /// Ends the reading that this device began last, if the server still has it. The server answers this also where
    /// there is no bucket, which nobody does when its marker is asked for.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: there is no bucket.
    pub async fn end_last_reading(&self) -> Result<(), BucketError> {
        let what = "end the last reading";
        let (stream, name) = (
            KvBucket::DESIRED_STATE.stream_name(),
            self.device_id.as_str(),
        );
        let ended = self
            .api(what, format!("CONSUMER.DELETE.{stream}.{name}"), "")
            .await?;
        match ended.error {
            None => Ok(()),
            Some(error) if error.err_code == NO_CONSUMER => Ok(()),
            Some(error) => Err(error.of(what)),
        }
    }

    /// Which bucket it is, where it says that.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: it is not there, or its marker is none.
    pub async fn marker(&self) -> Result<Option<SeenMarker>, BucketError> {
        let bucket = KvBucket::DESIRED_STATE;
        let (stream, prefix) = (bucket.stream_name(), bucket.subject_prefix());
        let subject = format!("$JS.API.DIRECT.GET.{stream}.{prefix}{DESIRED_STATE_MARKER_KEY}");
        let answer = match self.request(subject, "").await {
            Ok(answer) => answer,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(BucketError::Missing(bucket.name));
            }
            Err(error) => return Err(failed("read the bucket's marker")(error)),
        };
        match answer.status {
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            None | Some(StatusCode::OK) => {}
            Some(status) => {
                let error = format!("{status} {}", answer.description.unwrap_or_default());
                return Err(failed("read the bucket's marker")(error));
            }
        }
        if is_deletion(&answer) {
            return Ok(None);
        }
        let revision = header(&answer, "Nats-Sequence").and_then(|text| text.parse().ok());
        let marker = serde_json::from_slice::<BucketMarker>(&answer.payload);
        match (marker, revision) {
            (Ok(marker), Some(revision)) => Ok(Some(SeenMarker { marker, revision })),
            _ => Err(BucketError::Marker),
        }
    }

    /// The device's keys: first the newest entry of each, then what happens to them. An earlier reading has been ended.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: the server makes no consumer.
    pub async fn changes(&self) -> Result<Changes, BucketError> {
        let bucket = KvBucket::DESIRED_STATE;
        let (stream, name) = (bucket.stream_name(), self.device_id.as_str());
        let filter = format!(
            "{}{}",
            bucket.subject_prefix(),
            desired_state_watch(self.device_id)
        );
        let config = json!({ "stream_name": stream, "config": {
            "name": name, "filter_subject": filter, "deliver_policy": "last_per_subject", "ack_policy": "none",
            "mem_storage": true, "num_replicas": 1, "inactive_threshold": nanoseconds(ABANDONED),
        }});
        let subject = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
        let made = self
            .api("read the desired state", subject, &config.to_string())
            .await?;
        if let Some(error) = made.error {
            return Err(error.of("read the desired state"));
        }
        let inbox = self.client.new_inbox();
        let subscriber = self.client.subscribe(inbox.clone()).await;
        let mut changes = Changes {
            context: self.context.clone(),
            client: self.client.clone(),
            device_id: self.device_id.clone(),
            subscriber: subscriber.map_err(failed("read the desired state"))?,
            inbox,
            next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"),
            asked: 0,
            delivered: 0,
            pending: made.num_pending,
        };
        changes.ask().await?;
        Ok(changes)
    }

    /// What the stream's leader says of the device's keys.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: it says nothing, or the device may not ask it.
    pub async fn evidence(&self) -> Result<Evidence, BucketError> {
        let what = "ask for the bucket's state";
        let bucket = KvBucket::DESIRED_STATE;
        let prefix = bucket.subject_prefix();
        let stream = self.context.get_stream_no_info(bucket.stream_name()).await;
        let stream = stream.map_err(failed(what))?;
        let filter = format!("{prefix}{}", desired_state_watch(self.device_id));
        let mut subjects = stream
            .info_with_subjects(filter)
            .await
            .map_err(failed(what))?;
        let mut keys = BTreeSet::new();
        while let Some((subject, _)) = subjects.try_next().await.map_err(failed(what))? {
            keys.extend(subject.strip_prefix(&prefix).map(str::to_owned));
        }
        let config = &subjects.info.config;
        Ok(Evidence {
            last_revision: subjects.info.state.last_sequence,
            keys,
            forgets: !config.max_age.is_zero() || config.discard != DiscardPolicy::New,
        })
    }

    async fn request(&self, subject: String, payload: &str) -> Result<Message, RequestError> {
        let request = Request::new().payload(payload.to_owned().into());
        let request = request.timeout(Some(self.patience));
        self.client.send_request(subject, request).await
    }

    async fn api(
        &self,
        what: &'static str,
        subject: String,
        payload: &str,
    ) -> Result<Answer, BucketError> {
        let subject = format!("$JS.API.{subject}");
        let answer = match self.request(subject, payload).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(BucketError::Missing(KvBucket::DESIRED_STATE.name));
            }
            Err(error) => return Err(failed(what)(error)),
        };
        serde_json::from_slice(&answer.payload).map_err(failed(what))
    }
}

/// What of an answer of JetStream's matters here.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    num_pending: u64,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl ApiError {
    fn of(self, what: &'static str) -> BucketError {
        match self.err_code {
            NO_STREAM => BucketError::Missing(KvBucket::DESIRED_STATE.name),
            _ => failed(what)(self.description),
        }
    }
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
    /// Everything that is there now.
    ///
    /// # Errors
    ///
    /// As [`Changes::next`].
    pub async fn listing(&mut self) -> Result<Vec<Change>, BucketError> {
        let mut changes = Vec::new();
        while self.pending > 0 {
            changes.push(self.next().await?);
        }
        Ok(changes)
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
            let next = tokio::time::timeout(SILENCE, self.subscriber.next()).await;
            let message = next.map_err(|_| ended("the server says nothing any more"))?;
            let message = message.ok_or_else(|| ended("the subscription is gone"))?;
            match message.status {
                None | Some(StatusCode::OK) => return self.take(message),
                Some(StatusCode::IDLE_HEARTBEAT) => {}
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
        let is_there = !is_deletion(&message.message);
        Ok(match desired_state_key_deployment(&self.device_id, &key) {
            Ok(name) => Change::Entry(Entry {
                name,
                revision,
                value: is_there.then(|| message.message.payload.to_vec()),
            }),
            Err(_) => Change::Odd { key, is_there },
        })
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    Some(message.headers.as_ref()?.get(name)?.as_str())
}

/// Whether a message says that the key is deleted, by whoever deleted it or by the server.
fn is_deletion(message: &Message) -> bool {
    matches!(header(message, "KV-Operation"), Some("DEL" | "PURGE"))
        || header(message, "Nats-Marker-Reason").is_some()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
