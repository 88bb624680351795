use crate::exact::Sum;
use crate::mask::{mask_areal, mask_m2};
use crate::stats::{Seen, Tally};
use crate::{areal, error::Error, fork, real::Real, rule::Rule, stats::Stats, tokens::Tokens};

/// Mask, loss, gradient weights and statistics of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed<F = f32> {
    /// Derivative `dloss / dnew_i` per token; 0 where the token gets no gradient.
    ///
    /// Where the log-ratio is clamped, the derivative is still computed as if `r` were not
    /// constant: `-r A / N` with the clamped `r`. A token that ran away is thus pushed back, with
    /// bounded force.
    pub weight: Vec<F>,
    /// True for every token that is valid and that the rule kept.
    pub mask: Vec<bool>,
    /// Loss to be minimised, summed over the batch and divided by the rule's token count.
    pub loss: f64,
    /// Statistics of what the rule did to the batch.
    pub stats: Stats,
}

/// Contribution of one token to the loss, before division by the number of tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) loss: f64,
    /// Derivative `dloss / dnew` of the contribution.
    pub(crate) slope: f64,
    /// True if the token is excluded from [`Weighed::mask`].
    pub(crate) masked: bool,
    /// True if the token is in the mask but gets no gradient.
    pub(crate) clipped: bool,
}

impl Term {
    pub(crate) const MASKED: Self = Self {
        loss: 0.0,
        slope: 0.0,
        masked: true,
        clipped: false,
    };

    /// Returns the unclipped term `-r A`.
    pub(crate) fn open(ratio: f64, advantage: f64) -> Self {
        let loss = -ratio * advantage;
        Self {
            loss,
            slope: loss,
            masked: false,
            clipped: false,
        }
    }

    /// Returns the clipped term `-min(r A, clip(r, low, high) A)`. A clipped token counts as
    /// masked. At a bound, where both sides of the minimum are equal, the gradient passes.
    pub(crate) fn clip(ratio: f64, advantage: f64, (low, high): (f64, f64)) -> Self {
        let open = Self::open(ratio, advantage);
        let bounded = -ratio.max(low).min(high) * advantage;
        if bounded > open.loss {
            Self {
                loss: bounded,
                slope: 0.0,
                masked: true,
                clipped: false,
            }
        } else {
            open
        }
    }
}

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

/// [`weigh`] for tokens that stand in rows of `row` slots: `M2poFork` reads the sign of the
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
        Rule::None => Ok(accumulate(tokens, n_valid, |_, ratio, advantage| {
            Term::open(ratio, advantage)
        })),
    }
}

/// Sums `term(index, r, A)` over the valid tokens, with `r` clamped, and divides by `denominator`.
pub(crate) fn accumulate<F: Real>(
    tokens: &Tokens<'_, F>,
    denominator: f64,
    mut term: impl FnMut(usize, f64, f64) -> Term,
) -> Weighed<F> {
    let n = tokens.valid.len();
    let mut weight = vec![F::ZERO; n];
    let mut mask = vec![false; n];
    let mut loss = Sum::default();
    let mut tally = Tally::default();
    for index in (0..n).filter(|&index| tokens.valid[index]) {
        let log_ratio = tokens.log_ratio(index);
        let ratio = log_ratio.clamp(-tokens.clamp, tokens.clamp).exp();
        let term = term(index, ratio, tokens.advantage[index].into());
        loss.add(term.loss);
        weight[index] = F::narrow(term.slope / denominator);
        mask[index] = !term.masked;
        tally.add(&Seen {
            log_ratio,
            trust: tokens.is_trust(index),
            kept: !term.masked,
            clipped: term.clipped,
            clamped: log_ratio.abs() > tokens.clamp,
        });
    }
    let stats = tally.stats();
    let loss = if stats.n_valid == 0 {
        0.0
    } else {
        loss.value() / denominator
    };
    Weighed {
        weight,
        mask,
        loss,
        stats,
    }
}
