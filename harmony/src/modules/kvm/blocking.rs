//! Work that blocks, on one of the runtime's threads for that.

use super::KvmError;

/// Runs it. `what` it is goes into the error when its thread does not end as it should, as in "copying the image".
pub(in crate::modules::kvm) async fn blocking<T, E>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<KvmError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            let what = format!("{what} did not end: {error}");
            Err(KvmError::Internal { what }.into())
        })
}
