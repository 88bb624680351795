//! Mistake that a test may switch on, to check that an audit detects it: existing objects are
//! replaced.

use vintage_faults::mistake;

use crate::folder::Guarantees;

/// Returns the guarantees of a store, without `fenced` if a test has seeded the mistake.
pub(crate) fn broken(guarantees: Guarantees) -> Guarantees {
    Guarantees {
        fenced: guarantees.fenced && !mistake("mistake.overwrite"),
        ..guarantees
    }
}
