//! What the device has: its containers, and beside them what only some of them depend on.

use std::collections::{BTreeMap, BTreeSet};

use iot_contracts::ImageReference;

use crate::desired::DesiredState;
use crate::error::chain;
use crate::plan::{World, images_in_question};
use crate::questions::Questions;
use crate::reconcile::Executor;
use crate::room::Space;

/// Looks at the device.
pub struct Sight<'a, E> {
    executor: &'a E,
    images: Questions<'a, ImageReference, Result<bool, String>>,
    space: Questions<'a, (), Option<Space>>,
}

impl<'a, E: Executor> Sight<'a, E> {
    /// Has seen nothing yet.
    pub fn new(executor: &'a E) -> Self {
        Self {
            executor,
            images: Questions::default(),
            space: Questions::default(),
        }
    }

    /// What is there; how much room for images there is, where one has to be pulled, or one `pulls` already. Only what runs has to be known: an image that cannot be asked for, or only slowly, is one of which it
    /// is not known yet whether it is there. Can be dropped at any time.
    ///
    /// # Errors
    ///
    /// The containers cannot be seen.
    pub async fn look(&mut self, target: &DesiredState, pulls: bool) -> Result<World, E::Error> {
        let executor = self.executor;
        let containers = executor.observe().await?;
        let ask = |image: ImageReference| async move {
            let found = executor.has_image(&image).await;
            found.map_err(|error| chain(&error))
        };
        let questions = images_in_question(target, &containers);
        let answers = self.images.answers(questions, ask).await;
        let (mut images, mut unseen) = (BTreeMap::new(), BTreeMap::new());
        for (image, found) in answers {
            match found {
                Ok(is_there) => {
                    images.insert(image, is_there);
                }
                Err(error) => {
                    unseen.insert(image, error);
                }
            }
        }
        let question = match pulls || images.values().any(|is_there| !is_there) {
            true => BTreeSet::from([()]),
            false => BTreeSet::new(),
        };
        let ask = |()| executor.space();
        let space = self.space.answers(question, ask).await;
        Ok(World {
            containers,
            images,
            unseen,
            orphans: executor.orphans(),
            space: space.into_values().next().flatten(),
        })
    }

    /// Waits for what a look was not told in time; for ever while it was told everything. Can be dropped at any time.
    pub async fn late(&mut self) {
        tokio::select! {
            () = self.images.late() => {}
            () = self.space.late() => {}
        }
    }
}
