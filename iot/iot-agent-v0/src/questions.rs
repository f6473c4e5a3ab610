//! Questions whose answers nothing may wait for.
//!
//! They are asked beside each other, some at a time. Who asks waits a moment for the answers, and is given at its next
//! time what is answered later: one question that is never answered delays nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

/// The most questions that are asked at a time.
const MAX_ASKED: usize = 8;

/// How long is waited for the answers to questions that are new.
pub const PATIENCE: Duration = Duration::from_secs(3);

type Asking<'a, Q, A> = Pin<Box<dyn Future<Output = (Q, A)> + 'a>>;

/// Questions of one kind, with their answers.
pub struct Questions<'a, Q, A> {
    asking: FuturesUnordered<Asking<'a, Q, A>>,
    asked: BTreeSet<Q>,
    answers: BTreeMap<Q, A>,
    /// The one that was asked last: the next one in the order follows, so that each has its turn.
    last: Option<Q>,
}

impl<Q, A> Default for Questions<'_, Q, A> {
    fn default() -> Self {
        Self {
            asking: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            answers: BTreeMap::new(),
            last: None,
        }
    }
}

impl<'a, Q: Ord + Clone + 'a, A: 'a> Questions<'a, Q, A> {
    /// The answers to those of `questions` that are answered. What was answered since the last time is not asked again.
    /// Can be dropped at any time.
    pub async fn answers<F: Future<Output = A> + 'a>(
        &mut self,
        questions: BTreeSet<Q>,
        ask: impl Fn(Q) -> F,
    ) -> BTreeMap<Q, A> {
        self.answers
            .retain(|question, _| questions.contains(question));
        let is_new =
            |question: &Q| !self.answers.contains_key(question) && !self.asked.contains(question);
        let mut new: BTreeSet<_> = questions.into_iter().filter(is_new).collect();
        let mut waiting: VecDeque<_> = new.iter().cloned().collect();
        let turn = waiting.partition_point(|question| Some(question) <= self.last.as_ref());
        waiting.rotate_left(turn);
        let end = Instant::now() + PATIENCE;
        loop {
            while self.asking.len() < MAX_ASKED
                && let Some(question) = waiting.pop_front()
            {
                self.last = Some(question.clone());
                self.asked.insert(question.clone());
                let answer = ask(question.clone());
                self.asking
                    .push(Box::pin(async move { (question, answer.await) }));
            }
            let until = match new.is_empty() {
                true => Instant::now(),
                false => end,
            };
            tokio::select! {
                biased;
                Some((question, answer)) = self.asking.next() => {
                    new.remove(&question);
                    self.answered(question, answer);
                }
                () = sleep_until(until) => break,
            }
        }
        std::mem::take(&mut self.answers)
    }

    /// Waits for an answer that came too late; for ever while there is nothing to be answered. Can be dropped at any time.
    pub async fn late(&mut self) {
        match self.asking.next().await {
            Some((question, answer)) => self.answered(question, answer),
            None => pending().await,
        }
    }

    fn answered(&mut self, question: Q, answer: A) {
        self.asked.remove(&question);
        self.answers.insert(question, answer);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{MAX_ASKED, PATIENCE, Questions};

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_late_is_given_the_next_time_and_not_asked_again() {
        let asked = RefCell::new(Vec::new());
        let ask = |question: u32| {
            asked.borrow_mut().push(question);
            async move {
                sleep(LONG * question).await;
                question * 10
            }
        };
        let mut questions = Questions::default();
        let begin = Instant::now();
        let answers = questions.answers([0, 1].into(), ask).await;
        assert_eq!(answers, BTreeMap::from([(0, 0)]));
        assert_eq!(begin.elapsed(), PATIENCE);
        // Only what is new is waited for.
        let answers = questions.answers([0, 1].into(), ask).await;
        assert_eq!(answers, BTreeMap::from([(0, 0)]));
        assert_eq!(begin.elapsed(), PATIENCE);
        questions.late().await;
        assert_eq!(begin.elapsed(), LONG);
        let answers = questions.answers([1].into(), ask).await;
        assert_eq!(answers, BTreeMap::from([(1, 10)]));
        assert_eq!(*asked.borrow(), [0, 1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_answered_keeps_no_other_one_from_its_turn() {
        let last = 3 * u32::try_from(MAX_ASKED).unwrap();
        let ask = async |question: u32| match question == last {
            true => Ok(()),
            false => {
                sleep(LONG).await;
                Err(())
            }
        };
        let mut questions = Questions::default();
        for _ in 0..4 {
            let answers = questions.answers((0..=last).collect(), ask).await;
            if answers.get(&last) == Some(&Ok(())) {
                return;
            }
            sleep(LONG).await;
        }
        panic!("it was not asked");
    }
}
