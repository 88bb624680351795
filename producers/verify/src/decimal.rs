/// Decimal number of any length: ±`digits` × 10^`exponent`, with a unique form for every value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// Significant digits, without zeros at either end; empty for 0.
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Creates a number from the digits before and after the point, and a power of ten.
    pub(crate) fn new(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Self {
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Self::zero();
        }
        let dropped = all.len() - all.trim_end_matches('0').len();
        let exponent = exponent
            .saturating_sub(fraction.len() as i64)
            .saturating_add(dropped as i64);
        Self {
            negative,
            digits: significant.to_owned(),
            exponent,
        }
    }

    fn zero() -> Self {
        Self {
            negative: false,
            digits: String::new(),
            exponent: 0,
        }
    }

    pub(crate) fn one() -> Self {
        Self {
            negative: false,
            digits: "1".to_owned(),
            exponent: 0,
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Multiplies the number by an integer.
    pub(crate) fn times(&self, factor: u64) -> Self {
        let mut reversed = String::new();
        let mut carry = 0_u128;
        for digit in self.digits.bytes().rev() {
            carry += u128::from(digit - b'0') * u128::from(factor);
            reversed.extend(char::from_digit((carry % 10) as u32, 10));
            carry /= 10;
        }
        while carry > 0 {
            reversed.extend(char::from_digit((carry % 10) as u32, 10));
            carry /= 10;
        }
        let digits: String = reversed.chars().rev().collect();
        Self::new(self.negative, &digits, "", self.exponent)
    }

    /// Divides the number by 100.
    pub(crate) fn hundredth(&self) -> Self {
        if self.is_zero() {
            return Self::zero();
        }
        Self {
            exponent: self.exponent.saturating_sub(2),
            ..self.clone()
        }
    }

    /// Converts to a fraction of integers, not reduced; `None` if they exceed 128 bits.
    pub(crate) fn fraction(&self) -> Option<(i128, i128)> {
        if self.is_zero() {
            return Some((0, 1));
        }
        let digits: i128 = self.digits.parse().ok()?;
        let digits = if self.negative { -digits } else { digits };
        let power = 10_i128.checked_pow(u32::try_from(self.exponent.unsigned_abs()).ok()?)?;
        if self.exponent < 0 {
            Some((digits, power))
        } else {
            Some((digits.checked_mul(power)?, 1))
        }
    }
}
