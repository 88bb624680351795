use thiserror::Error;

/// Reason for which a batch or a rule was refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// Two slices of one batch differ in length.
    #[error(
        "cannot weigh the batch: `{field}` has {got} tokens and `new` has {expected}; pass slices \
         of one length"
    )]
    Length {
        /// Name of the slice with the deviating length.
        field: &'static str,
        /// Number of tokens in that slice.
        got: usize,
        /// Number of tokens in `new`.
        expected: usize,
    },
    /// The batch has more tokens than a 32-bit index can address.
    #[error("cannot weigh the batch: {tokens} tokens are more than 2^32 - 1; split the batch")]
    TooManyTokens {
        /// Number of tokens in the batch.
        tokens: usize,
    },
    /// A valid token has a NaN or an infinity in one of the slices.
    #[error(
        "cannot weigh the batch: `{field}` is {value} on valid token {index}; mark the token not \
         valid or mend the log-prob at its source (behaviour log-probs must be over the whole \
         vocabulary, not over a top-p or top-k support)"
    )]
    NonFinite {
        /// Name of the slice.
        field: &'static str,
        /// Index of the token in the batch, from 0.
        index: usize,
        /// Value of the slice at that token.
        value: f64,
    },
    /// The end of a row is before its beginning or past the last token.
    #[error(
        "cannot weigh the batch: row {row} ends at {end}, which is not between its beginning \
         {from} and the number of tokens {tokens}; give the ends of the rows in ascending order"
    )]
    RowEnd {
        /// Number of the row, from 0.
        row: usize,
        /// Index one past the row's last token, as given.
        end: usize,
        /// Index of the row's first token.
        from: usize,
        /// Number of tokens in the batch.
        tokens: usize,
    },
    /// The rule or statistic needs the rows of the batch, which are absent.
    #[error(
        "cannot weigh the batch: {what} is per sequence, and the batch does not say where its \
         rows end; pass `row_ends`"
    )]
    NoRows {
        /// Name of the rule or of the statistic.
        what: &'static str,
    },
    /// The penalty needs log-probs of a policy, which are absent.
    #[error(
        "cannot add the KL penalty: lambda is {lambda}, so a share of it is to the previous \
         policy, whose log-probs are absent; pass `previous` or set lambda to 1"
    )]
    NoPrevious {
        /// Share of the penalty that is to the reference.
        lambda: f64,
    },
    /// A setting of the rule is out of range.
    #[error("cannot use the rule: `{name}` is {value}; it must be {range}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Value of the setting.
        value: f64,
        /// Range of allowed values, in words.
        range: &'static str,
    },
    /// The batch makes the authors' released code crash, so [`crate::Rule::M2poFork`] has no
    /// result.
    #[error("the released code has no result for this batch: {reason}; use the paper's rule")]
    ForkUndefined {
        /// Cause of the crash in the released code.
        reason: &'static str,
    },
}
