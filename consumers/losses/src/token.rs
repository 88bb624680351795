//! Losses per token that are no clip of PPO's.

use crate::accumulate::{Term, Weighed, accumulate};
use crate::{exact::Sum, real::Real, tokens::Tokens};

/// Weighs a batch by `-sg(w) A log pi`, with `w` from `weight(index, r, A)`. `None` masks the token.
pub(crate) fn surrogate<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    weight: impl Fn(usize, f64, f64) -> Option<f64>,
) -> Weighed<F> {
    accumulate(tokens, n_valid, |index, ratio, advantage| {
        let Some(weight) = weight(index, ratio, advantage) else {
            return Term::MASKED;
        };
        let slope = -weight * advantage;
        Term {
            loss: slope * tokens.new[index].into(),
            slope,
            masked: false,
            clipped: false,
        }
    })
}

/// Returns what the new policy gave a token more than behaviour did: `pi - mu`, from -1 to 1.
pub(crate) fn gained<F: Real>(tokens: &Tokens<'_, F>, index: usize, ratio: f64) -> f64 {
    let behavior: f64 = tokens.behavior[index].into();
    let mu = behavior.exp().min(1.0);
    // From the clamped ratio, so that it agrees with r; log-probs above 0 are none.
    (mu * ratio).min(1.0) - mu
}

pub(crate) fn ipo<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    distance: f64,
    square: f64,
) -> Weighed<F> {
    accumulate(tokens, n_valid, |index, ratio, advantage| {
        let log_ratio = tokens.log_ratio(index).clamp(-tokens.clamp, tokens.clamp);
        let term = if gained(tokens, index, ratio).abs() > distance {
            Term::MASKED
        } else {
            Term::open(ratio, advantage)
        };
        Term {
            loss: term.loss + square * log_ratio * log_ratio,
            slope: term.slope + 2.0 * square * log_ratio,
            ..term
        }
    })
}

pub(crate) fn drpo<F: Real>(tokens: &Tokens<'_, F>, n_valid: f64, delta: f64) -> Weighed<F> {
    accumulate(tokens, n_valid, |index, ratio, advantage| {
        let open = Term::open(ratio, advantage);
        let pull = advantage.abs() * gained(tokens, index, ratio) / delta;
        Term {
            loss: open.loss + pull * (ratio - 1.0) / 2.0,
            slope: open.slope + pull * ratio,
            ..open
        }
    })
}

pub(crate) fn sapo<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    positive: f64,
    negative: f64,
) -> Weighed<F> {
    accumulate(tokens, n_valid, |_, ratio, advantage| {
        let temperature = if advantage > 0.0 { positive } else { negative };
        let x = temperature * (ratio - 1.0);
        // Both are taken from exp, since 1 - sigmoid loses all its digits for large x.
        let (rises, falls) = (1.0 / (1.0 + (-x).exp()), 1.0 / (1.0 + x.exp()));
        Term {
            loss: -4.0 / temperature * rises * advantage,
            slope: -4.0 * rises * falls * ratio * advantage,
            masked: false,
            clipped: false,
        }
    })
}

pub(crate) fn dro<F: Real>(tokens: &Tokens<'_, F>, n_valid: f64, beta: f64) -> Weighed<F> {
    accumulate(tokens, n_valid, |index, _, advantage| {
        let log_ratio = tokens.log_ratio(index).clamp(-tokens.clamp, tokens.clamp);
        let log_prob: f64 = tokens.new[index].into();
        Term {
            loss: beta * log_ratio * log_ratio / 2.0 - advantage * log_prob,
            slope: beta * log_ratio - advantage,
            masked: false,
            clipped: false,
        }
    })
}

/// Weighs a batch by BAPO: PPO's clip between the bounds found for it.
pub(crate) fn bapo<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    (low, last_low): (f64, f64),
    (high, last_high): (f64, f64),
    step: f64,
    balance: f64,
) -> Weighed<F> {
    let mut terms: Vec<(f64, f64)> = (0..tokens.valid.len())
        .filter(|&index| tokens.valid[index])
        .map(|index| {
            let ratio = tokens.clamped_exp(tokens.log_ratio(index));
            (tokens.advantage[index].into(), ratio)
        })
        .collect();
    // In one order, so that the bounds do not depend on the order of the tokens.
    terms.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let is_balanced = |low: f64, high: f64| {
        let (mut good, mut bad) = (Sum::default(), Sum::default());
        for &(advantage, ratio) in &terms {
            if advantage < 0.0 {
                bad.add(ratio.max(low) * -advantage);
            } else {
                good.add(ratio.min(high) * advantage);
            }
        }
        good.value() >= balance * bad.value()
    };
    let (mut low, mut high) = (low, high);
    while !is_balanced(low, high) {
        if low < last_low {
            low = (low + step).min(last_low);
        } else if high < last_high {
            high = (high + step).min(last_high);
        } else {
            break;
        }
    }
    let bounds = (low, high);
    let mut weighed = accumulate(tokens, n_valid, |_, ratio, advantage| {
        Term::clip(ratio, advantage, bounds)
    });
    weighed.stats.ratio_bounds = Some(bounds);
    weighed
}
