//! Statistics of importance weights: effective sample size and clipped concentrability.

use crate::{error::Error, exact::Sum, ranges::positive, real::Real, rows::Rows, tokens::Tokens};

/// Statistics of the weights `pi_theta / pi_behav` of a batch; each is 1 over no tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightStats {
    /// Number of rows with a valid token.
    pub n_rows: u64,
    /// Effective share of rows: `(sum R)^2 / (B sum R^2)`, with the weight `R` of a whole row and
    /// no clamp.
    pub effective_rows: f64,
    /// Effective share of tokens: `(sum r)^2 / (N sum r^2)`, without a clamp.
    pub effective_tokens: f64,
    /// Clipped concentrability of rows under the new policy (HyGLOW, arXiv 2401.09681), `E_pi[min(R, C)]` with
    /// [`CAP`] as C, estimated from rows that the old one sampled: `sum R min(R / mean R, C) / sum R`. 1 if all rows
    /// count alike; near C, most of what the new policy does is hardly in the batch.
    pub concentrability: f64,
}

/// Cap of [`WeightStats::concentrability`].
pub const CAP: f64 = 10.0;

/// Returns the statistics of a batch's weights.
///
/// Without its cap, the concentrability is `1 + chi^2`, the inverse of the effective share of rows.
///
/// # Errors
/// Returns an error for slices of different lengths, absent rows, NaN or infinity on a valid token, and a
/// clamp out of range.
pub fn weight_stats<F: Real>(tokens: &Tokens<'_, F>) -> Result<WeightStats, Error> {
    tokens.check_lengths()?;
    tokens.check_clamp()?;
    tokens.check_finite(0..tokens.valid.len())?;
    let rows = Rows::of(tokens, "the statistics of weights")?;
    let valid = (0..tokens.valid.len()).filter(|&index| tokens.valid[index]);
    let of_rows = || rows.filled().map(|row| row.log_ratio);
    Ok(WeightStats {
        n_rows: rows.filled().count() as u64,
        effective_rows: effective_share(of_rows()),
        effective_tokens: effective_share(valid.map(|index| tokens.log_ratio(index))),
        concentrability: concentrability(of_rows(), CAP),
    })
}

/// Returns the clipped prefix weight `min(r_1 ... r_t, cap)` of every token, with the product over
/// the valid tokens of its row up to the token itself; 0 at tokens that are not valid.
///
/// # Errors
/// As [`weight_stats`], and for a cap out of range.
pub fn prefix_weights<F: Real>(tokens: &Tokens<'_, F>, cap: f64) -> Result<Vec<f64>, Error> {
    positive("cap", cap)?;
    tokens.check_lengths()?;
    tokens.check_clamp()?;
    tokens.check_finite(0..tokens.valid.len())?;
    let ends = tokens.row_ends.ok_or(Error::NoRows {
        what: "the prefix weight",
    })?;
    let mut weights = vec![0.0; tokens.valid.len()];
    let mut from = 0;
    for &end in ends {
        let mut log = 0.0;
        for index in (from..end).filter(|&index| tokens.valid[index]) {
            log += tokens.log_ratio(index);
            weights[index] = tokens.clamped_exp(log).min(cap);
        }
        from = end;
    }
    Ok(weights)
}

/// Returns HyGLOW's cap at update `t`, `gamma t` within 1 and `largest`. No evidence from language
/// models says which `gamma` is good; 0.1 to 0.5 were fine on a combination lock.
pub fn prefix_cap(gamma: f64, t: u64, largest: f64) -> f64 {
    (gamma * t as f64).min(largest).max(1.0)
}

/// Returns the effective share `(sum w)^2 / (n sum w^2)` of weights given by their logs; 1 for none.
fn effective_share(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let (mut sum, mut squares, mut count) = (Sum::default(), Sum::default(), 0_u64);
    for weight in relative(logs) {
        sum.add(weight);
        squares.add(weight * weight);
        count += 1;
    }
    if count == 0 {
        1.0
    } else {
        sum.value() * sum.value() / (count as f64 * squares.value())
    }
}

/// Returns weights given by their logs, relative to the largest one, so that none overflows.
fn relative(logs: impl Iterator<Item = f64> + Clone) -> impl Iterator<Item = f64> {
    let largest = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    logs.map(move |log| (log - largest).exp())
}

/// Returns `sum w min(w / mean w, cap) / sum w` of weights given by their logs; 1 for none.
fn concentrability(logs: impl Iterator<Item = f64> + Clone, cap: f64) -> f64 {
    let (mut total, mut count) = (Sum::default(), 0_u64);
    for weight in relative(logs.clone()) {
        total.add(weight);
        count += 1;
    }
    if count == 0 {
        return 1.0;
    }
    let (total, mut sum) = (total.value(), Sum::default());
    for weight in relative(logs) {
        sum.add(weight * (weight * count as f64 / total).min(cap));
    }
    sum.value() / total
}

/// Returns the factor of the step of a rule that wants it shorter where the effective share of rows is under `base`.
pub(crate) fn step_scale(logs: impl Iterator<Item = f64> + Clone, base: f64) -> f64 {
    (effective_share(logs) / base).min(1.0).sqrt()
}
