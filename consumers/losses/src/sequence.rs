//! Losses per row (one completion), and weights that are products over rows.

use crate::accumulate::{Term, Weighed, accumulate};
use crate::{
    error::Error, exact::Sum, proximal::around_prox, real::Real, rows::Rows, rule::Level,
    token::surrogate, tokens::Tokens, weights::step_scale,
};

/// Upper limit of the log of GSPO's ratio in verl.
const GSPO_LOG_LIMIT: f64 = 10.0;

/// Returns the weight `w`, or the product `W` of the row, of every token, within the clamp.
pub(crate) fn severities<F: Real>(
    tokens: &Tokens<'_, F>,
    level: Level,
    what: &'static str,
) -> Result<Vec<f64>, Error> {
    let all = 0..tokens.valid.len();
    let rows = match level {
        Level::Token => None,
        Level::Sequence => Some(Rows::of(tokens, what)?),
    };
    let log = |index| match &rows {
        None => tokens.log_severity(index),
        Some(rows) => rows.at(index).log_severity,
    };
    // Invalid tokens may hold any value, NaN too; nothing reads theirs.
    Ok(all.map(|index| tokens.clamped_exp(log(index))).collect())
}

/// Weighs a batch by PPO's clip over the rows that `keeps(mean)` accepts, where `mean` is the row's
/// mean of `of(log w)` over its valid tokens.
pub(crate) fn reject_rows<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    eps: Option<f64>,
    what: &'static str,
    of: impl Fn(f64) -> f64,
    keeps: impl Fn(f64) -> bool,
) -> Result<Weighed<F>, Error> {
    let rows = Rows::of(tokens, what)?;
    let mut sums = vec![Sum::default(); rows.len()];
    for index in (0..tokens.valid.len()).filter(|&index| tokens.valid[index]) {
        sums[rows.number(index)].add(of(tokens.log_severity(index)));
    }
    Ok(around_prox(tokens, n_valid, eps, None, |index| {
        let mean = sums[rows.number(index)].value() / rows.at(index).count;
        keeps(mean).then_some(1.0)
    }))
}

/// Weighs a batch by GRPO's clip, without tokens with `A < 0` in rows that the policy left behind.
pub(crate) fn sequence_mask<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    eps: f64,
    delta: f64,
) -> Result<Weighed<F>, Error> {
    let rows = Rows::of(tokens, "the sequence mask")?;
    let bounds = (1.0 - eps, 1.0 + eps);
    let mut weighed = accumulate(tokens, n_valid, |index, ratio, advantage| {
        let row = rows.at(index);
        if advantage < 0.0 && -row.log_ratio / row.count > delta {
            Term::MASKED
        } else {
            Term::clip(ratio, advantage, bounds)
        }
    });
    weighed.stats.ratio_bounds = Some(bounds);
    Ok(weighed)
}

pub(crate) fn gspo<F: Real>(
    tokens: &Tokens<'_, F>,
    low: f64,
    high: f64,
) -> Result<Weighed<F>, Error> {
    let rows = Rows::of(tokens, "GSPO")?;
    let bounds = (1.0 - low, 1.0 + high);
    let filled = rows.filled().count() as f64;
    let mut weighed = accumulate(tokens, filled, |index, _, advantage| {
        let row = rows.at(index);
        let ratio = tokens.clamped_exp((row.log_ratio / row.count).min(GSPO_LOG_LIMIT));
        Term::clip(ratio, advantage, bounds).shared(row.count)
    });
    weighed.stats.ratio_bounds = Some(bounds);
    Ok(weighed)
}

pub(crate) fn topr<F: Real>(tokens: &Tokens<'_, F>, n_valid: f64) -> Result<Weighed<F>, Error> {
    let rows = Rows::of(tokens, "TOPR")?;
    Ok(surrogate(tokens, n_valid, |index, _, advantage| {
        Some(if advantage < 0.0 {
            tokens.clamped_exp(rows.at(index).log_ratio).min(1.0)
        } else {
            1.0
        })
    }))
}

pub(crate) fn vespo<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    positive: (f64, f64),
    negative: (f64, f64),
) -> Result<Weighed<F>, Error> {
    let rows = Rows::of(tokens, "VESPO")?;
    Ok(surrogate(tokens, n_valid, |index, _, advantage| {
        let (power, decay) = if advantage < 0.0 { negative } else { positive };
        let log = rows.at(index).log_ratio.clamp(-tokens.clamp, tokens.clamp);
        // exp(700) is still finite, whatever the exponents are.
        Some((power * log + decay * (1.0 - log.exp())).min(700.0).exp())
    }))
}

/// Weighs a batch by truncated importance sampling of rows, and says how long the step may be.
pub(crate) fn vcpo<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    cap: f64,
    base: f64,
) -> Result<Weighed<F>, Error> {
    let rows = Rows::of(tokens, "VCPO")?;
    let weights = severities(tokens, Level::Sequence, "VCPO")?;
    let mut weighed = around_prox(tokens, n_valid, None, None, |index| {
        Some(weights[index].min(cap))
    });
    let logs = rows.filled().map(|row| row.log_severity);
    weighed.stats.step_scale = Some(step_scale(logs, base));
    Ok(weighed)
}

pub(crate) fn oapl<F: Real>(tokens: &Tokens<'_, F>, beta: f64) -> Result<Weighed<F>, Error> {
    let rows = Rows::of(tokens, "OAPL")?;
    let filled = rows.filled().count() as f64;
    Ok(accumulate(tokens, filled, |index, _, _| {
        let row = rows.at(index);
        let gap = beta * row.log_ratio - row.advantage / row.count;
        Term {
            // The row's loss, in equal parts on its tokens.
            loss: gap * gap / row.count,
            slope: 2.0 * beta * gap,
            masked: false,
            clipped: false,
        }
    }))
}
