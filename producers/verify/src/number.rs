use crate::{decimal::Decimal, scan};

/// A number as people write it: an integer, decimal, fraction or percentage.
#[derive(Debug, Clone)]
pub struct Number {
    pub(crate) numerator: Decimal,
    /// Never 0.
    pub(crate) denominator: Decimal,
    pub(crate) percent: bool,
}

impl Number {
    /// Reads a text that is one number and nothing else, apart from white space, a currency
    /// sign and a full stop.
    ///
    /// `42`, `-1,234.50`, `+7`, `.5`, `3/4`, `\frac{3}{4}`, `50%`, `$5`, `-$5`, `5 €`, `1.2e3`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_suffix('.').unwrap_or(text);
        let lexeme = scan::number_at(text, 0)?;
        (lexeme.end == text.len()).then_some(lexeme.number)?
    }

    /// Whether both are the same value, by exact arithmetic.
    ///
    /// A percentage is its hundredth; beside a number without a percent sign it may also stand
    /// for the bare number, since “what percentage” is answered with 50 as often as with 50%.
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

/// Numerator and denominator in lowest terms, the denominator positive.
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
