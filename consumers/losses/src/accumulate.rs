//! Sum of the tokens' terms: what every rule makes of a batch.

use crate::{
    exact::Sum,
    real::Real,
    stats::{Seen, Stats, Tally},
    tokens::Tokens,
};

/// Mask, loss, gradient weights and statistics of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed<F = f32> {
    /// Derivative `dloss / dnew_i` per token; 0 where the token gets no gradient. Masked tokens get
    /// none, except from terms that a rule has for all tokens ([`crate::Rule::Ipo`]).
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

    /// Returns the part of one of `count` tokens that share the term.
    pub(crate) fn shared(self, count: f64) -> Self {
        Self {
            loss: self.loss / count,
            slope: self.slope / count,
            ..self
        }
    }

    /// Bounds the loss of a token with `A < 0` at `-cap A` (dual clip, arXiv 1912.09729). A token at
    /// the bound counts as masked.
    pub(crate) fn dual(self, advantage: f64, cap: Option<f64>) -> Self {
        match cap {
            Some(cap) if advantage < 0.0 && self.loss > -cap * advantage => Self {
                loss: -cap * advantage,
                ..Self::MASKED
            },
            _ => self,
        }
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
