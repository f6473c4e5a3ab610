//! What a device may do in NATS, and nothing else: one place for its subjects.
//!
//! JetStream answers to whatever reply subject a request names, with the server's own authority. A permission for a
//! subject is therefore none to keep devices apart by, as long as they share an account with the buckets. They are in an
//! account of their own without JetStream, [`DEVICES_ACCOUNT`], which imports from [`PLATFORM_ACCOUNT`] exactly the
//! services of [`device_services`]; of these a device may use what names it, see [`DevicePermissions`].
//!
//! No payload of a device's widens that: it makes no consumer, whose filter and destination are payload. The platform
//! makes one for it, see [`DeviceConsumer`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::kv::{KvBucket, desired_state_watch, status_key};
use crate::marker::DESIRED_STATE_MARKER_KEY;
use crate::name::DeviceId;

/// The account with the buckets and the platform's users.
pub const PLATFORM_ACCOUNT: &str = "IOT";
/// The account of all devices; it has no JetStream.
pub const DEVICES_ACCOUNT: &str = "DEVICES";
/// The server's own account.
pub const SYSTEM_ACCOUNT: &str = "SYS";

/// The public half of a device's or a platform's key: an NKey of a user. What has this form need not be a key that
/// anybody holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserKey(String);

/// The characters of an NKey.
const KEY_CHARS: usize = 56;

/// Of a second.
const NANOSECONDS: u64 = 1_000_000_000;

impl UserKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserKey {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        let base32 = |c: char| c.is_ascii_uppercase() || ('2'..='7').contains(&c);
        if value.len() == KEY_CHARS && value.starts_with('U') && value.chars().all(base32) {
            return Ok(Self(value));
        }
        // A private half in the wrong place is not repeated.
        let is_seed = value.trim_start().starts_with('S');
        Err(ContractError::UserKey {
            value: if is_seed { "S…".to_owned() } else { value },
        })
    }
}

impl FromStr for UserKey {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::try_from(value.to_owned())
    }
}

impl From<UserKey> for String {
    fn from(key: UserKey) -> Self {
        key.0
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The subjects that a device may publish and subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePermissions {
    /// What it may publish to.
    pub publish: Vec<String>,
    /// What it may subscribe to.
    pub subscribe: Vec<String>,
}

impl DevicePermissions {
    /// Of the device with this id and this key. What names the key is nobody's to guess who was not told it.
    pub fn of(device_id: &DeviceId, key: &UserKey) -> Self {
        Self::named(device_id.as_str(), key.as_str())
    }

    /// For the scope of an account's signing key: the server puts the name of a user's token and its key in their
    /// places. Such a token must have a [`DeviceId`] as its name.
    pub fn template() -> Self {
        Self::named("{{name()}}", "{{subject()}}")
    }

    fn named(device_id: &str, key: &str) -> Self {
        let (desired, status) = (KvBucket::DESIRED_STATE, KvBucket::AGENT_STATUS);
        let own = format!("{}{device_id}.>", desired.subject_prefix());
        Self {
            publish: vec![
                format!("{}status.{device_id}", status.subject_prefix()),
                direct_get(&own),
                marker_subject(),
                next_subject(key),
            ],
            subscribe: vec![format!("{}.>", inbox_prefix(key))],
        }
    }
}

/// What a device's answers come to: only this device may subscribe to it.
pub fn inbox_prefix(key: &str) -> String {
    format!("_INBOX.{key}")
}

/// What a device asks for the newest entry of one of its own keys.
pub fn entry_subject(key: &str) -> String {
    direct_get(&format!(
        "{}{key}",
        KvBucket::DESIRED_STATE.subject_prefix()
    ))
}

/// What a device asks for the bucket's marker.
pub fn marker_subject() -> String {
    entry_subject(DESIRED_STATE_MARKER_KEY)
}

/// What a device asks its consumer for notices.
pub fn next_subject(consumer: &str) -> String {
    let stream = KvBucket::DESIRED_STATE.stream_name();
    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")
}

fn direct_get(subject: &str) -> String {
    let stream = KvBucket::DESIRED_STATE.stream_name();
    format!("$JS.API.DIRECT.GET.{stream}.{subject}")
}

/// A service that the account of the devices imports from the platform's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceService {
    /// Its subject.
    pub subject: String,
    /// Whether one request has more than one answer.
    pub is_stream: bool,
}

/// All services that the platform's account exports and the devices' imports.
pub fn device_services() -> Vec<DeviceService> {
    let any = DevicePermissions::named("*", "*");
    let services = any.publish.into_iter().map(|subject| DeviceService {
        is_stream: subject == next_subject("*"),
        subject,
    });
    // Without it the server imports all of `$JS.API.>` by itself. No device may publish to it.
    let guard = DeviceService {
        subject: "$JS.API.INFO".to_owned(),
        is_stream: false,
    };
    services.chain([guard]).collect()
}

/// The consumer that the platform makes for a device. It tells the device which of its keys have changed, and the device
/// asks for each of them.
///
/// It delivers headers without values, and nobody may acknowledge: each notice comes again, soon at first and then once
/// a minute, for as long as its entry is there. A notice that was lost on the way is therefore late and not missing, and
/// a device that remembers nothing hears of each of its keys again, without a request that could name another's.
///
/// Serde writes it in the form of JetStream's consumer configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceConsumer {
    /// Its name, which is the device's key.
    #[serde(rename = "durable_name")]
    pub name: String,
    /// The only subjects that it tells of.
    pub filter_subject: String,
    description: String,
    deliver_policy: &'static str,
    ack_policy: &'static str,
    max_deliver: i64,
    /// In nanoseconds.
    backoff: [u64; 10],
    max_ack_pending: i64,
    headers_only: bool,
}

impl DeviceConsumer {
    /// After how many seconds a notice comes again, each time; the last one is for all further times. A request of a
    /// connection that is gone may swallow notices for 8 s.
    const AGAIN_SECONDS: [u64; 10] = [1, 2, 3, 4, 4, 4, 4, 4, 4, 60];
    /// How often a notice comes: once a minute for longer than any device lives. Servers before 2.10 take no other
    /// word for "always" together with waits.
    const DELIVERIES: i64 = 1_000_000_000;
    /// No notice waits for the acknowledgement of others.
    const UNBOUNDED: i64 = -1;

    /// Of the device with this id and this key.
    pub fn of(device_id: &DeviceId, key: &UserKey) -> Self {
        let prefix = KvBucket::DESIRED_STATE.subject_prefix();
        Self {
            name: key.to_string(),
            filter_subject: format!("{prefix}{}", desired_state_watch(device_id)),
            description: format!("the device {device_id}"),
            deliver_policy: "last_per_subject",
            ack_policy: "explicit",
            max_deliver: Self::DELIVERIES,
            backoff: Self::AGAIN_SECONDS.map(|seconds| seconds * NANOSECONDS),
            max_ack_pending: Self::UNBOUNDED,
            headers_only: true,
        }
    }
}

/// The subject that a device reports to.
pub fn status_subject(device_id: &DeviceId) -> String {
    let prefix = KvBucket::AGENT_STATUS.subject_prefix();
    format!("{prefix}{}", status_key(device_id))
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
