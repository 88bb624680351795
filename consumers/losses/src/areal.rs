//! AReaL's loss: PPO's clipped loss around the proximal policy, over the tokens that AReaL's mask
//! kept.

use crate::accumulate::{Term, Weighed, accumulate};
use crate::mask::SecondMomentMask;
use crate::{real::Real, tokens::Tokens};

/// Weighs a batch by AReaL's loss `-w min(u A, clip(u, 1 - eps, 1 + eps) A) / kept`, with
/// `u = pi_theta / pi_prox`, and `w = pi_prox / pi_behav` if `behavior_cap` is given, else 1.
///
/// Tokens with `w` above the cap add nothing to the loss but still count in the divisor `kept`,
/// since AReaL counts the tokens before it rejects any.
pub(crate) fn weigh<F: Real>(
    tokens: &Tokens<'_, F>,
    kept: &SecondMomentMask,
    eps: f64,
    behavior_cap: Option<f64>,
) -> Weighed<F> {
    let bounds = (1.0 - eps, 1.0 + eps);
    let prox = tokens.prox.unwrap_or(tokens.new);
    let clamped_exp = |x: f64| x.clamp(-tokens.clamp, tokens.clamp).exp();
    let denominator = kept.mask.iter().filter(|&&kept| kept).count().max(1) as f64;
    let mut weighed = accumulate(tokens, denominator, |index, _, advantage| {
        if !kept.mask[index] {
            return Term::MASKED;
        }
        let prox: f64 = prox[index].into();
        let ratio = clamped_exp(tokens.new[index].into() - prox);
        let clip = Term::clip(ratio, advantage, bounds);
        let weight = match behavior_cap {
            None => 1.0,
            Some(cap) => {
                let weight = clamped_exp(prox - tokens.behavior[index].into());
                if weight <= cap { weight } else { 0.0 }
            }
        };
        Term {
            loss: clip.loss * weight,
            slope: clip.slope * weight,
            masked: false,
            clipped: clip.masked || weight == 0.0,
        }
    });
    weighed.stats.m2_rule_before = kept.m2_before;
    weighed.stats.m2_rule_after = kept.m2_after;
    weighed.stats.ratio_bounds = Some(bounds);
    weighed
}
