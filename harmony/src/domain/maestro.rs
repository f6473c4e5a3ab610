//! Runs scores against a topology, in order.

use tracing::{Instrument, info, info_span};

use super::error::ExecutorError;
use super::interpret::Outcome;
use super::inventory::Inventory;
use super::score::Score;
use super::topology::Topology;

/// Conducts: makes the topology ready once, then runs each registered score in order.
pub struct Maestro<T: Topology> {
    inventory: Inventory,
    topology: T,
    scores: Vec<Box<dyn Score<T>>>,
}

/// One score that was run, and what came of it.
#[derive(Debug)]
pub struct Performance {
    /// The score's name.
    pub score: String,
    /// What it did.
    pub outcome: Outcome,
}

impl<T: Topology> Maestro<T> {
    /// A maestro without scores.
    pub fn new(inventory: Inventory, topology: T) -> Self {
        Self {
            inventory,
            topology,
            scores: Vec::new(),
        }
    }

    /// Adds a score to the end.
    pub fn register(&mut self, score: Box<dyn Score<T>>) -> &mut Self {
        self.scores.push(score);
        self
    }

    /// The topology that scores run on.
    pub fn topology(&self) -> &T {
        &self.topology
    }

    /// The topology, to go on with.
    pub fn into_topology(self) -> T {
        self.topology
    }

    /// Makes the topology ready and runs every score, in the order of registration.
    ///
    /// # Errors
    /// The first failure, at which it stops; scores before it stay done and may be run again.
    pub async fn run(&self) -> Result<Vec<Performance>, ExecutorError> {
        self.topology.ensure_ready().await?;
        let mut performances = Vec::with_capacity(self.scores.len());
        for score in &self.scores {
            let name = score.name();
            let span = info_span!("score", name = %name, topology = %self.topology.name());
            let outcome = score
                .create_interpret()
                .execute(&self.inventory, &self.topology)
                .instrument(span)
                .await?;
            info!(score = %name, change = ?outcome.change, "{}", outcome.message);
            performances.push(Performance {
                score: name,
                outcome,
            });
        }
        Ok(performances)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::Maestro;
    use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
    use crate::domain::interpret::{Change, Interpret, Outcome};
    use crate::domain::inventory::Inventory;
    use crate::domain::score::Score;
    use crate::domain::topology::Topology;

    #[derive(Debug, thiserror::Error, PartialEq)]
    #[error("note {0} is out of range")]
    struct BadNote(u8);

    impl HintedError for BadNote {
        fn kind(&self) -> ErrorKind {
            ErrorKind::Failed
        }
    }

    struct Piano {
        played: Mutex<Vec<u8>>,
    }

    #[async_trait]
    impl Topology for Piano {
        fn name(&self) -> String {
            "piano".to_owned()
        }
        async fn ensure_ready(&self) -> Result<(), ExecutorError> {
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Note(u8);
    struct Play(u8);

    impl Score<Piano> for Note {
        fn name(&self) -> String {
            format!("Note({})", self.0)
        }
        fn create_interpret(&self) -> Box<dyn Interpret<Piano>> {
            Box::new(Play(self.0))
        }
    }

    #[async_trait]
    impl Interpret<Piano> for Play {
        async fn execute(&self, _: &Inventory, piano: &Piano) -> Result<Outcome, ExecutorError> {
            if self.0 > 87 {
                return Err(BadNote(self.0).into());
            }
            piano.played.lock().expect("not poisoned").push(self.0);
            Ok(Outcome::new(Change::Changed, "played"))
        }
    }

    #[tokio::test]
    async fn runs_in_order_and_stops_at_the_first_failure() {
        let piano = Piano {
            played: Mutex::new(Vec::new()),
        };
        let mut maestro = Maestro::new(Inventory::new("/unused"), piano);
        for note in [3, 1, 88, 2] {
            maestro.register(Box::new(Note(note)));
        }
        let error = maestro.run().await.expect_err("88 is out of range");
        assert_eq!(error.downcast_ref::<BadNote>(), Some(&BadNote(88)));
        let played = maestro.topology().played.lock().expect("not poisoned");
        assert_eq!(*played, vec![3, 1]);
    }
}
