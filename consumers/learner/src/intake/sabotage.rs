//! An intake as it must not be: a test orders it, to see that an audit finds what comes of it.

use vintage_faults::mistake;

use super::{Intake, ReadyGroup};

impl Intake {
    /// The first group chosen waits on, as if it had not been.
    pub(super) fn keep_first(&mut self, chosen: &[ReadyGroup]) {
        if mistake("mistake.train_twice") {
            self.ready.extend(chosen.first().cloned());
        }
    }

    /// Finishes a refused group without a plan that names it.
    pub(super) fn leave_out_refused(&mut self) {
        if mistake("mistake.silent_reject") {
            for refused in std::mem::take(&mut self.refused) {
                if let Some(update) = refused.refill() {
                    self.note_refill(update);
                }
                self.finish_refused(&refused.rejection);
            }
        }
    }
}
