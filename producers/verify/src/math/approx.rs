use num_traits::ToPrimitive;

use super::{
    float::{Float, pi},
    form::{Atom, Function, Monomial, Poly, Ratio},
    fuel::{Fuel, Stop},
    rational::Rational,
};

/// Cost of a transcendental function in operations on 64 bits.
const TRANSCENDENTAL: u64 = 150;
/// Numerator and denominator.
pub(super) type Fraction = (i64, i64);

/// Value of an expression without symbols; `None` if it has symbols or is undefined.
pub(crate) fn value_of(ratio: &Ratio, fuel: &mut Fuel) -> Result<Option<Float>, Stop> {
    EvaluationPoint::NOWHERE.ratio(ratio, fuel)
}

/// Point at which a sum is evaluated: a value for each symbol.
pub(super) struct EvaluationPoint<'a> {
    /// Value of the first symbol.
    pub(super) first: Fraction,
    /// Difference between the values of a symbol and of the one before it.
    pub(super) step: Fraction,
    pub(super) symbols: &'a [String],
    /// True outside of roots and functions, where the imaginary unit may be replaced by any number:
    /// sums are linear in it, and vanish only if both of their parts do.
    pub(super) outside: bool,
}

impl EvaluationPoint<'_> {
    const NOWHERE: EvaluationPoint<'static> = EvaluationPoint {
        first: (0, 1),
        step: (0, 1),
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
    pub(super) fn sum(&self, poly: &Poly, fuel: &mut Fuel) -> Result<Option<(Float, i64)>, Stop> {
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
        let inside = EvaluationPoint {
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
        let step = Rational::new(self.step.0.into(), self.step.1.into(), fuel)?;
        let start = Rational::new(self.first.0.into(), self.first.1.into(), fuel)?;
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
