//! Mistake that a test may switch on, to check that an audit detects it: plans are written too
//! late.

use std::sync::{Mutex, PoisonError};

use vintage_control::Plan;
use vintage_faults::mistake;

use super::Records;
use crate::error::Result;

/// Plan of the current update, which is not written yet. A process has one learner.
static HELD: Mutex<Option<Plan>> = Mutex::new(None);

/// Returns true if plans are to be written only after their updates were announced.
pub(super) fn is_late() -> bool {
    mistake("mistake.announce_first")
}

impl Records {
    /// Holds back `plan` until the next call, and writes the plan held back before.
    pub(super) async fn write_late(&self, plan: &Plan) -> Result<()> {
        let before = {
            let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            held.replace(plan.clone())
        };
        match before {
            Some(before) => self.claim(&before).await,
            None => Ok(()),
        }
    }
}
