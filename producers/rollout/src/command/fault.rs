use crate::reward::FailureReason;

/// Reason for which the running command cannot be used any further.
#[derive(Debug)]
pub(super) struct CommandFault {
    pub(super) reason: FailureReason,
    pub(super) detail: String,
}
