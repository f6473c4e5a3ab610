//! Asks NATS again while nobody answers.
//!
//! A server that reads its configuration anew, as it does for each device that is added, is for a moment without
//! JetStream: it says so, says that nobody listens, or loses the answer. So each request that comes here must be one that
//! may be made twice: writes have an id, by which the server knows the second one, see `writes.rs`.

use std::error::Error;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind, RequestErrorKind,
};
use async_nats::jetstream::kv::{EntryErrorKind, UpdateErrorKind, WatchErrorKind};
use async_nats::jetstream::stream::{ConsumerErrorKind, DirectGetErrorKind};
use async_nats::{error, jetstream};
use tokio::time::{Instant, sleep, timeout};

/// How long a server is left alone between two requests.
pub(super) const PAUSE: Duration = Duration::from_millis(300);
/// How long it is asked again: a reload takes a fraction of a second, on a busy machine a few.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long an answer is awaited before it counts as lost; the last one for as long as the client waits.
const LOST: Duration = Duration::from_secs(2);

/// The answer, or the last failure.
pub(super) async fn answered<T, E, F>(ask: impl Fn() -> F) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match timeout(LOST, ask()).await {
            Ok(Err(error)) if is_unanswered(&error) => sleep(PAUSE).await,
            Ok(answer) => return answer,
            Err(_) => {}
        }
    }
    ask().await
}

/// Whether a failure, or one of its causes, is that nobody answered.
fn is_unanswered(error: &(dyn Error + 'static)) -> bool {
    let mut causes = Some(error);
    while let Some(error) = causes {
        if tells_of_nobody(error) {
            return true;
        }
        causes = error.source();
    }
    false
}

fn tells_of_nobody(error: &(dyn Error + 'static)) -> bool {
    let is_away = |error: &jetstream::Error| error.code() == 503;
    error.downcast_ref().is_some_and(is_away)
        || of(error, |kind: &RequestErrorKind| {
            matches!(
                kind,
                RequestErrorKind::NoResponders | RequestErrorKind::TimedOut
            )
        })
        || of(error, |kind: &ConsumerErrorKind| match kind {
            ConsumerErrorKind::JetStream(error) => is_away(error),
            kind => *kind == ConsumerErrorKind::TimedOut,
        })
        || of(error, |kind: &PublishErrorKind| {
            matches!(
                kind,
                PublishErrorKind::StreamNotFound | PublishErrorKind::TimedOut
            )
        })
        || of(error, |kind: &DirectGetErrorKind| match kind {
            DirectGetErrorKind::ErrorResponse(status, _) => *status == StatusCode::NO_RESPONDERS,
            kind => *kind == DirectGetErrorKind::TimedOut,
        })
        || of(error, |kind: &CreateStreamErrorKind| match kind {
            CreateStreamErrorKind::JetStream(error) => is_away(error),
            kind => matches!(
                kind,
                CreateStreamErrorKind::JetStreamUnavailable | CreateStreamErrorKind::TimedOut
            ),
        })
        || of(
            error,
            |kind: &GetStreamErrorKind| matches!(kind, GetStreamErrorKind::JetStream(error) if is_away(error)),
        )
        || of(error, |kind: &EntryErrorKind| {
            *kind == EntryErrorKind::TimedOut
        })
        || of(error, |kind: &UpdateErrorKind| {
            *kind == UpdateErrorKind::TimedOut
        })
        || of(error, |kind: &WatchErrorKind| {
            *kind == WatchErrorKind::TimedOut
        })
}

/// Whether it is one of the client's errors of this kind, and such a one.
fn of<K>(error: &(dyn Error + 'static), is: impl Fn(&K) -> bool) -> bool
where
    K: Clone + Debug + Display + PartialEq + 'static,
{
    let error = error.downcast_ref::<error::Error<K>>();
    error.is_some_and(|error| is(&error.kind()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use async_nats::jetstream::context::{
        PublishError, PublishErrorKind, RequestError, RequestErrorKind,
    };
    use async_nats::jetstream::kv::{PutError, PutErrorKind, WatchError, WatchErrorKind};
    use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};

    use super::{answered, is_unanswered};

    /// As it was seen while a server read its configuration.
    fn nobody_listens() -> WatchError {
        let request = RequestError::new(RequestErrorKind::NoResponders);
        let consumer = ConsumerError::with_source(ConsumerErrorKind::Request, request);
        WatchError::with_source(WatchErrorKind::Other, consumer)
    }

    #[test]
    fn only_who_was_not_answered_asks_again() {
        let away =
            r#"{"code":503,"err_code":10039,"description":"JetStream not enabled for account"}"#;
        let absent = r#"{"code":404,"err_code":10059,"description":"stream not found"}"#;
        let consumer = |said: &str| {
            let error = serde_json::from_str(said).expect("an error");
            ConsumerError::new(ConsumerErrorKind::JetStream(error))
        };
        let publish = |kind| PutError::with_source(PutErrorKind::Publish, PublishError::new(kind));
        assert!(is_unanswered(&nobody_listens()));
        assert!(is_unanswered(&consumer(away)));
        assert!(!is_unanswered(&consumer(absent)));
        assert!(is_unanswered(&publish(PublishErrorKind::StreamNotFound)));
        assert!(!is_unanswered(&publish(
            PublishErrorKind::WrongLastSequence
        )));
        assert!(!is_unanswered(&PutError::new(PutErrorKind::InvalidKey)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_unanswered_is_told_and_the_first_answer_is_taken() {
        let asked = Cell::new(0);
        let answers_from = |third: u32| {
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                let answer = match asked.get() >= third {
                    true => Ok(asked.get()),
                    false => Err(nobody_listens()),
                };
                async move { answer }
            }
        };
        assert_eq!(answered(answers_from(3)).await.expect("the third"), 3);
        asked.set(0);
        answered(answers_from(u32::MAX)).await.expect_err("never");
        assert!((20..40).contains(&asked.get()), "{}", asked.get());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_lost_is_not_awaited_for_long() {
        let asked = Cell::new(0);
        let loses_the_first = || {
            asked.set(asked.get() + 1);
            let number = asked.get();
            async move {
                if number == 1 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, WatchError>(number)
            }
        };
        let since = tokio::time::Instant::now();
        assert_eq!(answered(loses_the_first).await.expect("the second"), 2);
        assert!(since.elapsed().as_secs() < 3, "{:?}", since.elapsed());
    }
}
