//! Weighing of a batch: the rule decides which mask and which loss are taken.

use crate::{
    accumulate::{Term, Weighed, accumulate},
    areal,
    error::Error,
    fork,
    mask::{mask_areal, mask_m2},
    proximal::{around_prox, mix_ppg},
    real::Real,
    rule::Rule,
    tokens::Tokens,
};

/// Weighs one optimizer batch by a rule.
///
/// The mask and `N_valid` are constants for the gradient. The whole batch is one unit: pass all of
/// its tokens, whatever micro-batches the backward pass uses. A batch without a valid token has
/// loss 0 and no gradient.
///
/// # Errors
/// Returns an error for slices of different lengths, more than 2^32 - 1 tokens, a setting out of
/// range, NaN or infinity on a valid token (which is named), and for `M2poFork` on batches that
/// make the released code crash.
pub fn weigh<F: Real>(rule: &Rule, tokens: &Tokens<'_, F>) -> Result<Weighed<F>, Error> {
    weigh_rows(rule, tokens, 1)
}

/// [`weigh`] for tokens that are in rows of `row` slots: `M2poFork` reads the sign of the
/// advantage from the first slot of a row, as the released code does.
///
/// # Errors
/// As [`weigh`].
pub fn weigh_rows<F: Real>(
    rule: &Rule,
    tokens: &Tokens<'_, F>,
    row: usize,
) -> Result<Weighed<F>, Error> {
    rule.check()?;
    tokens.check_lengths()?;
    tokens.check_clamp()?;
    tokens.check_finite(0..tokens.valid.len())?;
    let n_valid = tokens.valid.iter().filter(|&&valid| valid).count() as f64;
    match *rule {
        Rule::M2poPaper { tau } => {
            let paper = mask_m2(tokens, tau)?;
            let mut weighed = accumulate(tokens, n_valid, |index, ratio, advantage| {
                if paper.mask[index] {
                    Term::open(ratio, advantage)
                } else {
                    Term::MASKED
                }
            });
            // Replaces the f64 means by the same means from exact sums.
            weighed.stats.m2_rule_before = paper.m2_before;
            weighed.stats.m2_rule_after = paper.m2_after;
            Ok(weighed)
        }
        Rule::M2poAreal {
            tau,
            eps,
            behavior_cap,
        } => Ok(areal::weigh(
            tokens,
            &mask_areal(tokens, tau)?,
            eps,
            behavior_cap,
        )),
        Rule::M2poFork { tau } => fork::weigh(tokens, n_valid, tau, |index| {
            tokens.advantage[index / row * row]
        }),
        Rule::GrpoClip { eps } => {
            let bounds = (1.0 - eps, 1.0 + eps);
            let mut weighed = accumulate(tokens, n_valid, |_, ratio, advantage| {
                Term::clip(ratio, advantage, bounds)
            });
            weighed.stats.ratio_bounds = Some(bounds);
            Ok(weighed)
        }
        Rule::MixPpg { eps, dual_clip } => Ok(mix_ppg(tokens, n_valid, eps, dual_clip)),
        Rule::DecoupledPpo {
            eps,
            dual_clip,
            cap,
        } => Ok(around_prox(
            tokens,
            n_valid,
            Some(eps),
            dual_clip,
            |index| {
                let weight = tokens.clamped_exp(tokens.log_severity(index));
                cap.is_none_or(|cap| weight <= cap).then_some(weight)
            },
        )),
        Rule::None => Ok(accumulate(tokens, n_valid, |_, ratio, advantage| {
            Term::open(ratio, advantage)
        })),
    }
}
