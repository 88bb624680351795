use std::{fmt, time::Duration};

/// Class of a failed request, as metrics count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No connection, or one that ended in the middle of a reply.
    Unreachable,
    /// No reply in time.
    Timeout,
    /// Server that asks for patience: status 429 or 503.
    Busy,
    /// Failure inside the server: status 500 and above.
    ServerError,
    /// Request that the server refuses: any other status of 400 and above.
    Refused,
    /// Reply that is not JSON, or lacks what the protocol promises.
    Malformed,
    /// Lists of a reply whose lengths differ.
    LengthMismatch,
    /// Log-probs of other tokens than those sampled.
    IdMismatch,
    /// Token that the model's vocabulary lacks.
    OutOfVocabulary,
    /// Log-prob that is not finite, or above 0.
    BadLogprob,
    /// End of a completion that contradicts its tokens.
    BadFinish,
    /// Completion of another prompt than the one sent.
    PromptMismatch,
    /// Weight version that the run has not published.
    UnknownVersion,
    /// Weight version older than the server must hold.
    StaleVersion,
    /// Completion whose tokens cannot be told apart by their versions.
    MixedVersion,
}

impl Reason {
    /// Returns the label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::ServerError => "server_error",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::LengthMismatch => "length_mismatch",
            Self::IdMismatch => "id_mismatch",
            Self::OutOfVocabulary => "out_of_vocabulary",
            Self::BadLogprob => "bad_logprob",
            Self::BadFinish => "bad_finish",
            Self::PromptMismatch => "prompt_mismatch",
            Self::UnknownVersion => "unknown_version",
            Self::StaleVersion => "stale_version",
            Self::MixedVersion => "mixed_version",
        }
    }

    /// Returns what the failure says of the server.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Unreachable
            | Self::Timeout
            | Self::ServerError
            | Self::UnknownVersion
            | Self::StaleVersion => Verdict::Broken,
            Self::Busy => Verdict::Busy,
            Self::Refused => Verdict::Sound,
            Self::Malformed
            | Self::LengthMismatch
            | Self::IdMismatch
            | Self::OutOfVocabulary
            | Self::BadLogprob
            | Self::BadFinish
            | Self::PromptMismatch
            | Self::MixedVersion => Verdict::Wrong,
        }
    }
}

/// Judgement of a server after a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request was at fault.
    Sound,
    /// The server has too much to do.
    Busy,
    /// The server answered with what must not be used.
    Wrong,
    /// The server is gone, or does not hold the weights it should: it must be brought up again.
    Broken,
}

/// Failed request to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFault {
    /// Class of the failure.
    pub reason: Reason,
    /// Description: what was found, and what was expected.
    pub detail: String,
    /// HTTP status of a reply that is an error.
    pub status: Option<u16>,
    /// Time after which the server asks to be tried again.
    pub retry_after: Option<Duration>,
}

impl ServerFault {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            status: None,
            retry_after: None,
        }
    }
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for ServerFault {}
