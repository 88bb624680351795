//! Second-moment masks on a device, without a sort and without per-token values on the host.
//!
//! Non-negative floats are ordered like their bits. The largest square to keep is therefore found
//! by bisecting the bits of an f64, with at most 62 masked sums. (Squares of f32 log-ratios are
//! taken in f64 here as on a CPU.) These sums decide which tokens are trained on, so they must not
//! depend on the order in which a GPU adds. Each square is cut into three limbs. Each limb is a
//! whole multiple of a step and has few enough bits that f64 adds 2^24 of them without rounding.
//! The sums equal those of `vintage_losses` bit for bit, including ties with the budget and at the
//! cut.

use candle_core::{Result, Tensor};

use crate::tokens::ones;

/// Maximum number of tokens per batch; sums of that many limbs are exact.
pub(crate) const MOST_TOKENS: usize = 1 << 24;
/// Steps of the three limbs, as powers of two below the exponent of [`Grid`].
const LIMBS: [i32; 3] = [26, 53, 80];

/// Mask of the tokens that a budget keeps.
pub(crate) struct Kept {
    /// 1 for every token that counts and is kept, else 0; f64 `[n]`.
    pub(crate) mask: Tensor,
}

/// Bound on the mean of the kept squares, which differs between the paper and AReaL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    /// Mean of at most τ; nothing has to be kept (the paper's rule).
    AtMost,
    /// Mean below τ, except that the smallest square is always kept (AReaL's rule).
    Below,
}

/// Returns the mask of the smallest `squares` (f64 `[n]`) that the budget allows, among the tokens
/// with `counts` 1 instead of 0. Of equal squares at the cut, the lowest indices are dropped first.
pub(crate) fn keep(squares: &Tensor, counts: &Tensor, tau: f64, budget: Budget) -> Result<Kept> {
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
    // Σ (v − τ) over the large squares up to a bound.
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

/// Returns 1 at every tie except the first `dropped` ones, else 0.
fn last(ties: &Tensor, dropped: i128) -> Result<Tensor> {
    let index = places(ties)?;
    // The lowest index with at least `dropped` ties before it.
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

/// Returns 1 at the smallest square that counts (of equal ones the last), else 0.
fn smallest(squares: &Tensor, counts: &Tensor) -> Result<Tensor> {
    let never = (squares.zeros_like()? + f64::INFINITY)?;
    let least = counts.gt(0.0)?.where_cond(squares, &never)?.min_all()?;
    let ties = (counts * ones(&squares.broadcast_eq(&least)?)?)?;
    // Places are counted from 1, so that 0 means no tie.
    let place = ((places(&ties)? + 1.0)? * &ties)?;
    let found = place.max_all()?;
    ties * ones(&place.broadcast_eq(&found)?)?
}

fn places(like: &Tensor) -> Result<Tensor> {
    let n = like.elem_count() as u32;
    Tensor::arange(0, n, like.device())?.to_dtype(like.dtype())
}

/// Fixed-point grid of step 2^(exponent − 80), where τ < 2^exponent ≤ 2τ.
struct Grid {
    exponent: i32,
}

impl Grid {
    fn new(tau: f64) -> Self {
        let exponent = if tau > 0.0 { unbiased(tau) + 1 } else { 0 };
        Self { exponent }
    }

    /// Converts a `value` of 0 or at least τ to steps. Values above any possible budget saturate.
    fn steps(&self, value: f64) -> i128 {
        if value == 0.0 {
            return 0;
        }
        let mantissa = i128::from((value.to_bits() & ((1 << 52) - 1)) | (1 << 52));
        let shift = unbiased(value) - 52 + LIMBS[2] - self.exponent;
        // Above any possible budget: 2^24 tokens leave less than 2^104 steps.
        if shift > 64 {
            i128::MAX >> 1
        } else {
            mantissa << shift
        }
    }

    /// Returns the limbs of the squares as `[4, n]`: three rows of limbs, and a row of ones by
    /// which the tokens under a mask are counted.
    fn limbs(&self, squares: &Tensor) -> Result<Tensor> {
        // A larger square exceeds any possible budget, and its limbs would not be exact.
        let ceiling = exp2(self.exponent + 24);
        let mut rest = squares.minimum(ceiling)?;
        let mut rows = Vec::with_capacity(4);
        for limb in LIMBS {
            // Adding and then subtracting it rounds to multiples of the step.
            let magic = 1.5 * exp2(52 + self.exponent - limb);
            let part = ((&rest + magic)? - magic)?;
            rest = (rest - &part)?;
            rows.push(part);
        }
        rows.push(squares.ones_like()?);
        Tensor::stack(&rows, 0)
    }

    /// Returns the sum, in steps, and the number of the squares at which `mask` is 1.
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
