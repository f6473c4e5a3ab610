//! The platform's buckets, for tests of the agent's program.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::kv::{Store, Watch};
use iot_contracts::{AGENT_STATUS_BUCKET, DESIRED_STATE_BUCKET, KvBucket};

use crate::server::bucket_config;

/// Makes the buckets, as soon as there is a server; what is desired, and the reports of `pi-1`.
pub async fn open(port: u16) -> (Store, Watch) {
    let client = async_nats::ConnectOptions::new()
        .user_and_password("device".to_owned(), "hunter2".to_owned())
        .retry_on_initial_connect()
        .connect(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let context = jetstream::new(client);
    for bucket in [KvBucket::DESIRED_STATE, KvBucket::AGENT_STATUS] {
        // Nothing tells of a JetStream that is not there yet.
        while context
            .get_or_create_stream(bucket_config(&bucket))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let desired = context.get_key_value(DESIRED_STATE_BUCKET).await.unwrap();
    let marker = desired.put("_bucket", r#"{"id":"b1"}"#.into());
    marker.await.unwrap();
    let reports = context.get_key_value(AGENT_STATUS_BUCKET).await.unwrap();
    let reports = reports.watch_with_history("status.pi-1").await.unwrap();
    (desired, reports)
}
