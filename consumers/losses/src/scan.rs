//! Single pass over the batch that finds the tokens a rule constrains and splits them at `tau`.

use crate::exact::{Grid, PARTIAL_TERMS};
use crate::tokens::in_trust;
use crate::{error::Error, real::Real, tokens::Tokens};

/// Number of tokens per block. With 512 of them the terms and squares stay in the L1 cache between
/// the three loops over a block.
const BLOCK: usize = 512;
const _: () = assert!(BLOCK <= PARTIAL_TERMS, "a block must sum exactly");

/// Result of the pass. "Constrained" tokens are the set `T` for the paper's rule and every valid
/// token for AReaL's.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) n_valid: u64,
    pub(crate) n_constrained: u64,
    /// Sum of `v` over the constrained tokens with `v <= tau`, in steps of the grid.
    pub(crate) small_steps: i128,
    /// Indices of the constrained tokens with `v > tau`, ascending. No other token can be dropped.
    pub(crate) candidates: Vec<u32>,
    /// `v` of every token in `candidates`, in the same order.
    pub(crate) values: Vec<f64>,
}

/// Computes `v_i = (reference_i - behavior_i)^2` over `T` if `TRUST` is set, else over all valid
/// tokens.
pub(crate) fn scan<F: Real, const TRUST: bool>(
    tokens: &Tokens<'_, F>,
    reference: &[F],
    tau: f64,
    grid: &Grid,
) -> Result<Scan, Error> {
    let mut found = Scan {
        n_valid: 0,
        n_constrained: 0,
        small_steps: 0,
        candidates: Vec::new(),
        values: Vec::new(),
    };
    let mut terms = Terms {
        left: [F::ZERO; BLOCK],
        right: [F::ZERO; BLOCK],
    };
    let mut squares = [0.0_f64; BLOCK];
    let n = reference.len();
    for start in (0..n).step_by(BLOCK) {
        let range = start..n.min(start + BLOCK);
        let len = range.len();
        let block = choose::<F, TRUST>(
            &reference[range.clone()],
            &tokens.behavior[range.clone()],
            &tokens.advantage[range.clone()],
            &tokens.valid[range.clone()],
            &mut terms,
        );
        if block.non_finite {
            tokens.check_finite(range)?;
        }
        found.n_valid += u64::from(block.valid);
        found.n_constrained += u64::from(block.chosen);
        terms.square(&mut squares[..len]);
        take_candidates(&mut squares[..len], tau, start, &mut found);
        found.small_steps += grid.sum(&squares[..len]);
    }
    Ok(found)
}

struct Counts {
    valid: u32,
    chosen: u32,
    non_finite: bool,
}

/// Log-probs of the constrained tokens of a block, and a pair of zeros for every other token. The
/// selection is made here, in lanes of the input's width, so that squaring needs no mask.
struct Terms<F> {
    left: [F; BLOCK],
    right: [F; BLOCK],
}

#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "vectorised only once the constants are known"
)]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "lazy operators branch: 4 times slower"
)]
fn choose<F: Real, const TRUST: bool>(
    new: &[F],
    behavior: &[F],
    advantage: &[F],
    valid: &[bool],
    terms: &mut Terms<F>,
) -> Counts {
    let len = new.len();
    let (behavior, advantage, valid) = (&behavior[..len], &advantage[..len], &valid[..len]);
    let (left, right) = (&mut terms.left[..len], &mut terms.right[..len]);
    let mut counts = Counts {
        valid: 0,
        chosen: 0,
        non_finite: false,
    };
    for i in 0..len {
        let (n, b, a) = (new[i], behavior[i], advantage[i]);
        let finite = n.finite() & b.finite() & a.finite();
        let take = valid[i] & (!TRUST | in_trust(n, b, a));
        counts.non_finite |= valid[i] & !finite;
        counts.valid += u32::from(valid[i]);
        counts.chosen += u32::from(take);
        // A selection instead of a multiplication by 0, because padding may hold NaN.
        left[i] = if take { n } else { F::ZERO };
        right[i] = if take { b } else { F::ZERO };
    }
    counts
}

impl<F: Real> Terms<F> {
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "vectorised only once the length is known"
    )]
    fn square(&self, squares: &mut [f64]) {
        let len = squares.len();
        let (left, right) = (&self.left[..len], &self.right[..len]);
        for i in 0..len {
            let log_ratio: f64 = left[i].into() - right[i].into();
            squares[i] = log_ratio * log_ratio;
        }
    }
}

/// Moves the squares above `tau` to the candidates and leaves 0 in their place.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one caller")]
fn take_candidates(squares: &mut [f64], tau: f64, start: usize, found: &mut Scan) {
    for (group, values) in squares.chunks_mut(16).enumerate() {
        // Few groups of 16 hold a candidate (0.1 to 2 % of tokens are one), so a whole group is
        // tested first.
        let over = values
            .iter()
            .map(|value| u8::from(*value > tau))
            .fold(0, |any, over| any | over);
        if over != 0 {
            for (offset, value) in values.iter_mut().enumerate() {
                if *value > tau {
                    found.candidates.push((start + group * 16 + offset) as u32);
                    found.values.push(*value);
                    *value = 0.0;
                }
            }
        }
    }
}
