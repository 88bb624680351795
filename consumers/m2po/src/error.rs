use thiserror::Error;

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// Two slices of one batch differ in length.
    #[error(
        "cannot weigh the batch: `{field}` has {got} tokens and `new` has {expected}; pass slices \
         of one length"
    )]
    Length {
        /// The odd slice.
        field: &'static str,
        /// Its length.
        got: usize,
        /// The length of `new`.
        expected: usize,
    },
    /// More tokens than an index of 32 bits can name.
    #[error("cannot weigh the batch: {tokens} tokens are more than 2^32 - 1; split the batch")]
    TooManyTokens {
        /// Tokens given.
        tokens: usize,
    },
    /// NaN or an infinity where a valid token needs a number.
    #[error(
        "cannot weigh the batch: `{field}` is {value} on valid token {index}; mark the token not \
         valid or mend the log-prob at its source (behaviour log-probs must be over the whole \
         vocabulary, not over a top-p or top-k support)"
    )]
    NonFinite {
        /// The slice.
        field: &'static str,
        /// The token, counted from 0.
        index: usize,
        /// What it holds.
        value: f64,
    },
    /// A setting of the rule is out of range.
    #[error("cannot use the rule: `{name}` is {value}; it must be {range}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// The released code crashes on this batch, so the `fork` variant has no answer.
    #[error("the released code has no result for this batch: {reason}; use the paper's rule")]
    ForkUndefined {
        /// What it trips over.
        reason: &'static str,
    },
}
