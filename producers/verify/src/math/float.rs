use std::{cmp::Ordering, sync::OnceLock};

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};

use super::rational::Rational;

/// Number of bits that are kept of every result. Comparisons need agreement to 160 bits
/// (`approx.rs`), so nearly a hundred may be lost to rounding.
const PRECISION: u64 = 256;
/// Limit of the exponent; a value beyond it counts as undefined.
const RANGE: i64 = 1 << 40;
/// Maximum number of terms of a series. All but that of ln 2 end earlier, at a negligible term; the
/// slowest of these has 90 terms.
const TERMS: i64 = 400;

/// Real number to [`PRECISION`] bits: `mantissa` × 2^`exponent`.
#[derive(Debug, Clone)]
pub(crate) struct Float {
    mantissa: BigInt,
    exponent: i64,
}

impl Float {
    fn new(mantissa: BigInt, exponent: i64) -> Self {
        let surplus = mantissa.bits().saturating_sub(PRECISION);
        Self {
            mantissa: mantissa >> surplus,
            exponent: exponent + surplus as i64,
        }
    }

    /// Returns the number, or `None` if its exponent is out of range.
    fn bounded(self) -> Option<Self> {
        (self.exponent.abs() < RANGE).then_some(self)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.mantissa.is_zero()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.mantissa.is_negative()
    }

    /// Position of the leading bit: the absolute value is in [2^(n−1), 2^n).
    pub(crate) fn magnitude(&self) -> i64 {
        if self.is_zero() {
            -RANGE
        } else {
            self.exponent + self.mantissa.bits() as i64
        }
    }

    pub(crate) fn negated(&self) -> Self {
        Self::new(-&self.mantissa, self.exponent)
    }

    pub(crate) fn magnified(&self, bits: i64) -> Self {
        Self::new(self.mantissa.clone(), self.exponent + bits)
    }

    pub(crate) fn abs(&self) -> Self {
        Self::new(self.mantissa.abs(), self.exponent)
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        let (high, low) = if self.magnitude() >= other.magnitude() {
            (self, other)
        } else {
            (other, self)
        };
        if low.is_zero() || high.magnitude() - low.magnitude() > PRECISION as i64 + 8 {
            return high.clone();
        }
        let exponent = high.exponent.min(low.exponent);
        let aligned = |x: &Self| &x.mantissa << (x.exponent - exponent) as u64;
        Self::new(aligned(high) + aligned(low), exponent)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.plus(&other.negated())
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        Self::new(
            &self.mantissa * &other.mantissa,
            self.exponent + other.exponent,
        )
    }

    pub(crate) fn over(&self, other: &Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        let shift = PRECISION + other.mantissa.bits();
        let mantissa = (&self.mantissa << shift) / &other.mantissa;
        Self::new(mantissa, self.exponent - other.exponent - shift as i64).bounded()
    }

    fn over_small(&self, divisor: i64) -> Self {
        let shift = PRECISION + 64;
        let mantissa = (&self.mantissa << shift) / divisor;
        Self::new(mantissa, self.exponent - shift as i64)
    }

    /// Largest integer not above the value; `None` if the value is too large to determine it.
    pub(crate) fn floor(&self) -> Option<BigInt> {
        if self.magnitude() > PRECISION as i64 - 32 {
            return None;
        }
        if self.exponent >= 0 {
            return Some(&self.mantissa << self.exponent as u64);
        }
        // The right shift of a negative integer rounds towards minus infinity.
        Some(&self.mantissa >> self.exponent.unsigned_abs().min(2 * PRECISION))
    }

    /// Approximates the value as an `f64`.
    fn rough(&self) -> f64 {
        let surplus = self.mantissa.bits().saturating_sub(60);
        let mantissa = (&self.mantissa >> surplus).to_f64().unwrap_or(0.0);
        mantissa * 2_f64.powi((self.exponent + surplus as i64).clamp(-1000, 1000) as i32)
    }

    fn from_rough(value: f64) -> Self {
        Self::new(BigInt::from((value * 2_f64.powi(52)) as i64), -52)
    }

    pub(crate) fn to_integer_power(&self, exponent: i64) -> Option<Self> {
        if exponent == 0 {
            return Some(Self::from(1));
        }
        let (mut result, mut square) = (Self::from(1), self.clone());
        let mut left = exponent.unsigned_abs();
        while left > 0 {
            if left % 2 == 1 {
                result = result.times(&square).bounded()?;
            }
            left /= 2;
            if left > 0 {
                square = square.times(&square).bounded()?;
            }
        }
        if exponent < 0 {
            Self::from(1).over(&result)
        } else {
            Some(result)
        }
    }

    /// Raises to a rational power; a negative base has roots of odd degree only, which are real.
    pub(crate) fn to_power(&self, exponent: &Rational) -> Option<Self> {
        if let Some(exponent) = exponent.small() {
            return self.to_integer_power(exponent);
        }
        if self.is_zero() {
            return (!exponent.is_negative()).then(|| self.clone());
        }
        let root = self.abs().ln()?.times(&Self::from(exponent)).exp()?;
        if !self.is_negative() {
            return Some(root);
        }
        if !exponent.bottom().bit(0) {
            return None;
        }
        Some(if exponent.top().bit(0) {
            root.negated()
        } else {
            root
        })
    }

    pub(crate) fn exp(&self) -> Option<Self> {
        if self.magnitude() > 24 {
            return None;
        }
        let twos = self.over(ln2())?.floor()?;
        let rest = self.minus(&Self::new(twos.clone(), 0).times(ln2()));
        // The argument is scaled by 2^-16, and the result squared 16 times.
        let power = series(&rest.magnified(-16), |n, term, x| {
            term.times(x).over_small(n)
        });
        let power = (0..16).fold(power, |power, _| power.times(&power));
        power.magnified(twos.to_i64()?).bounded()
    }

    pub(crate) fn ln(&self) -> Option<Self> {
        if self.is_zero() || self.is_negative() {
            return None;
        }
        let twos = self.magnitude();
        let fraction = self.magnified(-twos);
        // Two steps, each of which triples the correct bits: 50, 150, 450.
        let mut log = Self::from_rough(fraction.rough().ln());
        for _ in 0..2 {
            let power = log.exp()?;
            let correction = fraction.minus(&power).over(&fraction.plus(&power))?;
            log = log.plus(&correction.magnified(1));
        }
        Some(log.plus(&Self::from(twos).times(ln2())))
    }

    pub(crate) fn sin_cos(&self) -> Option<(Self, Self)> {
        if self.magnitude() > 64 {
            return None;
        }
        let turn = pi().magnified(1);
        let turns = self.over(&turn)?.floor()?;
        let rest = self.minus(&Self::new(turns, 0).times(&turn));
        let square = rest.times(&rest).negated();
        let step = |n: i64, term: &Self, x: &Self| term.times(x).over_small(n);
        let cos = series(&square, |n, term, x| step(2 * n * (2 * n - 1), term, x));
        let sin = series(&square, |n, term, x| step(2 * n * (2 * n + 1), term, x));
        Some((sin.times(&rest), cos))
    }

    pub(crate) fn arctan(&self) -> Option<Self> {
        let mut x = self.clone();
        for _ in 0..8 {
            let root = Self::from(1).plus(&x.times(&x)).root()?;
            x = x.over(&Self::from(1).plus(&root))?;
        }
        Some(small_arctan(&x).magnified(8))
    }

    pub(crate) fn arcsin(&self) -> Option<Self> {
        let rest = Self::from(1).minus(&self.times(self));
        if rest.is_zero() {
            let right = pi().magnified(-1);
            return Some(if self.is_negative() {
                right.negated()
            } else {
                right
            });
        }
        self.over(&rest.root()?)?.arctan()
    }

    /// Square root; `None` for a negative value.
    fn root(&self) -> Option<Self> {
        if self.is_negative() {
            return None;
        }
        let shift = 2 * PRECISION as i64 + (self.exponent.rem_euclid(2));
        let mantissa = (&self.mantissa << shift as u64).sqrt();
        Some(Self::new(mantissa, (self.exponent - shift) / 2))
    }
}

impl From<i64> for Float {
    fn from(value: i64) -> Self {
        Self::new(BigInt::from(value), 0)
    }
}

impl From<&BigInt> for Float {
    fn from(value: &BigInt) -> Self {
        Self::new(value.clone(), 0)
    }
}

impl From<&Rational> for Float {
    fn from(value: &Rational) -> Self {
        let shift = PRECISION + value.bottom().bits();
        Self::new((value.top() << shift) / value.bottom(), -(shift as i64))
    }
}

/// Sums a series that begins with 1. `step` computes a term from its index, the term before and
/// `x`.
fn series(x: &Float, step: impl Fn(i64, &Float, &Float) -> Float) -> Float {
    let (mut sum, mut term) = (Float::from(1), Float::from(1));
    for n in 1..TERMS {
        term = step(n, &term, x);
        sum = sum.plus(&term);
        if term.magnitude() < sum.magnitude() - PRECISION as i64 {
            break;
        }
    }
    sum
}

/// Arctangent by x − x³/3 + x⁵/5 − …, which converges fast for small values.
fn small_arctan(x: &Float) -> Float {
    let square = x.times(x).negated();
    let (mut sum, mut power) = (x.clone(), x.clone());
    for n in 1..TERMS {
        power = power.times(&square);
        sum = sum.plus(&power.over_small(2 * n + 1));
        if power.magnitude() < sum.magnitude() - PRECISION as i64 {
            break;
        }
    }
    sum
}

/// Number π, by Machin's formula.
pub(crate) fn pi() -> &'static Float {
    static PI: OnceLock<Float> = OnceLock::new();
    PI.get_or_init(|| {
        let part = |n: i64| small_arctan(&Float::from(1).over_small(n));
        part(5).magnified(4).minus(&part(239).magnified(2))
    })
}

/// Natural logarithm of 2, as 2 artanh(1/3).
fn ln2() -> &'static Float {
    static LN2: OnceLock<Float> = OnceLock::new();
    LN2.get_or_init(|| {
        let third = Float::from(1).over_small(3);
        let (mut sum, mut power) = (third.clone(), third);
        for n in 1..TERMS {
            power = power.over_small(9);
            sum = sum.plus(&power.over_small(2 * n + 1));
        }
        sum.magnified(1)
    })
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Float {}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        let difference = self.minus(other);
        if difference.is_zero() {
            Ordering::Equal
        } else if difference.is_negative() {
            Ordering::Less
        } else {
            Ordering::Greater
        }
    }
}
