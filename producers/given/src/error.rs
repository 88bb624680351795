use vintage_control::Fault;

/// Error of a program that gives completions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Value that does not fit; nothing of the group was taken.
    #[error("{field} {problem}")]
    Refused {
        /// Field, with row and token where they matter, such as `logprobs[2][7]`.
        field: String,
        /// Problem, and what to do.
        problem: String,
    },
    /// Slot that was answered before, or was never handed out.
    #[error(
        "the group {group} is not open: it was written or given up before, or is of another writer; \
         a slot is written once"
    )]
    NotOpen {
        /// Id of the group.
        group: String,
    },
}

impl Error {
    /// Returns whose fault the error is.
    pub fn fault(&self) -> Fault {
        Fault::User
    }

    pub(crate) fn refused(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Refused {
            field: field.into(),
            problem: problem.into(),
        }
    }
}
