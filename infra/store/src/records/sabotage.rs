//! Records as they must not be: a test orders it, to see that an audit finds what comes of it.

use std::sync::{Mutex, PoisonError};

use vintage_control::Plan;
use vintage_faults::mistake;

use super::Records;
use crate::error::Result;

/// The plan of the update that is being run, which nobody has written. A process has one learner.
static HELD: Mutex<Option<Plan>> = Mutex::new(None);

/// Whether a plan is written when its update is long announced.
pub(super) fn is_late() -> bool {
    mistake("mistake.announce_first")
}

impl Records {
    /// Writes the plan before `plan`, which waits for the next.
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
