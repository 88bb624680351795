//! Weighing of a batch: the rule decides which mask and which loss are taken.

use crate::{
    accumulate::{Term, Weighed, accumulate},
    areal,
    error::Error,
    fork,
    mask::{mask_areal, mask_m2},
    proximal::{around_prox, mix_ppg},
    real::Real,
    rows::Rows,
    rule::Rule,
    sequence::{self, severities},
    token::{self, surrogate},
    tokens::Tokens,
    weights::{prefix_weights, step_scale},
};

/// Weighs one optimizer batch by a rule.
///
/// The mask and `N_valid` are constants for the gradient. The whole batch is one unit: pass all of
/// its tokens, whatever micro-batches the backward pass uses. A batch without a valid token has
/// loss 0 and no gradient.
///
/// # Errors
/// Returns an error for slices of different lengths, more than 2^32 - 1 tokens, a setting out of
/// range, NaN or infinity on a valid token (which is named), absent rows if the rule is one per
/// sequence, and for `M2poFork` on batches that make the released code crash.
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
        Rule::M2poPaper { tau } => paper(tokens, n_valid, tau, |_, ratio| ratio),
        Rule::M2poRestoring {
            tau,
            low,
            high,
            base,
        } => {
            let rows = base.map(|_| Rows::of(tokens, "the effective share of rows"));
            let rows = rows.transpose()?;
            let mut weighed = paper(tokens, n_valid, tau, |index, ratio| {
                if tokens.is_trust(index) {
                    ratio
                } else {
                    ratio.max(low).min(high)
                }
            })?;
            weighed.stats.step_scale = rows
                .zip(base)
                .map(|(rows, base)| step_scale(rows.filled().map(|row| row.log_ratio), base));
            Ok(weighed)
        }
        Rule::M2poAreal {
            tau,
            eps,
            behavior_cap,
        } => {
            let mask = mask_areal(tokens, tau)?;
            Ok(areal::weigh(tokens, &mask, eps, behavior_cap))
        }
        Rule::M2poFork { tau } => fork::weigh(tokens, n_valid, tau, |index| {
            tokens.advantage[index / row * row]
        }),
        Rule::GrpoClip { eps } => Ok(clip(tokens, n_valid, (1.0 - eps, 1.0 + eps), None)),
        Rule::Clip {
            low,
            high,
            dual_clip,
        } => Ok(clip(tokens, n_valid, (1.0 - low, 1.0 + high), dual_clip)),
        Rule::Bapo {
            low,
            high,
            step,
            balance,
        } => Ok(token::bapo(tokens, n_valid, low, high, step, balance)),
        Rule::SequenceMask { eps, delta } => sequence::sequence_mask(tokens, n_valid, eps, delta),
        Rule::Gspo { low, high } => sequence::gspo(tokens, low, high),
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
        Rule::Tis { level, cap, eps } => {
            let weights = severities(tokens, level, "truncated importance sampling of rows")?;
            let weight = |index: usize| Some(weights[index].min(cap));
            Ok(around_prox(tokens, n_valid, eps, None, weight))
        }
        Rule::Mis {
            level,
            low,
            high,
            eps,
        } => {
            let weights = severities(tokens, level, "masked importance sampling of rows")?;
            let weight = |index: usize| {
                let weight = weights[index];
                (low..=high).contains(&weight).then_some(weight)
            };
            Ok(around_prox(tokens, n_valid, eps, None, weight))
        }
        Rule::GeometricRejection { low, high, eps } => {
            let keeps = |mean: f64| (low..=high).contains(&tokens.clamped_exp(mean));
            let what = "rejection by the geometric mean";
            sequence::reject_rows(tokens, n_valid, eps, what, |log| log, keeps)
        }
        Rule::K3Rejection { bound, eps } => {
            let k3 = |log: f64| {
                let log = log.clamp(-tokens.clamp, tokens.clamp);
                log.exp_m1() - log
            };
            let what = "rejection by KL";
            sequence::reject_rows(tokens, n_valid, eps, what, k3, |mean| mean <= bound)
        }
        Rule::Cispo { low, high } => Ok(surrogate(tokens, n_valid, |_, ratio, _| {
            Some(ratio.max(low).min(high))
        })),
        Rule::DppoTv { low, high, cap } => {
            Ok(surrogate(tokens, n_valid, |index, ratio, advantage| {
                let gained = token::gained(tokens, index, ratio);
                let is_far =
                    (advantage > 0.0 && gained > high) || (advantage < 0.0 && -gained > low);
                (!is_far).then_some(ratio.min(cap))
            }))
        }
        Rule::PrefixTis { cap } => {
            let weights = prefix_weights(tokens, cap)?;
            Ok(surrogate(tokens, n_valid, |index, _, _| {
                Some(weights[index])
            }))
        }
        Rule::Reinforce => Ok(surrogate(tokens, n_valid, |_, _, _| Some(1.0))),
        Rule::Topr => sequence::topr(tokens, n_valid),
        Rule::Vespo { positive, negative } => sequence::vespo(tokens, n_valid, positive, negative),
        Rule::Vcpo { cap, base } => sequence::vcpo(tokens, n_valid, cap, base),
        Rule::Oapl { beta } => sequence::oapl(tokens, beta),
        Rule::Ipo { distance, square } => Ok(token::ipo(tokens, n_valid, distance, square)),
        Rule::Drpo { delta } => Ok(token::drpo(tokens, n_valid, delta)),
        Rule::Sapo { positive, negative } => Ok(token::sapo(tokens, n_valid, positive, negative)),
        Rule::Dro { beta } => Ok(token::dro(tokens, n_valid, beta)),
        Rule::None => Ok(accumulate(tokens, n_valid, |_, ratio, advantage| {
            Term::open(ratio, advantage)
        })),
    }
}

/// Weighs a batch by the paper's mask; `weight` is that of a kept token with its ratio.
fn paper<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    tau: f64,
    weight: impl Fn(usize, f64) -> f64,
) -> Result<Weighed<F>, Error> {
    let paper = mask_m2(tokens, tau)?;
    let mut weighed = accumulate(tokens, n_valid, |index, ratio, advantage| {
        if paper.mask[index] {
            Term::open(weight(index, ratio), advantage)
        } else {
            Term::MASKED
        }
    });
    // Replaces the f64 means by the same means from exact sums.
    weighed.stats.m2_rule_before = paper.m2_before;
    weighed.stats.m2_rule_after = paper.m2_after;
    Ok(weighed)
}

/// Weighs a batch by PPO's clip around 1.
fn clip<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    bounds: (f64, f64),
    dual_clip: Option<f64>,
) -> Weighed<F> {
    let mut weighed = accumulate(tokens, n_valid, |_, ratio, advantage| {
        Term::clip(ratio, advantage, bounds).dual(advantage, dual_clip)
    });
    weighed.stats.ratio_bounds = Some(bounds);
    weighed
}
