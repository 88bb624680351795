use std::collections::BTreeMap;

use super::{
    form::{Atom, Monomial, Poly},
    fuel::{Fuel, Stop},
    rational::Rational,
};

impl Monomial {
    /// Multiplies two monomials; returns the product, and the rational factor into which powers of
    /// its atoms were simplified.
    pub(crate) fn times(&self, other: &Self, fuel: &mut Fuel) -> Result<(Self, Rational), Stop> {
        fuel.burn(2 + self.weight() + other.weight())?;
        let mut powers: BTreeMap<Atom, Rational> = self.0.iter().cloned().collect();
        for (atom, exponent) in &other.0 {
            let sum = match powers.get(atom) {
                Some(known) => known.plus(exponent, fuel)?,
                None => exponent.clone(),
            };
            powers.insert(atom.clone(), sum);
        }
        Self::simplified(powers, fuel)
    }

    /// Simplifies a product: whole powers of integers and of i become part of the rational factor.
    pub(crate) fn simplified(
        powers: BTreeMap<Atom, Rational>,
        fuel: &mut Fuel,
    ) -> Result<(Self, Rational), Stop> {
        let mut coefficient = Rational::one();
        let mut kept = Vec::with_capacity(powers.len());
        for (atom, mut exponent) in powers {
            match &atom {
                Atom::Base(base) => {
                    let whole = Rational::from(exponent.floor());
                    // A power that is too large to be written out stays a power.
                    let power = whole
                        .small()
                        .map(|whole| Rational::from(base.clone()).power(whole, fuel));
                    if let Some(Ok(power)) = power {
                        coefficient = coefficient.times(&power, fuel)?;
                        exponent = exponent.minus(&whole, fuel)?;
                    }
                }
                Atom::I => {
                    let turns = exponent.small().ok_or(Stop::NotMath)?.rem_euclid(4);
                    if turns >= 2 {
                        coefficient = coefficient.negated();
                    }
                    exponent = Rational::from(turns % 2);
                }
                _ => {}
            }
            if !exponent.is_zero() {
                kept.push((atom, exponent));
            }
        }
        Ok((Self(kept), coefficient))
    }
}

impl Poly {
    pub(crate) fn constant(value: Rational) -> Self {
        Self::term(Monomial::default(), value)
    }

    pub(crate) fn term(monomial: Monomial, coefficient: Rational) -> Self {
        let terms = (!coefficient.is_zero()).then_some((monomial, coefficient));
        Self(terms.into_iter().collect())
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the only term, if there is exactly one.
    pub(crate) fn single(&self) -> Option<(&Monomial, &Rational)> {
        self.0.first_key_value().filter(|_| self.0.len() == 1)
    }

    /// Value of the sum, if it is a rational number.
    pub(crate) fn rational(&self) -> Option<Rational> {
        if self.is_zero() {
            return Some(Rational::zero());
        }
        let (monomial, coefficient) = self.single()?;
        monomial.0.is_empty().then(|| coefficient.clone())
    }

    pub(crate) fn negated(&self) -> Self {
        let terms = self.0.iter();
        Self(terms.map(|(m, c)| (m.clone(), c.negated())).collect())
    }

    pub(crate) fn plus(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        fuel.burn(self.weight())?;
        let mut sum = self.clone();
        for (monomial, coefficient) in &other.0 {
            sum.add(monomial.clone(), coefficient, fuel)?;
        }
        Ok(sum)
    }

    pub(crate) fn times(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        let mut product = Self::default();
        for (a, x) in &self.0 {
            for (b, y) in &other.0 {
                let (monomial, left) = a.times(b, fuel)?;
                let coefficient = x.times(y, fuel)?.times(&left, fuel)?;
                product.add(monomial, &coefficient, fuel)?;
            }
        }
        Ok(product)
    }

    fn add(&mut self, monomial: Monomial, value: &Rational, fuel: &mut Fuel) -> Result<(), Stop> {
        fuel.burn(1 + monomial.weight())?;
        let sum = match self.0.get(&monomial) {
            Some(known) => known.plus(value, fuel)?,
            None => value.clone(),
        };
        if sum.is_zero() {
            self.0.remove(&monomial);
        } else {
            self.0.insert(monomial, sum);
        }
        Ok(())
    }
}
