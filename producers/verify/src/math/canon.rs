use num_bigint::BigInt;
use num_traits::One;

use super::{
    form::{Atom, Function, Ratio},
    fuel::{Fuel, Stop},
    power::{logarithm, power},
    rational::Rational,
    tree::{Constant, FunctionName, Tree},
};

/// Largest factorial that is multiplied out; it has 1245 bits.
const FACTORIAL: i64 = 200;

/// Choice between the readings of ambiguous notation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// True if a logarithm without a base has base 10, not e.
    pub(crate) decimal_log: bool,
    /// Reading of ±: true for minus, false for plus; `None` makes both values.
    pub(crate) minus: Option<bool>,
}

/// Converter of expressions to quotients of sums.
pub(crate) struct Canon<'a> {
    pub(crate) fuel: &'a mut Fuel,
    pub(crate) reading: Reading,
    /// True inside a function, where a degree sign converts an angle; elsewhere it is a unit and is
    /// ignored.
    angle: bool,
}

impl<'a> Canon<'a> {
    pub(crate) fn new(reading: Reading, fuel: &'a mut Fuel) -> Self {
        Self {
            fuel,
            reading,
            angle: false,
        }
    }

    pub(crate) fn ratio(&mut self, tree: &Tree) -> Result<Ratio, Stop> {
        self.fuel.burn(1)?;
        match tree {
            Tree::Number(value, _) => Ok(Ratio::from(value.clone())),
            Tree::Constant(constant) => Ok(Ratio::atom(match constant {
                Constant::Pi => Atom::Pi,
                Constant::E => Atom::E,
                Constant::I => Atom::I,
                Constant::Infinity => Atom::Infinity,
            })),
            Tree::Symbol(name) => Ok(Ratio::atom(Atom::Symbol(name.clone()))),
            Tree::Sum(terms) => {
                let mut sum = Ratio::from(0);
                for term in terms {
                    let term = self.ratio(term)?;
                    sum = sum.plus(&term, self.fuel)?;
                }
                Ok(sum)
            }
            Tree::Product(factors) => {
                let mut product = Ratio::from(1);
                for factor in factors {
                    let factor = self.ratio(factor)?;
                    product = product.times(&factor, self.fuel)?;
                }
                Ok(product)
            }
            Tree::Negative(term) => Ok(self.ratio(term)?.negated()),
            Tree::Either(opposite, term) => {
                let minus = self.reading.minus.ok_or(Stop::NotMath)?;
                let term = self.ratio(term)?;
                Ok(if minus == *opposite {
                    term
                } else {
                    term.negated()
                })
            }
            Tree::Quotient(top, bottom) => {
                let (top, bottom) = (self.ratio(top)?, self.ratio(bottom)?);
                top.over(&bottom, self.fuel)
            }
            Tree::Power(base, exponent) => {
                let (base, exponent) = (self.ratio(base)?, self.ratio(exponent)?);
                power(&base, &exponent, self.fuel)
            }
            Tree::Root(degree, radicand) => {
                let (degree, radicand) = (self.ratio(degree)?, self.ratio(radicand)?);
                let exponent = Ratio::from(1).over(&degree, self.fuel)?;
                power(&radicand, &exponent, self.fuel)
            }
            Tree::Percent(share) => {
                let hundredth = Rational::new(BigInt::one(), 100.into(), self.fuel)?;
                self.ratio(share)?.scaled(&hundredth, self.fuel)
            }
            Tree::Degree(angle) if self.angle => {
                let degree = Rational::new(BigInt::one(), 180.into(), self.fuel)?;
                let angle = self.ratio(angle)?.scaled(&degree, self.fuel)?;
                angle.times(&Ratio::atom(Atom::Pi), self.fuel)
            }
            Tree::Degree(angle) => self.ratio(angle),
            Tree::Call(name, arguments) => {
                let outside = std::mem::replace(&mut self.angle, true);
                let arguments: Result<Vec<_>, _> =
                    arguments.iter().map(|tree| self.ratio(tree)).collect();
                self.angle = outside;
                self.call(*name, &arguments?)
            }
            Tree::List(_, items, _) if items.len() == 1 => self.ratio(&items[0]),
            Tree::List(..)
            | Tree::Set(..)
            | Tree::Combined(..)
            | Tree::Relation(..)
            | Tree::Unit(..)
            | Tree::Matrix(_) => Err(Stop::NotMath),
        }
    }

    fn call(&mut self, name: FunctionName, arguments: &[Ratio]) -> Result<Ratio, Stop> {
        let first = arguments.first().ok_or(Stop::NotMath)?;
        let opaque = |function| Ok(Ratio::atom(Atom::Call(function, vec![first.clone()])));
        let exact = first.rational();
        let is_zero = first.is_zero();
        match name {
            FunctionName::Sin | FunctionName::Arcsin | FunctionName::Arctan if is_zero => {
                Ok(Ratio::from(0))
            }
            FunctionName::Cos if is_zero => Ok(Ratio::from(1)),
            FunctionName::Sin => opaque(Function::Sin),
            FunctionName::Cos => opaque(Function::Cos),
            FunctionName::Arcsin => opaque(Function::Arcsin),
            FunctionName::Arccos => opaque(Function::Arccos),
            FunctionName::Arctan => opaque(Function::Arctan),
            FunctionName::Tan => self.over(FunctionName::Sin, FunctionName::Cos, first),
            FunctionName::Cot => self.over(FunctionName::Cos, FunctionName::Sin, first),
            FunctionName::Sec => {
                let cos = self.call(FunctionName::Cos, arguments)?;
                Ratio::from(1).over(&cos, self.fuel)
            }
            FunctionName::Csc => {
                let sin = self.call(FunctionName::Sin, arguments)?;
                Ratio::from(1).over(&sin, self.fuel)
            }
            FunctionName::Exp => power(&Ratio::atom(Atom::E), first, self.fuel),
            FunctionName::Sinh | FunctionName::Cosh => {
                let grows = self.call(FunctionName::Exp, arguments)?;
                let falls = self.call(FunctionName::Exp, &[first.negated()])?;
                let sum = if name == FunctionName::Sinh {
                    grows.minus(&falls, self.fuel)?
                } else {
                    grows.plus(&falls, self.fuel)?
                };
                sum.over(&Ratio::from(2), self.fuel)
            }
            FunctionName::Tanh => self.over(FunctionName::Sinh, FunctionName::Cosh, first),
            FunctionName::Ln => logarithm(first, self.fuel),
            FunctionName::BareLog if !self.reading.decimal_log => logarithm(first, self.fuel),
            FunctionName::BareLog => {
                self.call(FunctionName::Log, &[Ratio::from(10), first.clone()])
            }
            FunctionName::Log => {
                let argument = arguments.get(1).ok_or(Stop::NotMath)?;
                let (base, argument) = (
                    logarithm(first, self.fuel)?,
                    logarithm(argument, self.fuel)?,
                );
                argument.over(&base, self.fuel)
            }
            FunctionName::Abs => match exact {
                Some(value) if value.is_negative() => Ok(first.negated()),
                Some(_) => Ok(first.clone()),
                None => opaque(Function::Abs),
            },
            FunctionName::Floor => match exact {
                Some(value) => Ok(Ratio::from(Rational::from(value.floor()))),
                None => opaque(Function::Floor),
            },
            FunctionName::Ceil => match exact {
                Some(value) => Ok(Ratio::from(Rational::from(-value.negated().floor()))),
                None => opaque(Function::Ceil),
            },
            FunctionName::Factorial => match exact.map(|value| value.small()) {
                Some(Some(n @ 0..=FACTORIAL)) => self.product(1, n),
                Some(_) => Err(Stop::TooLarge),
                None => opaque(Function::Factorial),
            },
            FunctionName::Binomial => {
                let below = arguments.get(1).ok_or(Stop::NotMath)?;
                let small = |ratio: &Ratio| ratio.rational().and_then(|value| value.small());
                match (small(first), small(below)) {
                    (Some(n), Some(k)) if 0 <= k && k <= n && n <= 10_000 => {
                        let k = k.min(n - k).min(FACTORIAL + 1);
                        let below = self.product(1, k)?;
                        self.product(n - k + 1, n)?.over(&below, self.fuel)
                    }
                    (Some(_), Some(_)) => Err(Stop::TooLarge),
                    _ => Ok(Ratio::atom(Atom::Call(
                        Function::Binomial,
                        arguments.to_vec(),
                    ))),
                }
            }
        }
    }

    fn over(
        &mut self,
        top: FunctionName,
        bottom: FunctionName,
        argument: &Ratio,
    ) -> Result<Ratio, Stop> {
        let top = self.call(top, std::slice::from_ref(argument))?;
        let bottom = self.call(bottom, std::slice::from_ref(argument))?;
        top.over(&bottom, self.fuel)
    }

    /// Product of the integers from `first` to `last`, at most [`FACTORIAL`] of them.
    fn product(&mut self, first: i64, last: i64) -> Result<Ratio, Stop> {
        if last - first >= FACTORIAL {
            return Err(Stop::TooLarge);
        }
        let mut product = Rational::one();
        for factor in first..=last {
            product = product.times(&Rational::from(factor), self.fuel)?;
        }
        Ok(Ratio::from(product))
    }
}
