use super::{
    form::{Atom, Monomial, Poly, Ratio},
    fuel::{Fuel, Stop},
    rational::Rational,
};

impl Ratio {
    fn whole(top: Poly) -> Self {
        Self {
            top,
            bottom: Poly::constant(Rational::one()),
        }
    }

    pub(crate) fn atom(atom: Atom) -> Self {
        let monomial = Monomial(vec![(atom, Rational::one())]);
        Self::whole(Poly::term(monomial, Rational::one()))
    }

    pub(crate) fn term(monomial: Monomial, coefficient: Rational) -> Self {
        Self::whole(Poly::term(monomial, coefficient))
    }

    fn new(top: Poly, bottom: Poly, fuel: &mut Fuel) -> Result<Self, Stop> {
        let Some((monomial, coefficient)) = bottom.single() else {
            return if bottom.is_zero() {
                Err(Stop::Undefined)
            } else {
                Ok(Self { top, bottom })
            };
        };
        let powers = monomial.0.iter();
        let powers = powers.map(|(atom, exponent)| (atom.clone(), exponent.negated()));
        let (inverse, left) = Monomial::simplified(powers.collect(), fuel)?;
        let coefficient = coefficient.inverse()?.times(&left, fuel)?;
        let top = top.times(&Poly::term(inverse, coefficient), fuel)?;
        Ok(Self::whole(top))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.top.is_zero()
    }

    fn is_whole(&self) -> bool {
        self.bottom.rational().is_some_and(|value| value.is_one())
    }

    /// Value of the quotient, if it is evidently a rational number.
    pub(crate) fn rational(&self) -> Option<Rational> {
        self.is_whole().then(|| self.top.rational()).flatten()
    }

    /// Numerator, if the denominator is 1.
    pub(crate) fn poly(&self) -> Option<&Poly> {
        self.is_whole().then_some(&self.top)
    }

    pub(crate) fn negated(&self) -> Self {
        Self {
            top: self.top.negated(),
            bottom: self.bottom.clone(),
        }
    }

    pub(crate) fn plus(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        if self.bottom == other.bottom {
            let top = self.top.plus(&other.top, fuel)?;
            return Self::new(top, self.bottom.clone(), fuel);
        }
        let left = self.top.times(&other.bottom, fuel)?;
        let right = other.top.times(&self.bottom, fuel)?;
        let bottom = self.bottom.times(&other.bottom, fuel)?;
        Self::new(left.plus(&right, fuel)?, bottom, fuel)
    }

    pub(crate) fn minus(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        self.plus(&other.negated(), fuel)
    }

    pub(crate) fn times(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        let top = self.top.times(&other.top, fuel)?;
        Self::new(top, self.bottom.times(&other.bottom, fuel)?, fuel)
    }

    pub(crate) fn scaled(&self, factor: &Rational, fuel: &mut Fuel) -> Result<Self, Stop> {
        self.times(&Self::from(factor.clone()), fuel)
    }

    pub(crate) fn over(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        let top = self.top.times(&other.bottom, fuel)?;
        Self::new(top, self.bottom.times(&other.top, fuel)?, fuel)
    }
}

impl From<Rational> for Ratio {
    fn from(value: Rational) -> Self {
        Self::whole(Poly::constant(value))
    }
}

impl From<i64> for Ratio {
    fn from(value: i64) -> Self {
        Self::from(Rational::from(value))
    }
}
