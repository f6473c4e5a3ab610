//! Writes to the bucket of the desired state, each done once however often it is asked for.

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use iot_contracts::KvBucket;
use uuid::Uuid;

use super::again::answered;
use super::{Platform, PlatformError, request};

impl Platform {
    /// Makes `value` what `key` has, or deletes it, and returns the revision. The server takes a write that is asked for
    /// again, within two minutes, for the same one by its id: it does not come after what somebody else wrote meanwhile.
    ///
    /// # Errors
    /// When NATS does not take it; `action` says what was to be done.
    pub(super) async fn write(
        &self,
        action: &'static str,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> Result<u64, PlatformError> {
        let subject = format!("{}{key}", KvBucket::DESIRED_STATE.subject_prefix());
        let mut message = PublishMessage::build().message_id(Uuid::new_v4().to_string());
        message = match value {
            Some(value) => message.payload(value.into()),
            // As the protocol's KV clients mark a deletion.
            None => message.header("KV-Operation", "DEL"),
        };
        let publish = || async {
            let sent = self.context.send_publish(subject.clone(), message.clone());
            sent.await?.await
        };
        let stored: Result<_, PublishError> = answered(publish).await;
        let stored = stored.map_err(|error| request(action, key, error.into()))?;
        Ok(stored.sequence)
    }
}
