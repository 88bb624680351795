use std::collections::BTreeMap;

use crate::stats::{Seen, Stats, Tally};
use crate::{error::Error, real::Real, tokens::Tokens};

/// Splits the statistics of a weighed batch into strata, such as ranges of staleness.
///
/// `mask` is [`crate::Weighed::mask`] of the batch. `stratum` returns the stratum of token i and is
/// called for valid tokens only. The result is for reports: M2PO itself reads no version number.
/// The `m2_rule_*` fields equal `m2_trust_*`, `n_clipped` is 0 and `ratio_bounds` is absent.
///
/// # Errors
/// Returns an error for slices of different lengths and for more than 2^32 - 1 tokens.
pub fn stratify<F: Real>(
    tokens: &Tokens<'_, F>,
    mask: &[bool],
    stratum: impl Fn(usize) -> u64,
) -> Result<BTreeMap<u64, Stats>, Error> {
    tokens.check_lengths()?;
    if mask.len() != tokens.valid.len() {
        let (got, expected) = (mask.len(), tokens.valid.len());
        return Err(Error::Length {
            field: "mask",
            got,
            expected,
        });
    }
    let mut tallies: BTreeMap<u64, Tally> = BTreeMap::new();
    for index in (0..mask.len()).filter(|&index| tokens.valid[index]) {
        let log_ratio = tokens.log_ratio(index);
        tallies.entry(stratum(index)).or_default().add(&Seen {
            log_ratio,
            trust: tokens.is_trust(index),
            kept: mask[index],
            clipped: false,
            clamped: log_ratio.abs() > tokens.clamp,
        });
    }
    Ok(tallies
        .iter()
        .map(|(&key, tally)| (key, tally.stats()))
        .collect())
}
