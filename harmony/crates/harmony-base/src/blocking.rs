//! Work that blocks, on one of the runtime's threads for that.

use tokio::task::JoinError;

/// Work whose thread ended abnormally.
#[derive(Debug, thiserror::Error)]
#[error("the thread that should {task} ended abnormally")]
pub struct WorkerEnded {
    /// What it did.
    pub task: &'static str,
    /// How it ended.
    #[source]
    pub source: JoinError,
}

/// Does `work` on a thread that may block, and waits for it. The thread goes on when nobody waits any more.
///
/// # Errors
/// When the thread ends abnormally; the error says what it should do, as in "verify the image".
pub async fn blocking<T: Send + 'static>(
    task: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WorkerEnded> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| WorkerEnded { task, source })
}

#[cfg(test)]
mod tests {
    use super::blocking;

    #[tokio::test]
    async fn the_result_comes_back_and_an_abnormal_end_is_told() {
        let here = std::thread::current().id();
        let there = blocking("look where it is", || std::thread::current().id()).await;
        assert_ne!(there.expect("done"), here);
        let work = || -> u8 { panic!("of the test") };
        let ended = blocking("add", work).await.expect_err("no result");
        assert_eq!(
            ended.to_string(),
            "the thread that should add ended abnormally"
        );
        assert!(ended.source.is_panic());
    }
}
