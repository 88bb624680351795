//! Powers of one base, by multiplication alone: the same bits on every machine, which the library
//! functions for powers and logarithms do not promise.

/// Returns `base` to the power of `exponent`.
pub(crate) fn power(base: f64, exponent: i64) -> f64 {
    let mut factor = base;
    let mut left = exponent.unsigned_abs();
    let mut power = 1.0;
    while left > 0 {
        if left & 1 == 1 {
            power *= factor;
        }
        factor *= factor;
        left >>= 1;
    }
    if exponent < 0 { 1.0 / power } else { power }
}

/// Returns the largest exponent whose power of `base` is at most `value`. `base` is above 1 and
/// `value` above 0; both are finite.
pub(crate) fn floor(base: f64, value: f64) -> i64 {
    // The logarithms are a guess; what counts are the comparisons.
    let mut exponent = (value.ln() / base.ln()).floor() as i64;
    while power(base, exponent) > value {
        exponent -= 1;
    }
    while power(base, exponent + 1) <= value {
        exponent += 1;
    }
    exponent
}

/// Returns the smallest exponent whose power of `base` is at least `value`, as [`floor`] does.
pub(crate) fn ceil(base: f64, value: f64) -> i64 {
    let floor = floor(base, value);
    if power(base, floor) < value {
        floor + 1
    } else {
        floor
    }
}
