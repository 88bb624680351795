use std::collections::BTreeMap;

use crate::stats::{Seen, Stats, Tally};
use crate::{Error, Real, Tokens};

/// The statistics of a weighed batch split into strata, such as ranges of staleness.
///
/// `mask` is [`crate::Weighed::mask`] of the same batch and `stratum` names the stratum of token i;
/// it is asked for valid tokens only. M2PO itself reads no version number: this is for reports.
/// The `m2_rule_*` fields repeat `m2_trust_*`, `n_clipped` is 0 and `ratio_bounds` absent.
///
/// # Errors
/// Slices of unlike lengths.
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
