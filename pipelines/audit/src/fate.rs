//! Fate of a group, and what is to be expected of a group that is found nowhere.

use vintage_control::{RejectReason, UpdateNumber};

/// Fate of a group according to the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No plan names the group.
    Open,
    /// Trained by the plan of this update.
    Trained(UpdateNumber),
    /// Rejected by the plan of this update, with the reason.
    Rejected(UpdateNumber, RejectReason),
}

/// Expectation about acknowledged groups that are found nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Possible: the log is lost with its process, as the embedded one is. Counted, and no breach.
    WithItsLog,
    /// Too early to say: the log is inside a process that runs. Counted as in flight.
    NotYet,
    /// Impossible: the log keeps what it acknowledged. Counted, and a breach.
    Never,
}
