use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::{
    form::{Atom, Function, Monomial, Ratio},
    fuel::{Fuel, Stop},
    rational::Rational,
};

/// Largest exponent for which powers of sums are multiplied out.
const EXPANDED: i64 = 40;
/// Bound of the trial divisors; a remainder below the square of the last one is prime.
const DIVISORS: u32 = 8192;
/// Maximum number of bits of an integer that is factored.
const RADICAND: u64 = 1024;

/// Raises a base to an exponent.
pub(crate) fn power(base: &Ratio, exponent: &Ratio, fuel: &mut Fuel) -> Result<Ratio, Stop> {
    if let Some(exponent) = exponent.rational() {
        return rational_power(base, &exponent, fuel);
    }
    let opaque = || {
        let both = vec![base.clone(), exponent.clone()];
        Ok(Ratio::atom(Atom::Call(Function::Power, both)))
    };
    // The base is split into atoms, for each of which b^(p+q) = b^p·b^q holds.
    let Some((factors, terms)) = atoms(base, fuel)?.zip(exponent.poly()) else {
        return opaque();
    };
    let mut product = Ratio::from(1);
    for (atom, times) in factors.0 {
        for (monomial, coefficient) in terms.terms() {
            let exponent = times.times(coefficient, fuel)?;
            let part = symbolic_power(&atom, monomial, exponent, fuel)?;
            product = product.times(&part, fuel)?;
        }
    }
    Ok(product)
}

/// Raises `atom` to the power `monomial`·`times`.
fn symbolic_power(
    atom: &Atom,
    monomial: &Monomial,
    times: Rational,
    fuel: &mut Fuel,
) -> Result<Ratio, Stop> {
    if monomial.0.is_empty() {
        return simplified(Monomial(vec![(atom.clone(), times)]), fuel);
    }
    let imaginary = monomial.0.iter().position(|(atom, _)| *atom == Atom::I);
    if let (Atom::E, Some(at)) = (atom, imaginary) {
        // Euler's formula: e^iφ = cos φ + i·sin φ.
        let mut angle = monomial.clone();
        angle.0.remove(at);
        let angle = vec![Ratio::term(angle, times)];
        let sin = Ratio::atom(Atom::Call(Function::Sin, angle.clone()));
        let cos = Ratio::atom(Atom::Call(Function::Cos, angle));
        return cos.plus(&sin.times(&Ratio::atom(Atom::I), fuel)?, fuel);
    }
    let raised = Atom::Raised(Box::new(atom.clone()), monomial.clone());
    Ok(Ratio::term(
        Monomial(vec![(raised, times)]),
        Rational::one(),
    ))
}

fn simplified(monomial: Monomial, fuel: &mut Fuel) -> Result<Ratio, Stop> {
    let (monomial, coefficient) = Monomial::simplified(monomial.0.into_iter().collect(), fuel)?;
    Ok(Ratio::term(monomial, coefficient))
}

fn rational_power(base: &Ratio, exponent: &Rational, fuel: &mut Fuel) -> Result<Ratio, Stop> {
    if exponent.is_zero() {
        return Ok(Ratio::from(1));
    }
    if base.is_zero() {
        return if exponent.is_negative() {
            Err(Stop::Undefined)
        } else {
            Ok(Ratio::from(0))
        };
    }
    if let Some(whole) = exponent.small() {
        if let Some((monomial, coefficient)) = base.poly().and_then(|poly| poly.single())
            && let Ok(coefficient) = coefficient.power(whole, fuel)
        {
            let mut powers = BTreeMap::new();
            for (atom, times) in &monomial.0 {
                powers.insert(atom.clone(), times.times(exponent, fuel)?);
            }
            let (monomial, left) = Monomial::simplified(powers, fuel)?;
            return Ok(Ratio::term(monomial, coefficient.times(&left, fuel)?));
        }
        if base.poly().is_none_or(|poly| poly.single().is_none()) && whole.abs() <= EXPANDED {
            return expanded(base, whole, fuel);
        }
    }
    if let Some(product) = roots(base, exponent, fuel)? {
        return Ok(product);
    }
    let sum = Atom::Sum(Box::new(base.clone()));
    simplified(Monomial(vec![(sum, exponent.clone())]), fuel)
}

fn expanded(base: &Ratio, exponent: i64, fuel: &mut Fuel) -> Result<Ratio, Stop> {
    let mut product = Ratio::from(1);
    for _ in 0..exponent.abs() {
        product = product.times(base, fuel)?;
    }
    if exponent < 0 {
        Ratio::from(1).over(&product, fuel)
    } else {
        Ok(product)
    }
}

/// Raises a single term to a power factor by factor; `None` where that would change the value.
fn roots(base: &Ratio, exponent: &Rational, fuel: &mut Fuel) -> Result<Option<Ratio>, Stop> {
    let Some((monomial, coefficient)) = base.poly().and_then(|poly| poly.single()) else {
        return Ok(None);
    };
    let even = !exponent.bottom().bit(0);
    let mut product = Ratio::from(1);
    if coefficient.is_negative() {
        // Roots of odd degree are real; of even degree, only square roots are taken.
        let square = *exponent.bottom() == BigInt::from(2);
        product = if !even {
            Ratio::from(if exponent.top().bit(0) { -1 } else { 1 })
        } else if square && monomial.0.iter().all(|(atom, _)| is_positive(atom)) {
            let turns = Rational::from(exponent.top().clone());
            simplified(Monomial(vec![(Atom::I, turns)]), fuel)?
        } else {
            return Ok(None);
        };
    }
    let mut powers = BTreeMap::new();
    for (atom, times) in &monomial.0 {
        // The root of a square need not be its base, which may be negative.
        if !is_positive(atom) && even && (!times.is_integer() || !times.top().bit(0)) {
            return Ok(None);
        }
        if *atom == Atom::I || matches!(atom, Atom::Sum(_)) && !times.is_one() {
            return Ok(None);
        }
        powers.insert(atom.clone(), times.times(exponent, fuel)?);
    }
    let Some(primes) = primes(coefficient, fuel)? else {
        return Ok(None);
    };
    let (monomial, left) = Monomial::simplified(powers, fuel)?;
    product = product.times(&Ratio::term(monomial, left), fuel)?;
    for (prime, times) in primes.0 {
        let root = Monomial(vec![(prime, times.times(exponent, fuel)?)]);
        product = product.times(&simplified(root, fuel)?, fuel)?;
    }
    Ok(Some(product))
}

/// Returns true if an atom can only have a positive value.
fn is_positive(atom: &Atom) -> bool {
    matches!(atom, Atom::Base(_) | Atom::Pi | Atom::E)
        || matches!(atom, Atom::Raised(base, _) if is_positive(base))
}

/// Natural logarithm; that of a product of positive atoms becomes a sum.
pub(crate) fn logarithm(of: &Ratio, fuel: &mut Fuel) -> Result<Ratio, Stop> {
    if of.is_zero() {
        return Err(Stop::Undefined);
    }
    let opaque = |of: Ratio| Ratio::atom(Atom::Call(Function::Ln, vec![of]));
    let Some(atoms) = atoms(of, fuel)? else {
        return Ok(opaque(of.clone()));
    };
    if !atoms.0.iter().all(|(atom, _)| is_positive(atom)) {
        return Ok(opaque(of.clone()));
    }
    let mut sum = Ratio::from(0);
    for (atom, times) in atoms.0 {
        let part = match atom {
            Atom::E => Ratio::from(1),
            Atom::Base(base) => opaque(Ratio::from(Rational::from(base))),
            atom => opaque(Ratio::atom(atom)),
        };
        sum = sum.plus(&part.scaled(&times, fuel)?, fuel)?;
    }
    Ok(sum)
}

/// Splits a single term with a positive coefficient into atoms, the coefficient's primes among
/// them.
fn atoms(ratio: &Ratio, fuel: &mut Fuel) -> Result<Option<Monomial>, Stop> {
    let Some((monomial, coefficient)) = ratio.poly().and_then(|poly| poly.single()) else {
        return Ok(None);
    };
    let Some(primes) = primes(coefficient, fuel)?.filter(|_| !coefficient.is_negative()) else {
        return Ok(None);
    };
    if monomial.0.iter().any(|(atom, _)| *atom == Atom::I) {
        return Ok(None);
    }
    let mut powers: BTreeMap<Atom, Rational> = monomial.0.iter().cloned().collect();
    for (prime, times) in primes.0 {
        let sum = match powers.get(&prime) {
            Some(known) => known.plus(&times, fuel)?,
            None => times,
        };
        powers.insert(prime, sum);
    }
    powers.retain(|_, times| !times.is_zero());
    Ok(Some(Monomial(powers.into_iter().collect())))
}

/// Factors the absolute value into primes and, at most, an integer without small divisors. `None`
/// if it is too large.
fn primes(value: &Rational, fuel: &mut Fuel) -> Result<Option<Monomial>, Stop> {
    if value.top().bits().max(value.bottom().bits()) > RADICAND {
        return Ok(None);
    }
    let mut powers = Vec::new();
    for (integer, sign) in [(value.top().abs(), 1), (value.bottom().clone(), -1)] {
        for (prime, times) in factors(integer, fuel)? {
            powers.push((Atom::Base(prime), Rational::from(sign * times)));
        }
    }
    powers.sort();
    Ok(Some(Monomial(powers)))
}

fn factors(mut integer: BigInt, fuel: &mut Fuel) -> Result<Vec<(BigInt, i64)>, Stop> {
    let mut found = Vec::new();
    for divisor in 2..DIVISORS {
        if integer.is_one() || integer < BigInt::from(divisor * divisor) {
            break;
        }
        // A division by a small number takes linear time.
        fuel.burn(1 + integer.bits() / 256)?;
        let mut times = 0;
        while (&integer % divisor).is_zero() {
            integer /= divisor;
            times += 1;
            fuel.burn(1 + integer.bits() / 64)?;
        }
        if times > 0 {
            found.push((BigInt::from(divisor), times));
        }
    }
    if integer > BigInt::one() {
        let (base, times) = perfect_power(&integer, fuel)?;
        found.push((base, times));
    }
    Ok(found)
}

/// Finds the root of highest degree of an integer without small divisors, and that degree.
fn perfect_power(integer: &BigInt, fuel: &mut Fuel) -> Result<(BigInt, i64), Stop> {
    // Its prime divisors have at least 13 bits.
    let highest = integer.bits() / 13;
    for degree in (2..=highest.min(64)).rev() {
        fuel.admit(integer.bits(), RADICAND)?;
        let root = integer.nth_root(degree.to_u32().unwrap_or(2));
        if num_traits::pow(root.clone(), degree as usize) == *integer {
            return Ok((root, degree as i64));
        }
    }
    Ok((integer.clone(), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_taken_apart() {
        let mut fuel = Fuel::full();
        let found = factors(BigInt::from(2_i64.pow(5) * 3 * 10_007 * 10_007), &mut fuel).unwrap();
        let expected = [(2, 5), (3, 1), (10_007, 2)].map(|(prime, times)| (prime.into(), times));
        assert_eq!(found, expected);
    }
}
