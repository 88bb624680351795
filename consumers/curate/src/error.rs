use thiserror::Error;
use vintage_control::Fault;

use crate::candidate::CandidateId;

/// Reason for which a curator or an operation on it was refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("cannot set up the curator: `{name}` is {value}; it must be {range}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Value of the setting.
        value: f64,
        /// Range of allowed values, in words.
        range: &'static str,
    },
    /// A candidate of this id is in the live set already.
    #[error("cannot insert candidate {0}: it is in the live set already; delete it first")]
    Known(CandidateId),
    /// No candidate of this id is in the live set.
    #[error(
        "cannot delete candidate {0}: it is not in the live set; delete each candidate once, and \
         none that has expired"
    )]
    Unknown(CandidateId),
    /// A number of a candidate is not finite, or negative where it must not be.
    #[error("cannot insert candidate {id}: its {what} is {value}; it must be {range}")]
    Value {
        /// Id of the candidate.
        id: CandidateId,
        /// Name of the number.
        what: &'static str,
        /// Value of the number.
        value: f64,
        /// Range of allowed values, in words.
        range: &'static str,
    },
    /// The sketch of a candidate has another length than the anchors.
    #[error(
        "cannot compare a sketch of {got} numbers with anchors of {expected}; sketch both by one \
         function"
    )]
    Sketch {
        /// Length of the sketch.
        got: usize,
        /// Length of the anchors.
        expected: usize,
    },
}

impl Error {
    /// Returns the party at fault: the user for a setting, the program for anything else.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Setting { .. } => Fault::User,
            _ => Fault::Internal,
        }
    }
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
