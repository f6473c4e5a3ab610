//! Waiting for what tells nobody when it comes: looking again and again, up to a bound.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What one look has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look<T> {
    /// It has come.
    Done(T),
    /// It has not; what was seen instead.
    NotYet(String),
}

/// Looks until it has come. There is a pause between two looks, which may depend on how long has been waited, and a last
/// look after the bound; `timed_out` makes the error of what that saw.
///
/// # Errors
/// The first error of a look, or that of the bound.
pub async fn until<T, E, F: Future<Output = Result<Look<T>, E>>>(
    bound: Duration,
    pause: impl Fn(Duration) -> Duration,
    // An `AsyncFnMut` would do, but what waits for one cannot be sent to another thread.
    mut look: impl FnMut() -> F,
    timed_out: impl FnOnce(String) -> E,
) -> Result<T, E> {
    let since = Instant::now();
    loop {
        let seen = match look().await? {
            Look::Done(found) => return Ok(found),
            Look::NotYet(seen) => seen,
        };
        let waited = since.elapsed();
        if waited >= bound {
            return Err(timed_out(seen));
        }
        sleep(pause(waited)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Look, until};

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn it_looks_until_it_has_come() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            let seen = match looks {
                3 => Look::Done("here"),
                _ => Look::NotYet(format!("{looks}")),
            };
            async { Ok(seen) }
        };
        let found = until(Duration::from_secs(60), |_| MS, look, |seen| seen).await;
        assert_eq!((found, looks), (Ok("here"), 3));
    }

    #[tokio::test]
    async fn the_bound_ends_it_with_what_was_seen_last() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            let seen = Look::<()>::NotYet(format!("look {looks}"));
            async { Ok(seen) }
        };
        let ended = until(20 * MS, |waited| waited.max(MS), look, |seen| seen).await;
        assert_eq!(ended, Err(format!("look {looks}")));
        assert!((2..=20).contains(&looks), "{looks}");
        let mut looks = 0;
        let look = || {
            looks += 1;
            async { Ok(Look::<()>::NotYet(String::new())) }
        };
        let ended = until(Duration::ZERO, |_| MS, look, |seen| seen).await;
        assert_eq!((ended, looks), (Err(String::new()), 1));
    }

    #[tokio::test]
    async fn an_error_ends_it_at_once() {
        let look = || async { Err::<Look<()>, _>("broken") };
        let ended = until(Duration::from_secs(60), |_| MS, look, |_| "late").await;
        assert_eq!(ended, Err("broken"));
    }
}
