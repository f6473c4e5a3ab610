//! Makes a device with a key of its own known to NATS.

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use iot_contracts::{DeviceConsumer, DeviceId, UserKey, not_separating};
use tracing::{info, warn};

use super::again::answered;
use super::{Cause, Platform, PlatformError, request};

impl Platform {
    /// Makes the consumer that tells the device with this key of its desired state, or leaves it as it is. A bucket that
    /// was made anew has none: then every device is to be enrolled again. What the server has to know of the key is
    /// [`ServerAccounts`](iot_contracts::ServerAccounts) or a token, see [`DeviceTokens`](super::DeviceTokens).
    ///
    /// # Errors
    /// When NATS does not take it.
    pub async fn enrol(&self, device_id: &DeviceId, key: &UserKey) -> Result<(), PlatformError> {
        if let Some(lacks) = not_separating(&self.server_version) {
            warn!("{lacks}");
        }
        let consumer = DeviceConsumer::of(device_id, key);
        let failed = |source: Cause| request("enrol with the consumer", &consumer.name, source);
        let config = consumer_config(&consumer).map_err(|e| failed(e.into()))?;
        let make = || self.desired.stream.create_consumer(config.clone());
        answered(make).await.map_err(|e| failed(e.into()))?;
        info!(device = %device_id, %key, "enrolled");
        Ok(())
    }

    /// Ends what [`Platform::enrol`] made for a key, and returns whether it was there: the device with that key hears of
    /// nothing any more. It can still connect until the server's configuration, or the account's list of revoked keys,
    /// says otherwise. It was not there, either, when the server did end it and its answer was lost.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn withdraw(&self, key: &UserKey) -> Result<bool, PlatformError> {
        let end = || self.desired.stream.delete_consumer(key.as_str());
        match answered(end).await {
            Ok(status) => Ok(status.success),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(request("withdraw the consumer", key.as_str(), error.into())),
        }
    }
}

fn is_absent(error: &ConsumerError) -> bool {
    match error.kind() {
        ConsumerErrorKind::JetStream(error) => {
            error.error_code() == async_nats::jetstream::ErrorCode::CONSUMER_NOT_FOUND
        }
        _ => false,
    }
}

fn consumer_config(consumer: &DeviceConsumer) -> Result<consumer::Config, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(consumer)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy};
    use iot_contracts::{DeviceConsumer, KvBucket, UserKey};

    use super::consumer_config;

    #[test]
    fn nobody_but_the_device_is_told_of() {
        let key = format!("U{}", "A".repeat(55));
        let key: UserKey = key.parse().expect("valid");
        let id = "pi-1".parse().expect("valid");
        let mut config = consumer_config(&DeviceConsumer::of(&id, &key)).expect("JetStream's form");
        let waits = std::mem::take(&mut config.backoff);
        assert_eq!(waits.first(), Some(&Duration::from_secs(1)));
        assert_eq!(waits.last(), Some(&Duration::from_secs(60)));
        let prefix = KvBucket::DESIRED_STATE.subject_prefix();
        let expected = Config {
            durable_name: Some(key.to_string()),
            description: Some("the device pi-1".to_owned()),
            filter_subject: format!("{prefix}pi-1.>"),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::Explicit,
            max_deliver: 1_000_000_000,
            max_ack_pending: -1,
            headers_only: true,
            ..Config::default()
        };
        assert_eq!(config, expected);
    }
}
