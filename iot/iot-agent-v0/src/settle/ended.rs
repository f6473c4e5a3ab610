//! A container that has ended and is not started again.

use iot_contracts::Phase;

use super::Case;
use crate::container::{ContainerState, ObservedContainer};
use crate::plan::Verdict;

impl Case<'_> {
    /// It has ended with `code`, and its score asks for no other run.
    pub(super) fn ended(
        &self,
        current: &ObservedContainer,
        previous: Option<&ObservedContainer>,
        code: i32,
    ) -> Verdict {
        if current.is_done() {
            let finding = (Phase::Running, "has ended with code 0".to_owned());
            return self.verdict(self.clear_away(previous), Some(finding));
        }
        match previous.filter(|previous| previous.state != ContainerState::Between) {
            Some(previous) if !self.is_proven(current) => self.give_up(current, previous),
            _ => {
                let text = format!("exited with code {code}, and is not to be started again");
                self.verdict(Vec::new(), Some((Phase::Failed, text)))
            }
        }
    }
}
