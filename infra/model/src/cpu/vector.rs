//! Vector arithmetic in blocks of 16 lanes, summed in one order on every CPU.

use super::multiversion;

/// Number of lanes of a block: one AVX-512 register of f32.
pub(crate) const LANES: usize = 16;

/// Block of 16 lanes.
pub(crate) type Block = [f32; LANES];

/// Computes a·b + c in every lane.
#[inline(always)]
pub(crate) fn fma(a: Block, b: Block, c: Block) -> Block {
    let mut out = c;
    for l in 0..LANES {
        out[l] = a[l].mul_add(b[l], c[l]);
    }
    out
}

/// Returns the sum of the lanes, halves first.
#[inline(always)]
pub(crate) fn reduce(mut block: Block) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            block[l] += block[l + width];
        }
        width /= 2;
    }
    block[0]
}

/// Returns the largest lane.
#[inline(always)]
pub(crate) fn reduce_max(mut block: Block) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            block[l] = if block[l + width] > block[l] {
                block[l + width]
            } else {
                block[l]
            };
        }
        width /= 2;
    }
    block[0]
}

/// Returns the largest value; NaNs are skipped.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut tops = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for l in 0..LANES {
            tops[l] = if block[l] > tops[l] {
                block[l]
            } else {
                tops[l]
            };
        }
    }
    rest.iter()
        .fold(reduce_max(tops), |top, &x| if x > top { x } else { top })
}

/// Returns Σ aᵢbᵢ.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sum = [0.0; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        sum = fma(*a, *b, sum);
    }
    let mut total = reduce(sum);
    for (a, b) in a_rest.iter().zip(b_rest) {
        total = a.mul_add(*b, total);
    }
    total
}

/// Computes eˣ to about 1 ulp for x in [−87, 88]; x is clamped outside, and NaN stays NaN.
///
/// Uses x = n·ln 2 + r with |r| ≤ ln 2 / 2; the polynomial is that of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer without a library call.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 is split into two parts; n times the first is exact.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5e-1);
    let y = p.mul_add(r * r, r) + 1.0;
    // The low bits of `shifted` are n; they are moved into the exponent.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23));
    y * scale
}

/// Computes 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

multiversion! {
    /// Returns Σ xᵢ², summed in f64 in one order.
    pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
        let (blocks, rest) = values.as_chunks::<LANES>();
        let mut sums = [0.0_f64; LANES];
        for block in blocks {
            for l in 0..LANES {
                let value = f64::from(block[l]);
                sums[l] += value * value;
            }
        }
        let rest: f64 = rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        sums.iter().sum::<f64>() + rest
    }
}

multiversion! {
    /// Returns Σ xᵢyᵢ, Σ xᵢ² and Σ yᵢ², summed in f64 in one order, over the shorter of the two.
    pub(crate) fn products(x: &[f32], y: &[f32]) -> [f64; 3] {
        let len = x.len().min(y.len());
        let ((x, x_rest), (y, y_rest)) = (x[..len].as_chunks::<LANES>(), y[..len].as_chunks::<LANES>());
        let mut sums = [[0.0_f64; LANES]; 3];
        for (x, y) in x.iter().zip(y) {
            for l in 0..LANES {
                let (x, y) = (f64::from(x[l]), f64::from(y[l]));
                sums[0][l] += x * y;
                sums[1][l] += x * x;
                sums[2][l] += y * y;
            }
        }
        let mut totals = sums.map(|lanes| lanes.iter().sum::<f64>());
        for (&x, &y) in x_rest.iter().zip(y_rest) {
            let (x, y) = (f64::from(x), f64::from(y));
            totals[0] += x * y;
            totals[1] += x * x;
            totals[2] += y * y;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        let mut worst = 0.0_f64;
        let mut x = -87.0_f32;
        while x < 88.0 {
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
            x += 0.001_7;
        }
        assert!(worst < 2.4e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
        assert!(exp(1000.0).is_finite());
    }

    #[test]
    fn sums_take_every_value() {
        let values: Vec<f32> = (1..=37_u8).map(f32::from).collect();
        assert_eq!(dot(&values, &values), 17_575.0);
        assert_eq!(sum_of_squares(&values), 17_575.0);
        let ones = [1.0; 37];
        assert_eq!(products(&values, &ones), [703.0, 17_575.0, 37.0]);
    }
}
