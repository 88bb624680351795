use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use super::fuel::{Fuel, Stop};

/// Maximum number of bits of a numerator or denominator: 2466 decimal digits.
const BITS: u64 = 8192;

/// Exact quotient of integers in lowest terms, with a positive denominator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rational {
    top: BigInt,
    bottom: BigInt,
}

impl Rational {
    pub(crate) fn new(top: BigInt, bottom: BigInt, fuel: &mut Fuel) -> Result<Self, Stop> {
        if bottom.is_zero() {
            return Err(Stop::Undefined);
        }
        if bottom.is_one() {
            return fuel.admit(top.bits(), BITS).map(|()| Self { top, bottom });
        }
        fuel.admit(top.bits().max(bottom.bits()), 2 * BITS)?;
        let divisor = top.gcd(&bottom) * if bottom.is_negative() { -1 } else { 1 };
        let reduced = Self {
            top: top / &divisor,
            bottom: bottom / divisor,
        };
        fuel.admit(reduced.top.bits().max(reduced.bottom.bits()), BITS)?;
        Ok(reduced)
    }

    /// Creates `digits` × 10^`exponent`.
    pub(crate) fn decimal(digits: &str, exponent: i64, fuel: &mut Fuel) -> Result<Self, Stop> {
        // A decimal digit takes 3.3 bits.
        let length = digits.len() as u64 + exponent.unsigned_abs();
        if length > BITS / 4 {
            return Err(Stop::TooLarge);
        }
        let digits = BigInt::parse_bytes(digits.as_bytes(), 10).ok_or(Stop::NotMath)?;
        let power = BigInt::from(10).pow(exponent.unsigned_abs() as u32);
        if exponent < 0 {
            Self::new(digits, power, fuel)
        } else {
            Self::new(digits * power, BigInt::one(), fuel)
        }
    }

    pub(crate) fn zero() -> Self {
        Self::from(0)
    }

    pub(crate) fn one() -> Self {
        Self::from(1)
    }

    pub(crate) fn top(&self) -> &BigInt {
        &self.top
    }

    pub(crate) fn bottom(&self) -> &BigInt {
        &self.bottom
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.top.is_zero()
    }

    pub(crate) fn is_one(&self) -> bool {
        self.top.is_one() && self.bottom.is_one()
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.bottom.is_one()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.top.is_negative()
    }

    /// Converts to a 64-bit integer, if the value is one.
    pub(crate) fn small(&self) -> Option<i64> {
        self.is_integer().then(|| self.top.to_i64()).flatten()
    }

    pub(crate) fn floor(&self) -> BigInt {
        self.top.div_floor(&self.bottom)
    }

    pub(crate) fn negated(&self) -> Self {
        Self {
            top: -&self.top,
            bottom: self.bottom.clone(),
        }
    }

    pub(crate) fn inverse(&self) -> Result<Self, Stop> {
        let (top, bottom) = (self.top.clone(), self.bottom.clone());
        match top.sign() {
            Sign::NoSign => Err(Stop::Undefined),
            Sign::Plus => Ok(Self {
                top: bottom,
                bottom: top,
            }),
            Sign::Minus => Ok(Self {
                top: -bottom,
                bottom: -top,
            }),
        }
    }

    pub(crate) fn plus(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        if self.bottom == other.bottom {
            return Self::new(&self.top + &other.top, self.bottom.clone(), fuel);
        }
        let top = &self.top * &other.bottom + &other.top * &self.bottom;
        Self::new(top, &self.bottom * &other.bottom, fuel)
    }

    pub(crate) fn minus(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        self.plus(&other.negated(), fuel)
    }

    pub(crate) fn times(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        Self::new(&self.top * &other.top, &self.bottom * &other.bottom, fuel)
    }

    /// Raises to an integer power; refuses results that are too long.
    pub(crate) fn power(&self, exponent: i64, fuel: &mut Fuel) -> Result<Self, Stop> {
        let base = if exponent < 0 {
            self.inverse()?
        } else {
            self.clone()
        };
        let exponent = exponent.unsigned_abs();
        if base.is_zero() || base.is_one() {
            return Ok(if exponent == 0 { Self::one() } else { base });
        }
        let bits = base.top.bits().max(base.bottom.bits());
        if bits.saturating_mul(exponent) > BITS + bits {
            return Err(Stop::TooLarge);
        }
        Self::new(base.top.pow(exponent), base.bottom.pow(exponent), fuel)
    }
}

impl From<i64> for Rational {
    fn from(integer: i64) -> Self {
        Self::from(BigInt::from(integer))
    }
}

impl From<BigInt> for Rational {
    fn from(top: BigInt) -> Self {
        Self {
            top,
            bottom: BigInt::one(),
        }
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.top * &other.bottom).cmp(&(&other.top * &self.bottom))
    }
}
