//! The second-moment masks on a device: no sort, no per-token value on the host.
//!
//! The order of non-negative floats is that of their bits, so that the largest square to be kept
//! is found by bisecting bits: of f64, in which squares of f32 log-ratios are taken here as on a
//! CPU, at most 62 masked sums. A sum decides between two ways to train, so that it must not
//! depend on the order in which a card adds: each square is cut into three limbs, whole multiples
//! of a step each and few enough bits that f64 adds 2^24 of them without rounding. The sums are
//! then those of `vintage_m2po`, bit for bit, ties with the budget and at the cut included.

use candle_core::{Result, Tensor};

use super::tokens::ones;

/// Tokens of one batch: sums of that many limbs are exact.
pub(super) const MOST_TOKENS: usize = 1 << 24;
/// Steps of the limbs, in powers of two below the exponent of [`Grid`].
const LIMBS: [i32; 3] = [26, 53, 80];

/// Which of the tokens that count are kept.
pub(super) struct Kept {
    /// 1 where a token counts and is kept, f64.
    pub(super) mask: Tensor,
}

/// What to do where the budget has no room for any token over τ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Budget {
    /// The mean kept is at most τ, and nothing need be kept: the paper's.
    AtMost,
    /// The mean kept is below τ, and the smallest token is always kept: AReaL's.
    Below,
}

/// Keeps the smallest of `squares` [f64 `n`] where `counts` (1 or 0) as the budget allows. Of equal
/// squares at the cut the lowest indices go first.
pub(super) fn keep(squares: &Tensor, counts: &Tensor, tau: f64, budget: Budget) -> Result<Kept> {
    let grid = Grid::new(tau);
    let small = (counts * ones(&squares.le(tau)?)?)?;
    let large = (counts - &small)?;
    let limbs = grid.limbs(squares)?;
    let (steps, count) = grid.sum(&limbs, &small)?;
    let room = count * grid.steps(tau) - steps;
    if room <= 0 {
        let mask = match budget {
            Budget::AtMost => small,
            Budget::Below => smallest(squares, counts)?,
        };
        return Ok(Kept { mask });
    }
    let room = room - i128::from(budget == Budget::Below);
    // Σ of v − τ over the large squares up to a bound.
    let excess_to = |bound: f64| -> Result<i128> {
        let taken = (&large * ones(&squares.le(bound)?)?)?;
        let (steps, count) = grid.sum(&limbs, &taken)?;
        Ok(steps - count * grid.steps(tau))
    };
    let top = (squares * &large)?.max_all()?.to_scalar::<f64>()?;
    let (mut fits, mut exceeds) = (tau.to_bits(), top.to_bits());
    if top <= tau || excess_to(top)? <= room {
        return Ok(Kept {
            mask: counts.clone(),
        });
    }
    while exceeds - fits > 1 {
        let middle = fits + (exceeds - fits) / 2;
        if excess_to(f64::from_bits(middle))? <= room {
            fits = middle;
        } else {
            exceeds = middle;
        }
    }
    let cut = f64::from_bits(exceeds);
    let below = (counts * ones(&squares.lt(cut)?)?)?;
    let ties = (counts * ones(&squares.eq(cut)?)?)?;
    let left = room - excess_to(f64::from_bits(fits))?;
    let kept_ties = left / (grid.steps(cut) - grid.steps(tau));
    let tied = ties.sum_all()?.to_scalar::<f64>()? as i128;
    let mask = if kept_ties == 0 {
        below
    } else {
        (below + last(&ties, tied - kept_ties)?)?
    };
    Ok(Kept { mask })
}

/// Of the ties, 1 where they are not among the first `dropped`.
fn last(ties: &Tensor, dropped: i128) -> Result<Tensor> {
    let index = places(ties)?;
    // The first place such that as many ties lie before it as are dropped.
    let (mut low, mut high) = (0, ties.elem_count());
    while low < high {
        let middle = usize::midpoint(low, high);
        let before = (ties * ones(&index.lt(middle as f64)?)?)?;
        if (before.sum_all()?.to_scalar::<f64>()? as i128) < dropped {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    ties * ones(&index.ge(low as f64)?)?
}

/// 1 at the smallest square that counts, of equal ones the last.
fn smallest(squares: &Tensor, counts: &Tensor) -> Result<Tensor> {
    let never = (squares.zeros_like()? + f64::INFINITY)?;
    let least = counts.gt(0.0)?.where_cond(squares, &never)?.min_all()?;
    let ties = (counts * ones(&squares.broadcast_eq(&least)?)?)?;
    // Places from 1, so that 0 is none.
    let place = ((places(&ties)? + 1.0)? * &ties)?;
    let found = place.max_all()?;
    ties * ones(&place.broadcast_eq(&found)?)?
}

fn places(like: &Tensor) -> Result<Tensor> {
    let n = like.elem_count() as u32;
    Tensor::arange(0, n, like.device())?.to_dtype(like.dtype())
}

/// Fixed point of step 2^(exponent − 80), where τ < 2^exponent ≤ 2τ.
struct Grid {
    exponent: i32,
}

impl Grid {
    fn new(tau: f64) -> Self {
        let exponent = if tau > 0.0 { unbiased(tau) + 1 } else { 0 };
        Self { exponent }
    }

    /// `value`, at least τ or 0, in steps.
    fn steps(&self, value: f64) -> i128 {
        if value == 0.0 {
            return 0;
        }
        let mantissa = i128::from((value.to_bits() & ((1 << 52) - 1)) | (1 << 52));
        let shift = unbiased(value) - 52 + LIMBS[2] - self.exponent;
        // More than any room: 2^24 tokens leave less than 2^104 steps.
        if shift > 64 {
            i128::MAX >> 1
        } else {
            mantissa << shift
        }
    }

    /// Limbs `[4, n]` of squares, the last row 1: what is summed under a mask.
    fn limbs(&self, squares: &Tensor) -> Result<Tensor> {
        // Over this a square is over any room, and its limbs would not be exact.
        let ceiling = exp2(self.exponent + 24);
        let mut rest = squares.minimum(ceiling)?;
        let mut rows = Vec::with_capacity(4);
        for limb in LIMBS {
            // Adding and subtracting it rounds to multiples of the step.
            let magic = 1.5 * exp2(52 + self.exponent - limb);
            let part = ((&rest + magic)? - magic)?;
            rest = (rest - &part)?;
            rows.push(part);
        }
        rows.push(squares.ones_like()?);
        Tensor::stack(&rows, 0)
    }

    /// Steps in all where `mask` is 1, and how many they are.
    fn sum(&self, limbs: &Tensor, mask: &Tensor) -> Result<(i128, i128)> {
        let sums = limbs.broadcast_mul(mask)?.sum(1)?.to_vec1::<f64>()?;
        let mut steps = 0;
        for (sum, limb) in sums.iter().zip(LIMBS) {
            let whole = (sum * exp2(limb - self.exponent)) as i128;
            steps += whole << (LIMBS[2] - limb);
        }
        Ok((steps, sums[3] as i128))
    }
}

fn unbiased(value: f64) -> i32 {
    ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

fn exp2(exponent: i32) -> f64 {
    2_f64.powi(exponent)
}
