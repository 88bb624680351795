use num_traits::ToPrimitive;

use super::{
    float::{Float, pi},
    fuel::{Fuel, Stop},
    poly::{Atom, Function, Monomial, Poly},
    ratio::Ratio,
    rational::Rational,
};

/// Number of bits to which a sum must vanish, relative to its largest term, to count as 0.
const AGREEMENT: i64 = 160;
/// Cost of a transcendental function in operations on 64 bits.
const TRANSCENDENTAL: u64 = 150;
/// Points at which sums are evaluated: of both signs, below and above 1, integers among them, since
/// factorials take no other arguments. The first pair is the first symbol's value as numerator and
/// denominator, the second is the step to each further symbol's value.
const POINTS: [(Point, Point); 10] = [
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
type Point = (i64, i64);

/// Returns true if a sum is 0 wherever it is defined.
///
/// Exact if its atoms are independent; otherwise decided by values to 256 bits at the points at
/// which the whole sum is defined.
pub(crate) fn vanishes(sum: &Poly, fuel: &mut Fuel) -> Result<bool, Stop> {
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
    for point in 0..points {
        let at = Place {
            point,
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

/// Value of an expression without symbols; `None` if it has symbols or is undefined.
pub(crate) fn value(ratio: &Ratio, fuel: &mut Fuel) -> Result<Option<Float>, Stop> {
    Place::NOWHERE.ratio(ratio, fuel)
}

/// Point at which a sum is evaluated.
struct Place<'a> {
    point: usize,
    symbols: &'a [String],
    /// True outside of roots and functions, where the imaginary unit may be replaced by any number:
    /// sums are linear in it, and vanish only if both of their parts do.
    outside: bool,
}

impl Place<'_> {
    const NOWHERE: Place<'static> = Place {
        point: 0,
        symbols: &[],
        outside: false,
    };

    fn ratio(&self, ratio: &Ratio, fuel: &mut Fuel) -> Result<Option<Float>, Stop> {
        let Some((top, _)) = self.sum(&ratio.top, fuel)? else {
            return Ok(None);
        };
        let Some((bottom, _)) = self.sum(&ratio.bottom, fuel)? else {
            return Ok(None);
        };
        Ok(top.over(&bottom))
    }

    /// Value of a sum, and the magnitude of its largest term.
    fn sum(&self, poly: &Poly, fuel: &mut Fuel) -> Result<Option<(Float, i64)>, Stop> {
        let (mut sum, mut size) = (Float::from(0), Float::from(0).magnitude());
        for (monomial, coefficient) in poly.terms() {
            let Some(product) = self.product(monomial, fuel)? else {
                return Ok(None);
            };
            let term = product.times(&Float::from(coefficient));
            size = size.max(term.magnitude());
            sum = sum.plus(&term);
        }
        Ok(Some((sum, size)))
    }

    fn product(&self, monomial: &Monomial, fuel: &mut Fuel) -> Result<Option<Float>, Stop> {
        let mut product = Float::from(1);
        for (atom, exponent) in &monomial.0 {
            fuel.burn(if exponent.is_integer() {
                16
            } else {
                TRANSCENDENTAL
            })?;
            let power = self
                .atom(atom, fuel)?
                .and_then(|base| base.to_power(exponent));
            let Some(power) = power else {
                return Ok(None);
            };
            product = product.times(&power);
        }
        Ok(Some(product))
    }

    fn atom(&self, atom: &Atom, fuel: &mut Fuel) -> Result<Option<Float>, Stop> {
        let inside = Place {
            outside: false,
            ..*self
        };
        Ok(match atom {
            Atom::Base(base) => Some(Float::from(base)),
            Atom::Pi => Some(pi().clone()),
            Atom::E => Float::from(1).exp(),
            Atom::I | Atom::Infinity if self.outside => {
                Float::from(1_234_577).over(&Float::from(71_993))
            }
            Atom::I | Atom::Infinity => None,
            Atom::Symbol(name) => self.symbol(name, fuel)?,
            Atom::Sum(ratio) => inside.ratio(ratio, fuel)?,
            Atom::Call(function, arguments) => {
                fuel.burn(TRANSCENDENTAL)?;
                let mut values = Vec::new();
                for argument in arguments {
                    let Some(value) = inside.ratio(argument, fuel)? else {
                        return Ok(None);
                    };
                    values.push(value);
                }
                call(*function, &values)
            }
            Atom::Raised(base, exponent) => {
                fuel.burn(2 * TRANSCENDENTAL)?;
                match (inside.atom(base, fuel)?, inside.product(exponent, fuel)?) {
                    (Some(base), Some(exponent)) => raised(&base, &exponent),
                    _ => None,
                }
            }
        })
    }

    fn symbol(&self, name: &str, fuel: &mut Fuel) -> Result<Option<Float>, Stop> {
        let Some(at) = self.symbols.iter().position(|known| known == name) else {
            return Ok(None);
        };
        let (start, step) = POINTS[self.point];
        let step = Rational::new(step.0.into(), step.1.into(), fuel)?;
        let start = Rational::new(start.0.into(), start.1.into(), fuel)?;
        let value = start.plus(&step.times(&Rational::from(at as i64), fuel)?, fuel)?;
        Ok(Some(Float::from(&value)))
    }
}

fn call(function: Function, values: &[Float]) -> Option<Float> {
    let first = values.first()?;
    match function {
        Function::Sin => first.sin_cos().map(|(sin, _)| sin),
        Function::Cos => first.sin_cos().map(|(_, cos)| cos),
        Function::Arcsin => first.arcsin(),
        Function::Arccos => Some(pi().magnified(-1).minus(&first.arcsin()?)),
        Function::Arctan => first.arctan(),
        Function::Ln => first.ln(),
        Function::Abs => Some(first.abs()),
        Function::Floor => first.floor().map(|floor| Float::from(&floor)),
        Function::Ceil => {
            let floor = first.negated().floor()?;
            Some(Float::from(&floor).negated())
        }
        Function::Factorial => factorial(integer(first)?),
        Function::Binomial => {
            let (n, k) = (integer(first)?, integer(values.get(1)?)?);
            let below = factorial(k)?.times(&factorial(n.checked_sub(k)?)?);
            factorial(n)?.over(&below)
        }
        Function::Power => raised(first, values.get(1)?),
    }
}

/// Factorial of n, for n up to 64.
fn factorial(n: i64) -> Option<Float> {
    let product = |product: Float, k: i64| product.times(&Float::from(k));
    (0..=64)
        .contains(&n)
        .then(|| (2..=n).fold(Float::from(1), product))
}

fn integer(value: &Float) -> Option<i64> {
    let floor = value.floor()?;
    (Float::from(&floor) == *value)
        .then(|| floor.to_i64())
        .flatten()
}

fn raised(base: &Float, exponent: &Float) -> Option<Float> {
    match integer(exponent) {
        Some(exponent) => base.to_integer_power(exponent),
        None => base.ln()?.times(exponent).exp(),
    }
}
