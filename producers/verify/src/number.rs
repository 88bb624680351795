use crate::decimal::Decimal;

/// Number as people write it: an integer, decimal, fraction or percentage, or so many dozens or
/// millions.
#[derive(Debug, Clone)]
pub struct Number {
    pub(crate) numerator: Decimal,
    /// Denominator; 0 is refused when the number is read.
    pub(crate) denominator: Decimal,
    pub(crate) percent: bool,
}

impl Number {
    /// Compares two numbers by value, in exact arithmetic.
    ///
    /// A percentage equals its hundredth. Compared with a number without percent sign it may also
    /// equal the bare number, since “what percentage” is answered by 50 as often as by 50%.
    ///
    /// Beyond 128 bits, decimals are compared by their normalised digits, which is exact too; a
    /// fraction that large equals only the same fraction.
    pub fn equals(&self, other: &Self) -> bool {
        let bare = same(self.parts(), other.parts());
        if self.percent == other.percent {
            return bare;
        }
        let (percentage, plain) = if self.percent {
            (self, other)
        } else {
            (other, self)
        };
        bare || same(
            (&percentage.numerator.hundredth(), &percentage.denominator),
            plain.parts(),
        )
    }

    fn parts(&self) -> (&Decimal, &Decimal) {
        (&self.numerator, &self.denominator)
    }
}

type Parts<'a> = (&'a Decimal, &'a Decimal);

fn same(a: Parts<'_>, b: Parts<'_>) -> bool {
    match (reduced(a), reduced(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Reduces a fraction to lowest terms with a positive denominator; `None` beyond 128 bits.
fn reduced((numerator, denominator): Parts<'_>) -> Option<(i128, i128)> {
    let (a, b) = numerator.fraction()?;
    let (c, d) = denominator.fraction()?;
    let (top, bottom) = (a.checked_mul(d)?, b.checked_mul(c)?);
    let divisor = gcd(top.unsigned_abs(), bottom.unsigned_abs());
    let divisor = i128::try_from(divisor)
        .ok()
        .filter(|&divisor| divisor > 0)?;
    let sign = bottom.signum();
    Some((
        sign.checked_mul(top / divisor)?,
        sign.checked_mul(bottom / divisor)?,
    ))
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
