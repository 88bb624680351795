//! Mistake that a test may switch on, to check that an audit detects it: plans are written too
//! late.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use vintage_control::Plan;
use vintage_faults::mistake;

use super::Records;
use crate::error::Result;

/// Number of plans held back. An update is recorded while the next one is computed, thus after that
/// one's plan: with fewer, its own plan would be there before it is announced.
const HELD_PLANS: usize = 2;

/// Plans that are not written yet, oldest first. A process has one learner.
static HELD: Mutex<VecDeque<Plan>> = Mutex::new(VecDeque::new());

/// Returns true if plans are to be written only after their updates were announced.
pub(super) fn is_late() -> bool {
    mistake("mistake.announce_first")
}

impl Records {
    /// Holds back `plan`, and writes the oldest one held back if they are more than
    /// [`HELD_PLANS`].
    pub(super) async fn write_late(&self, plan: &Plan) -> Result<()> {
        let due = {
            let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            held.push_back(plan.clone());
            if held.len() > HELD_PLANS {
                held.pop_front()
            } else {
                None
            }
        };
        match due {
            Some(due) => self.claim(&due).await,
            None => Ok(()),
        }
    }
}
