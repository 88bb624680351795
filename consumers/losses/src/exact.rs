//! Exact sums of squared log-ratios as integers. They make the mask independent of the order of the
//! tokens and of their split over blocks, threads or ranks.

/// Fixed-point grid of step `2^(exponent - 80)`, where `tau < 2^exponent <= 2 tau`.
///
/// `tau` is a multiple of the step, and so is every f64 `v` in `[2^-27 tau, inf)`; smaller values
/// are rounded, by less than `2^-80 tau` each. A sum of 2^40 terms of up to `tau` stays below 2^120
/// steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    tau: f64,
    exponent: i32,
    /// Magic number `1.5 * 2^52` coarse steps of `2^(exponent - 40)`: adding and then subtracting
    /// it rounds a value to whole coarse steps.
    coarse: f64,
    /// Magic number `1.5 * 2^52` fine steps of `2^(exponent - 80)`: adding and then subtracting it
    /// rounds a value to whole fine steps.
    fine: f64,
    /// Inverse of the coarse step, `2^(40 - exponent)`.
    coarse_inverse: f64,
    /// Inverse of the fine step, `2^(80 - exponent)`.
    fine_inverse: f64,
}

/// Maximum number of values that one call of [`Grid::sum`] takes. 2^12 terms of up to 2^40 coarse
/// steps stay below 2^52, where f64 addition of whole numbers is exact.
pub(crate) const PARTIAL_TERMS: usize = 1 << 12;

const LANES: usize = 8;

/// Exact partial sums of one block, in separate lanes so that the loop vectorises.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partial {
    coarse: [f64; LANES],
    fine: [f64; LANES],
}

impl Grid {
    /// Creates the grid for `tau`, which must be 0 or in `[1e-200, 1e200]`.
    pub(crate) fn new(tau: f64) -> Self {
        let exponent = if tau > 0.0 {
            unbiased_exponent(tau) + 1
        } else {
            0
        };
        let magic = 1.5 * exp2(52);
        Self {
            tau,
            exponent,
            coarse: magic * exp2(exponent - 40),
            fine: magic * exp2(exponent - 80),
            coarse_inverse: exp2(40 - exponent),
            fine_inverse: exp2(80 - exponent),
        }
    }

    /// Returns `tau` in steps of the grid.
    pub(crate) fn tau_steps(&self) -> i128 {
        self.steps(self.tau)
    }

    /// Converts a `value` of 0 or at least `tau` to steps, exactly; saturates at `i128::MAX`.
    pub(crate) fn steps(&self, value: f64) -> i128 {
        if value == 0.0 {
            return 0;
        }
        let bits = value.to_bits();
        let mantissa = i128::from((bits & ((1 << 52) - 1)) | (1 << 52));
        let shift = unbiased_exponent(value) - 52 + 80 - self.exponent;
        debug_assert!(shift >= 0, "only values of at least tau are exact");
        if shift > 126 - 53 {
            i128::MAX
        } else {
            mantissa << shift
        }
    }

    /// Converts a number of steps to f64.
    pub(crate) fn value(&self, steps: i128) -> f64 {
        steps as f64 / self.fine_inverse
    }

    /// Returns the sum of `values` in steps. Each value must be in `[0, tau]`, and there may be at
    /// most [`PARTIAL_TERMS`] of them.
    #[inline]
    pub(crate) fn sum(&self, values: &[f64]) -> i128 {
        debug_assert!(values.len() <= PARTIAL_TERMS, "the lanes would round");
        let mut partial = Partial {
            coarse: [0.0; LANES],
            fine: [0.0; LANES],
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            self.add(&mut partial, chunk);
        }
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        self.add(&mut partial, &last);
        // Both sums are whole numbers below 2^53, so the casts are exact.
        let whole = |lanes: [f64; LANES], inverse: f64| -> i128 {
            lanes
                .iter()
                .map(|lane| i128::from((lane * inverse) as i64))
                .sum()
        };
        (whole(partial.coarse, self.coarse_inverse) << 40) + whole(partial.fine, self.fine_inverse)
    }

    #[inline]
    fn add(&self, partial: &mut Partial, values: &[f64; LANES]) {
        for (lane, &value) in values.iter().enumerate() {
            let coarse = (value + self.coarse) - self.coarse;
            let rest = value - coarse;
            partial.coarse[lane] += coarse;
            partial.fine[lane] += (rest + self.fine) - self.fine;
        }
    }
}

fn unbiased_exponent(value: f64) -> i32 {
    ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

fn exp2(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// Running f64 sum that also keeps its rounding errors (two-sum). It is used for reported numbers,
/// never for the decision which tokens to mask.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    total: f64,
    lost: f64,
}

impl Sum {
    #[inline]
    pub(crate) fn add(&mut self, term: f64) {
        let next = self.total + term;
        let kept = next - self.total;
        self.lost += (self.total - (next - kept)) + (term - kept);
        self.total = next;
    }

    pub(crate) fn value(self) -> f64 {
        // After an overflow `lost` holds inf - inf, which is NaN.
        if self.total.is_finite() {
            self.total + self.lost
        } else {
            self.total
        }
    }
}
