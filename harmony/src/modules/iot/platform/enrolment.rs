//! Makes a device with a key of its own known to NATS.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use iot_contracts::{DeviceConsumer, DeviceId, UserKey, not_separating};
use tracing::{info, warn};

use super::again::answered;
use super::{Platform, PlatformError, request};

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
        let config = consumer_config(device_id, &consumer);
        let make = || self.desired.stream.create_consumer(config.clone());
        let made = answered(make).await;
        made.map_err(|e| request("enrol with the consumer", &consumer.name, e.into()))?;
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

/// It delivers headers only, to who asks, and again and again.
pub(super) fn consumer_config(device_id: &DeviceId, consumer: &DeviceConsumer) -> pull::Config {
    pull::Config {
        durable_name: Some(consumer.name.clone()),
        description: Some(format!("the device {device_id}")),
        filter_subject: consumer.filter_subject.clone(),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::Explicit,
        max_deliver: DeviceConsumer::DELIVERIES,
        backoff: DeviceConsumer::AGAIN_SECONDS
            .map(Duration::from_secs)
            .into(),
        max_ack_pending: -1,
        headers_only: true,
        ..pull::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::consumer_config;
    use iot_contracts::{DeviceConsumer, KvBucket, UserKey};

    #[test]
    fn nobody_but_the_device_is_told_of() {
        let key = format!("U{}", "A".repeat(55));
        let key: UserKey = key.parse().expect("valid");
        let id = "pi-1".parse().expect("valid");
        let config = consumer_config(&id, &DeviceConsumer::of(&id, &key));
        let prefix = KvBucket::DESIRED_STATE.subject_prefix();
        assert_eq!(config.filter_subject, format!("{prefix}pi-1.>"));
        assert_eq!(config.durable_name.as_deref(), Some(key.as_str()));
        assert!(config.headers_only && config.inactive_threshold.is_zero());
    }
}
