//! The buckets as the platform makes them, and the marker by which devices know the one with their desired state.

use async_nats::jetstream::{self, kv, stream};
use iot_contracts::{BucketId, BucketMarker, DESIRED_STATE_MARKER_KEY, KvBucket};
use tracing::info;
use uuid::Uuid;

use super::again::answered;
use super::{BucketOptions, Cause, PlatformError, request};

/// The bucket, made where it is missing, with the settings that it may get later. The client's own `create_key_value`
/// fails with servers before 2.10, whose account information lacks a field; a stream with the bucket's settings is the
/// same thing.
pub(super) async fn ensure(
    context: &jetstream::Context,
    bucket: &KvBucket,
    options: BucketOptions,
) -> Result<kv::Store, PlatformError> {
    let failed = |source: Cause| request("make the bucket", bucket.name, source);
    let config = stream_config(bucket, options);
    let made = answered(|| context.get_or_create_stream(config.clone())).await;
    let stream = made.map_err(|e| failed(e.into()))?;
    // A stream that was just made carries no information of itself.
    let info = answered(|| stream.get_info()).await;
    let is = info.map_err(|e| failed(e.into()))?.config;
    let replicas = options.replicas.map_or(is.num_replicas, usize::from);
    if is.allow_rollup != config.allow_rollup || is.num_replicas != replicas {
        info!(
            bucket = bucket.name,
            replicas, "the bucket's settings are changed"
        );
        let changed = stream::Config {
            allow_rollup: config.allow_rollup,
            num_replicas: replicas,
            ..is
        };
        let updated = answered(|| context.update_stream(&changed)).await;
        updated.map_err(|e| failed(e.into()))?;
    }
    let store = answered(|| context.get_key_value(bucket.name)).await;
    store.map_err(|e| failed(e.into()))
}

fn stream_config(bucket: &KvBucket, options: BucketOptions) -> stream::Config {
    stream::Config {
        name: bucket.stream_name(),
        subjects: vec![bucket.subjects()],
        max_messages_per_subject: i64::from(bucket.history),
        max_message_size: i32::try_from(bucket.max_value_bytes).unwrap_or(i32::MAX),
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::New,
        allow_rollup: bucket.roll_up,
        deny_delete: true,
        allow_direct: true,
        num_replicas: usize::from(options.replicas.unwrap_or(1)),
        ..stream::Config::default()
    }
}

/// The marker that is there, or a new one where there is none.
pub(super) async fn ensure_marker(desired: &kv::Store) -> Result<BucketMarker, PlatformError> {
    let new = BucketMarker {
        id: new_id()?,
        replaces: Vec::new(),
    };
    let key = DESIRED_STATE_MARKER_KEY;
    let failed = |source: Cause| request("mark the bucket with", key, source);
    let value = serde_json::to_vec(&new).map_err(|e| failed(e.into()))?;
    match answered(|| desired.create(key, value.clone().into())).await {
        Ok(_) => return Ok(new),
        Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error.into())),
    }
    let entry = answered(|| desired.get(key))
        .await
        .map_err(|e| failed(e.into()))?;
    let value = entry.ok_or_else(|| failed("the marker was removed meanwhile".into()))?;
    serde_json::from_slice(&value).map_err(|e| request("read", key, e.into()))
}

/// A new marker, which says that the bucket takes the place of `replaced` and of what it was itself.
pub(super) async fn replace(
    desired: &kv::Store,
    replaced: &[BucketId],
) -> Result<BucketMarker, PlatformError> {
    let is = ensure_marker(desired).await?;
    let mut replaces = is.replaces;
    for id in std::iter::once(&is.id).chain(replaced) {
        if !replaces.contains(id) {
            replaces.push(id.clone());
        }
    }
    let key = DESIRED_STATE_MARKER_KEY;
    let failed = |source: Cause| request("mark the bucket with", key, source);
    let id = new_id()?;
    let new = BucketMarker { id, replaces };
    let value = serde_json::to_vec(&new).map_err(|e| failed(e.into()))?;
    let put = answered(|| desired.put(key, value.clone().into())).await;
    put.map_err(|e| failed(e.into()))?;
    info!(id = %new.id, replaces = new.replaces.len(), "the bucket takes the place of others");
    Ok(new)
}

fn new_id() -> Result<BucketId, PlatformError> {
    let id = Uuid::new_v4().simple().to_string();
    id.parse()
        .map_err(|e: iot_contracts::ContractError| request("name the bucket", "", e.into()))
}
