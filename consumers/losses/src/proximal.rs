//! Losses around a proximal policy: the policy as it was when the batch began.

use crate::accumulate::{Term, Weighed, accumulate};
use crate::{real::Real, tokens::Tokens};

/// Weighs a batch by ReMix's Mix-PPG: PPO's clip around `c = pi_prox / pi_behav`, with a bound on
/// the loss of tokens with `A < 0` if `dual_clip` is given.
pub(crate) fn mix_ppg<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    eps: f64,
    dual_clip: Option<f64>,
) -> Weighed<F> {
    accumulate(tokens, n_valid, |index, ratio, advantage| {
        let center = tokens.clamped_exp(tokens.log_severity(index));
        let bounds = ((center - eps).max(0.0), center + eps);
        Term::clip(ratio, advantage, bounds).dual(advantage, dual_clip)
    })
}

/// Weighs a batch by `-w min(u A, clip(u, 1 - eps, 1 + eps) A)`, with `u = pi_theta / pi_prox` and
/// a constant `w` from `weight(index)`. `None` masks the token; without `eps` there is no clip.
///
/// `w` is a function of `pi_prox / pi_behav` in all rules of this shape: decoupled PPO, truncated
/// and masked importance sampling, and rejection of sequences.
pub(crate) fn around_prox<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    eps: Option<f64>,
    dual_clip: Option<f64>,
    weight: impl Fn(usize) -> Option<f64>,
) -> Weighed<F> {
    let prox = tokens.prox.unwrap_or(tokens.new);
    accumulate(tokens, n_valid, |index, _, advantage| {
        let Some(weight) = weight(index) else {
            return Term::MASKED;
        };
        let ratio = tokens.clamped_exp(tokens.new[index].into() - prox[index].into());
        let term = match eps {
            Some(eps) => Term::clip(ratio, advantage, (1.0 - eps, 1.0 + eps)),
            None => Term::open(ratio, advantage),
        };
        let term = term.dual(advantage, dual_clip);
        Term {
            loss: term.loss * weight,
            slope: term.slope * weight,
            ..term
        }
    })
}

/// Returns proximal log-probs between behaviour and new ones, without a forward pass (AReaL's
/// log-linear approximation, A-3PO, arXiv 2512.06547).
///
/// `log pi_prox = log pi_behav + a (log pi_theta - log pi_behav)` with `a = s / (s + 1)`, where `s`
/// is the token's staleness: the policy is taken to have moved as far with each of the `s` updates
/// since it sampled the token as with the one that is computed. A fresh token's proximal policy is
/// the one that sampled it. The three slices have one length; the result is as long as the
/// shortest.
pub fn interpolate_prox(new: &[f32], behavior: &[f32], staleness: &[u64]) -> Vec<f32> {
    let pairs = new.iter().zip(behavior).zip(staleness);
    pairs
        .map(|((&new, &behavior), &staleness)| {
            let (new, behavior) = (f64::from(new), f64::from(behavior));
            let share = staleness as f64 / (staleness as f64 + 1.0);
            (behavior + share * (new - behavior)) as f32
        })
        .collect()
}
