use crate::reward::FailureReason;

/// Reason for which the running command cannot be used any further.
#[derive(Debug)]
pub(crate) struct CommandFault {
    pub(crate) reason: FailureReason,
    pub(crate) detail: String,
}
