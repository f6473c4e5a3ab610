//! The device's keys by what its consumer, which the platform made, tells of them.
//!
//! A notice has the key and the revision, and comes again and again for as long as the entry is there. What the entry is
//! now is asked for by a request that names the key. So nothing is lost with a notice, and each value comes with its own
//! revision, also when it is a newer one than the notice's.
//!
//! A key that is no deployment's is not asked for: its notice says all that matters. It may be so long that the server would
//! end the connection of who names it in a request.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Message, StatusCode, Subscriber};
use futures::stream::{self, StreamExt, TryStreamExt};
use iot_contracts::{
    DeploymentName, KvBucket, UserKey, agent_release_key, desired_state_key, next_subject,
};
use serde_json::json;
use tokio::time::Instant;

use crate::bucket::{ASK_AGAIN, Bucket, BucketError, failed, message};
use crate::changes::{Change, HEARTBEAT, SILENCE, nanoseconds};

/// How long a request for notices stands, which has to be two heartbeats or more. The server goes on telling a connection
/// that is dead without its knowing: by the time at which that is given up ([`SILENCE`]), its last request is over.
const PULL: Duration = HEARTBEAT.saturating_mul(2);
const _: () = assert!(PULL.as_millis() < SILENCE.as_millis());
/// How many notices the server may send before it is asked again.
const BATCH: usize = 256;
/// How many times it is asked for those that are waiting. What comes after is told like a change.
const ROUNDS: usize = 64;
/// How many entries are asked for at a time.
const AT_A_TIME: usize = 8;

/// A key's newest entry as it was asked for.
pub struct Asked {
    /// Its revision.
    pub revision: u64,
    /// What it is.
    pub change: Change,
}

/// What the device's consumer tells.
pub struct Notices<'a> {
    bucket: &'a Bucket<'a>,
    subscriber: Subscriber,
    /// What answers come to, before the number of the request.
    inbox: String,
    requests: u64,
    next: String,
    /// How many notices the server may still send unasked.
    asked: usize,
    /// The revision up to which each key is known.
    seen: BTreeMap<String, u64>,
}

/// What came from the consumer.
enum Told {
    /// A key has another entry.
    Notice(Notice),
    /// It is there and has nothing.
    Nothing,
    /// It has nothing more for a request; whether that is the last one.
    NoMore { is_last: bool },
}

/// What is told of a key.
struct Notice {
    key: String,
    revision: u64,
    /// What that means, where the key is no deployment's.
    odd: Option<Change>,
}

impl<'a> Notices<'a> {
    /// Of the consumer that the platform made for the device with this key.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: nothing can be asked.
    pub async fn begin(bucket: &'a Bucket<'a>, key: &UserKey) -> Result<Self, BucketError> {
        let inbox = bucket.client().new_inbox();
        let subscriber = bucket.client().subscribe(format!("{inbox}.*")).await;
        Ok(Self {
            subscriber: subscriber.map_err(failed("read the desired state"))?,
            bucket,
            inbox,
            requests: 0,
            next: next_subject(key.as_str()),
            asked: 0,
            seen: BTreeMap::new(),
        })
    }

    /// Hands on the entries of the keys of `known`, the agent's release, and all that the consumer tells of now, one by one:
    /// all together may be more than there is room for.
    ///
    /// # Errors
    ///
    /// As [`Notices::next`].
    pub async fn listing(
        &mut self,
        known: impl Iterator<Item = DeploymentName>,
        mut take: impl FnMut(Change),
    ) -> Result<(), BucketError> {
        let keys = known.map(|name| desired_state_key(self.bucket.device_id(), &name));
        let mut keys: BTreeSet<String> = keys.collect();
        keys.insert(agent_release_key(self.bucket.device_id()));
        for _ in 0..ROUNDS {
            let request = json!({ "batch": BATCH, "no_wait": true });
            self.ask(request.clone()).await?;
            let mut end = Instant::now() + self.bucket.patience();
            while self.asked > 0 {
                let left = end.saturating_duration_since(Instant::now());
                match self.told(left.min(ASK_AGAIN)).await {
                    Ok(Told::Notice(notice)) if notice.odd.is_some() => {
                        self.odd(notice).into_iter().for_each(&mut take);
                    }
                    Ok(Told::Notice(Notice { key, .. })) => {
                        keys.insert(key);
                    }
                    Ok(Told::Nothing) => {}
                    Ok(Told::NoMore { .. }) => break,
                    // It answers at once, also when it has nothing; it may not have been there yet.
                    Err(BucketError::Silence) if left > ASK_AGAIN => {
                        self.ask(request.clone()).await?;
                        continue;
                    }
                    Err(BucketError::Silence) => return Err(BucketError::NoConsumer),
                    Err(error) => return Err(error),
                }
                end = Instant::now() + self.bucket.patience();
            }
            if self.asked > 0 {
                break;
            }
        }
        self.asked = 0;
        let bucket = self.bucket;
        let entries = stream::iter(keys).map(|key| async move {
            let asked = bucket.entry(&key).await?;
            Ok::<_, BucketError>(asked.map(|asked| (key, asked)))
        });
        let mut entries = pin!(entries.buffered(AT_A_TIME));
        while let Some(entry) = entries.try_next().await? {
            if let Some((key, asked)) = entry {
                self.seen.insert(key, asked.revision);
                take(asked.change);
            }
        }
        Ok(())
    }

    /// The next change. Can be dropped at any time; what is then in flight is told again.
    ///
    /// # Errors
    ///
    /// [`BucketError`]: the server does not go on.
    pub async fn next(&mut self) -> Result<Change, BucketError> {
        loop {
            if self.asked == 0 {
                let request = json!({ "batch": BATCH, "expires": nanoseconds(PULL),
                    "idle_heartbeat": nanoseconds(HEARTBEAT) });
                self.ask(request).await?;
            }
            let notice = match self.told(SILENCE).await? {
                Told::Notice(notice) => notice,
                Told::Nothing | Told::NoMore { is_last: false } => continue,
                Told::NoMore { is_last: true } => {
                    self.asked = 0;
                    continue;
                }
            };
            if notice.odd.is_some() {
                match self.odd(notice) {
                    Some(change) => return Ok(change),
                    None => continue,
                }
            }
            let Notice { key, revision, .. } = notice;
            if self.is_seen(&key, revision) {
                continue;
            }
            // What is gone by now, or not there yet where it was asked for, is told again while it is there.
            if let Some(asked) = self.bucket.entry(&key).await? {
                let before = self.seen.insert(key, asked.revision);
                if before.is_none_or(|before| before < asked.revision) {
                    return Ok(asked.change);
                }
            }
        }
    }

    fn is_seen(&self, key: &str, revision: u64) -> bool {
        self.seen.get(key).is_some_and(|seen| *seen >= revision)
    }

    /// What a notice of a key means that is no deployment's, unless that is known.
    fn odd(&mut self, notice: Notice) -> Option<Change> {
        let Notice { key, revision, odd } = notice;
        if self.is_seen(&key, revision) {
            return None;
        }
        self.seen.insert(key, revision);
        odd
    }

    async fn ask(&mut self, request: serde_json::Value) -> Result<(), BucketError> {
        self.requests += 1;
        let (subject, inbox) = (self.next.clone(), self.reply_subject());
        let asked = self.bucket.client();
        let asked = asked.publish_with_reply(subject, inbox, request.to_string().into());
        asked.await.map_err(failed("ask for changes"))?;
        self.asked = BATCH;
        Ok(())
    }

    fn reply_subject(&self) -> String {
        format!("{}.{}", self.inbox, self.requests)
    }

    async fn told(&mut self, patience: Duration) -> Result<Told, BucketError> {
        let ended = |why: String| Err(BucketError::Ended(why));
        let client = self.bucket.client();
        let message = message(client, &mut self.subscriber, patience).await?;
        match message.status {
            None | Some(StatusCode::OK) => self.notice(message),
            Some(StatusCode::IDLE_HEARTBEAT) => Ok(Told::Nothing),
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => Ok(Told::NoMore {
                is_last: message.subject.as_str() == self.reply_subject(),
            }),
            Some(StatusCode::NO_RESPONDERS) => Err(BucketError::NoConsumer),
            Some(status) => {
                let why = message.description.unwrap_or_default();
                ended(format!("{status} {why}"))
            }
        }
    }

    fn notice(&mut self, message: Message) -> Result<Told, BucketError> {
        let message = jetstream::Message {
            message,
            context: self.bucket.context().clone(),
        };
        let info = message.info().map_err(failed("read a change"))?;
        let revision = info.stream_sequence;
        self.asked = self.asked.saturating_sub(1);
        let prefix = KvBucket::DESIRED_STATE.subject_prefix();
        let subject = message.message.subject.as_str();
        let key = subject.strip_prefix(&prefix).unwrap_or(subject).to_owned();
        let device_id = self.bucket.device_id();
        let change = Change::of(device_id, key.clone(), revision, &message.message);
        let odd = matches!(change, Change::Odd { .. }).then_some(change);
        Ok(Told::Notice(Notice { key, revision, odd }))
    }
}
