//! The desired-state bucket as a device reads it: its marker, the device's keys as they are and as they change.
//!
//! There are two ways. A device with a key of its own asks for single keys by name, as [`Notices`](crate::notices::Notices)
//! tell of them: nothing that it sends can ask for another's. Any other one makes a consumer of its own, by requests that
//! name it, from which keys come with their values and revisions, in order. Either way a value is never older than the
//! revision that it is applied under.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::DiscardPolicy;
use async_nats::{
    Client, Message, Request, RequestError, RequestErrorKind, StatusCode, Subscriber,
};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use iot_contracts::{
    BucketMarker, DESIRED_STATE_MARKER_KEY, DeviceId, KvBucket, desired_state_watch, entry_subject,
    marker_subject,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::changes::{Change, Changes, HEARTBEAT, SILENCE, header, is_deletion, nanoseconds};
use crate::connection::PING;
use crate::followed::SeenMarker;
use crate::notices::Asked;

/// How long the server keeps a consumer that nobody asks.
const ABANDONED: Duration = Duration::from_secs(300);

/// The last part of [`SILENCE`]: it begins when the server should have said something, and the client asks within it
/// ([`PING`]) whether it is there.
const ASKED: Duration = SILENCE
    .saturating_sub(HEARTBEAT)
    .saturating_sub(Duration::from_millis(100));
const _: () =
    assert!(PING.as_millis() > HEARTBEAT.as_millis() && PING.as_millis() < ASKED.as_millis());

/// After how long something is asked again that nobody has answered yet. Some servers do not say that nobody is there to
/// answer where a device's account imports from another one: what was asked for a bucket that is missing, or while JetStream
/// was not ready, is never answered, and who is patient would notice the return late.
pub const ASK_AGAIN: Duration = Duration::from_secs(3);

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
    /// There is no consumer for the device.
    #[error(
        "there is no consumer for this device's key (the platform makes it when it enrols the device)"
    )]
    NoConsumer,
    /// Nothing came for a while.
    #[error("the changes ended: the server says nothing any more")]
    Silence,
    /// Nothing at all comes from the server: the connection is dead, whatever the kernel believes.
    #[error("the changes ended: nothing comes from the server any more")]
    Dead,
    /// The consumer was deleted.
    #[error("the changes ended: {0}")]
    Ended(String),
}

/// What was asked for failed.
pub fn failed<E: Into<Source>>(what: &'static str) -> impl FnOnce(E) -> BucketError {
    move |source| BucketError::Request {
        what,
        source: source.into(),
    }
}

/// The next message, awaited for as long as `patience`.
///
/// # Errors
///
/// [`BucketError::Silence`]: none came. [`BucketError::Dead`]: nor did the server say anything else at the end of a wait of
/// [`SILENCE`] or longer, in [`ASKED`], within which the client asks it whether it is there.
pub async fn message(
    client: &Client,
    subscriber: &mut Subscriber,
    patience: Duration,
) -> Result<Message, BucketError> {
    let statistics = client.statistics();
    let received = || statistics.in_bytes.load(Ordering::Relaxed);
    let gone = || BucketError::Ended("the subscription is gone".to_owned());
    let end = Instant::now() + patience;
    let mut before = None;
    if patience >= SILENCE {
        // What the server said before it fell silent tells nothing of what became of it.
        match tokio::time::timeout_at(end - ASKED, subscriber.next()).await {
            Ok(next) => return next.ok_or_else(gone),
            Err(_) => before = Some(received()),
        }
    }
    match tokio::time::timeout_at(end, subscriber.next()).await {
        Ok(next) => next.ok_or_else(gone),
        Err(_) if before == Some(received()) => Err(BucketError::Dead),
        Err(_) => Err(BucketError::Silence),
    }
}

/// The bucket, for one device.
pub struct Bucket<'a> {
    context: &'a Context,
    client: Client,
    device_id: &'a DeviceId,
    patience: Duration,
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

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The way to JetStream.
    pub fn context(&self) -> &Context {
        self.context
    }

    /// Whose keys these are.
    pub fn device_id(&self) -> &DeviceId {
        self.device_id
    }

    /// How long an answer may take.
    pub fn patience(&self) -> Duration {
        self.patience
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
        let what = "read the bucket's marker";
        let Some(answer) = self.newest(what, marker_subject()).await? else {
            return Ok(None);
        };
        if is_deletion(&answer) {
            return Ok(None);
        }
        let revision = revision(&answer);
        let marker = serde_json::from_slice::<BucketMarker>(&answer.payload);
        match (marker, revision) {
            (Ok(marker), Some(revision)) => Ok(Some(SeenMarker { marker, revision })),
            _ => Err(BucketError::Marker),
        }
    }

    /// The newest entry of one of the device's keys, if there is one where it is asked for.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: nobody answers.
    pub async fn entry(&self, key: &str) -> Result<Option<Asked>, BucketError> {
        let what = "read the desired state";
        let Some(answer) = self.newest(what, entry_subject(key)).await? else {
            return Ok(None);
        };
        let none = || failed(what)("an answer without a revision");
        let revision = revision(&answer).ok_or_else(none)?;
        let change = Change::of(self.device_id, key.to_owned(), revision, &answer);
        Ok(Some(Asked { revision, change }))
    }

    /// The newest message of a subject, if there is one.
    async fn newest(
        &self,
        what: &'static str,
        subject: String,
    ) -> Result<Option<Message>, BucketError> {
        let answer = match self.persistently(&subject).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(BucketError::Missing(KvBucket::DESIRED_STATE.name));
            }
            Err(error) => return Err(failed(what)(error)),
        };
        match answer.status {
            Some(StatusCode::NOT_FOUND) => Ok(None),
            None | Some(StatusCode::OK) => Ok(Some(answer)),
            Some(status) => {
                let error = format!("{status} {}", answer.description.unwrap_or_default());
                Err(failed(what)(error))
            }
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
        Changes::begin(self.context, self.device_id, made.num_pending).await
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
        self.request_within(self.patience, subject, payload).await
    }

    async fn request_within(
        &self,
        time: Duration,
        subject: String,
        payload: &str,
    ) -> Result<Message, RequestError> {
        let request = Request::new().payload(payload.to_owned().into());
        let request = request.timeout(Some(time));
        self.client.send_request(subject, request).await
    }

    /// Asks again and again while nobody answers, as long as the patience lasts; the first answer is the answer.
    async fn persistently(&self, subject: &str) -> Result<Message, RequestError> {
        let end = Instant::now() + self.patience;
        let mut asked = FuturesUnordered::new();
        loop {
            let time = end.saturating_duration_since(Instant::now());
            asked.push(self.request_within(time, subject.to_owned(), ""));
            if let Ok(Some(answer)) = tokio::time::timeout(ASK_AGAIN, asked.next()).await {
                return answer;
            }
        }
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

/// The revision of an entry that was asked for.
fn revision(answer: &Message) -> Option<u64> {
    header(answer, "Nats-Sequence")?.parse().ok()
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
