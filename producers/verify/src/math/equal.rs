//! Equality of expressions: exact where that is decidable here, otherwise by values at some points.

use super::{
    approx::{EvaluationPoint, Fraction},
    form::{Poly, Ratio},
    fuel::{Fuel, Stop},
    rational::Rational,
};

/// Number of bits to which a sum must vanish, relative to its largest term, to count as 0.
const AGREEMENT: i64 = 160;
/// Points at which sums are evaluated: of both signs, below and above 1, integers among them, since
/// factorials take no other arguments. The first pair is the first symbol's value as numerator and
/// denominator, the second is the step to each further symbol's value.
const POINTS: [(Fraction, Fraction); 10] = [
    ((7, 23), (5, 67)),
    ((37, 17), (11, 13)),
    ((-29, 19), (-17, 31)),
    ((5, 1), (2, 1)),
    ((-9, 41), (-3, 89)),
    ((8, 1), (3, 1)),
    ((131, 11), (47, 7)),
    ((-7, 1), (-4, 1)),
    ((12, 1), (-3, 1)),
    ((9, 1), (-2, 1)),
];

impl Ratio {
    /// Returns true if both have the same value wherever they are defined.
    pub(crate) fn equals(&self, other: &Self, fuel: &mut Fuel) -> Result<bool, Stop> {
        let left = self.top.times(&other.bottom, fuel)?;
        let right = other.top.times(&self.bottom, fuel)?;
        vanishes(&left.plus(&right.negated(), fuel)?, fuel)
    }
}

/// Returns true if a sum is 0 wherever it is defined.
///
/// Exact if its atoms are independent; otherwise decided by values to 256 bits at the points at
/// which the whole sum is defined.
fn vanishes(sum: &Poly, fuel: &mut Fuel) -> Result<bool, Stop> {
    if sum.is_zero() {
        return Ok(true);
    }
    let mut powers = sum.terms().flat_map(|(monomial, _)| &monomial.0);
    if powers.all(|(atom, exponent)| atom.is_independent(exponent)) {
        return Ok(false);
    }
    let whole = Ratio::from(Rational::one());
    let mut symbols = Vec::new();
    Ratio {
        top: sum.clone(),
        ..whole
    }
    .symbols(&mut symbols);
    let points = if symbols.is_empty() { 1 } else { POINTS.len() };
    let mut defined = 0;
    for (first, step) in POINTS.into_iter().take(points) {
        let at = EvaluationPoint {
            first,
            step,
            symbols: &symbols,
            outside: true,
        };
        let Some((value, size)) = at.sum(sum, fuel)? else {
            continue;
        };
        if !value.is_zero() && value.magnitude() > size - AGREEMENT {
            return Ok(false);
        }
        defined += 1;
    }
    // One point of many might be a coincidence (sin πn at an integer).
    Ok(defined >= points.min(2))
}
