//! Rule of the authors' released code: one cap on `|log r|`, applied as a PPO clip.

mod exp32;

use crate::accumulate::{Term, Weighed, accumulate};
use crate::{error::Error, real::Real, tokens::Tokens};

/// Tolerance that the released code uses in every comparison.
const SLACK: f64 = 1e-12;
/// Constant that the released code adds to the number of tokens before it divides.
const COUNT_SLACK: f64 = 1e-8;
/// Bounds on `r` that the released code uses when nothing has to be clipped.
const OPEN: (f64, f64) = (0.0, 100_000.0);

/// Clips the ratio to `[exp(-c), exp(c)]`, where `c` is the cap of the released code, and takes the
/// mean over `n_valid + 1e-8`.
///
/// `sign_of(i)` returns the advantage whose sign decides whether token i is in `T`. The released
/// code takes it from the first column of the token's sequence.
pub(crate) fn weigh<F: Real>(
    tokens: &Tokens<'_, F>,
    n_valid: f64,
    tau: f64,
    sign_of: impl Fn(usize) -> F,
) -> Result<Weighed<F>, Error> {
    let mut squares = Vec::new();
    for index in (0..tokens.valid.len()).filter(|&index| tokens.valid[index]) {
        let advantage: f64 = sign_of(index).into();
        let log_ratio = tokens.log_ratio(index);
        let ratio = log_ratio.clamp(-tokens.clamp, tokens.clamp).exp();
        if (advantage > SLACK && ratio > 1.0 + SLACK) || (advantage < -SLACK && ratio < 1.0 - SLACK)
        {
            squares.push(log_ratio * log_ratio);
        }
    }
    let solved = solve(squares, tau)?;
    let mut weighed = accumulate(tokens, n_valid + COUNT_SLACK, |_, ratio, advantage| {
        Term::clip(ratio, advantage, solved.bounds)
    });
    weighed.stats.clip_frac = weighed.stats.n_masked as f64 / (n_valid + COUNT_SLACK);
    weighed.stats.m2_rule_before = solved.m2_before;
    weighed.stats.m2_rule_after = solved.m2_after;
    weighed.stats.ratio_bounds = Some(solved.bounds);
    Ok(weighed)
}

struct Solved {
    bounds: (f64, f64),
    m2_before: f64,
    m2_after: f64,
}

/// Finds the largest value `v_k` of `T` with `mean min(v, v_k) < tau` and uses it as the cap. The
/// exact cap is between `v_k` and the next larger value, so more is clipped than the budget
/// requires.
fn solve(mut squares: Vec<f64>, tau: f64) -> Result<Solved, Error> {
    if squares.is_empty() {
        return Ok(Solved {
            bounds: OPEN,
            m2_before: 0.0,
            m2_after: 0.0,
        });
    }
    squares.sort_unstable_by(f64::total_cmp);
    let n = squares.len() as f64;
    let total: f64 = squares.iter().sum();
    let budget = tau * n;
    let m2_before = total / n;
    if m2_before <= tau + SLACK {
        return Ok(Solved {
            bounds: OPEN,
            m2_before,
            m2_after: m2_before,
        });
    }
    // In both of these cases the released code returns one number where its caller unpacks a pair.
    if budget >= total - SLACK {
        return Err(Error::ForkUndefined {
            reason: "the excess over the budget is below its slack of 1e-12 (TypeError)",
        });
    }
    if budget <= SLACK {
        return Err(Error::ForkUndefined {
            reason: "the budget is zero (TypeError)",
        });
    }
    let mut below: Option<f64> = None;
    let mut sum_below = 0.0;
    for (rank, &value) in squares.iter().enumerate() {
        let above = squares.len() - rank - 1;
        if (value - SLACK) * above as f64 + sum_below + value >= budget - SLACK {
            break;
        }
        below = Some(value);
        sum_below += value;
    }
    let Some(value) = below else {
        // In this case the released code reports the second moment without capping the values.
        return Ok(Solved {
            bounds: (1.0, 1.0),
            m2_before,
            m2_after: m2_before,
        });
    };
    if value < SLACK {
        return Err(Error::ForkUndefined {
            reason: "the value below the crossing is under 1e-12, whose root it takes after \
                     subtracting that (complex number)",
        });
    }
    let cap = (value - SLACK).sqrt() as f32;
    let capped: f64 = squares.iter().map(|&square| square.min(value)).sum();
    Ok(Solved {
        bounds: (f64::from(exp32::exp32(-cap)), f64::from(exp32::exp32(cap))),
        m2_before,
        m2_after: capped / n,
    })
}
