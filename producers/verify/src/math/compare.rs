use super::{
    approx::value_of,
    float::Float,
    form::{Poly, Ratio},
    fuel::{Fuel, Stop},
    rational::Rational,
    unit::units_conflict,
    value::{Quantity, Sign, Value},
};

/// Least number of decimal places, and of significant digits, with which a decimal equals every
/// value that rounds to it.
const ROUNDED: u32 = 6;
/// Maximum number of elements of a set that is compared.
const ELEMENTS: usize = 100;

/// Compares two answers by value.
pub(crate) fn equal(a: &Value, b: &Value, fuel: &mut Fuel) -> Result<bool, Stop> {
    fuel.burn(1)?;
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => equal_numbers(a, b, fuel),
        (Value::Named(n, x), Value::Named(m, y)) if n == m => equal(x, y, fuel),
        (Value::Named(..) | Value::Relations(_), Value::Named(..) | Value::Relations(_)) => {
            let (a, b) = (a.relations(fuel)?, b.relations(fuel)?);
            match_one_to_one(&a, &b, is_same_relation, fuel)
        }
        (Value::Matrix(a), Value::Matrix(b)) => {
            let rows = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len());
            Ok(rows && equal_in_order(a.iter().flatten(), b.iter().flatten(), fuel)?)
        }
        (Value::List(open, a, close), Value::List(other, b, end)) => {
            // Two items may be an interval, so their brackets count; around three or more items
            // they do not.
            let brackets = a.len() != 2 || (open, close) == (other, end);
            Ok(brackets && a.len() == b.len() && equal_in_order(a.iter(), b.iter(), fuel)?)
        }
        (Value::List(_, list, _), Value::Set(set, false))
        | (Value::Set(set, false), Value::List(_, list, _)) => {
            // The set is a tuple without its brackets, or given name by name.
            Ok(list.len() == set.len() && equal_in_order(list.iter(), set.iter(), fuel)?)
        }
        (Value::Set(a, _), Value::Set(b, _)) => equal_sets(a, b, fuel),
        (Value::Region(..), _) | (_, Value::Region(..)) => {
            let ((n, a), (m, b)) = (a.region(fuel)?, b.region(fuel)?);
            Ok((n.is_none() || m.is_none() || n == m) && a.equals(&b, fuel)?)
        }
        (Value::Set(set, _), other) | (other, Value::Set(set, _)) => {
            // A set may name its only element more than once.
            let same = equal_in_order(set.iter(), std::iter::repeat_n(other, set.len()), fuel)?;
            Ok(same && !set.is_empty())
        }
        (Value::Named(_, value), other) => equal(value, other, fuel),
        (other, Value::Named(_, value)) => equal(other, value, fuel),
        _ => Ok(false),
    }
}

fn equal_in_order<'a>(
    a: impl Iterator<Item = &'a Value>,
    b: impl Iterator<Item = &'a Value>,
    fuel: &mut Fuel,
) -> Result<bool, Stop> {
    for (a, b) in a.zip(b) {
        if !equal(a, b, fuel)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares two sets; repeated elements count once.
fn equal_sets(a: &[Value], b: &[Value], fuel: &mut Fuel) -> Result<bool, Stop> {
    if a.len().max(b.len()) > ELEMENTS {
        return Err(Stop::TooLarge);
    }
    let within = |a: &[Value], b: &[Value], fuel: &mut Fuel| -> Result<bool, Stop> {
        for a in a {
            let mut found = false;
            for b in b {
                found = found || equal(a, b, fuel)?;
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    };
    Ok(within(a, b, fuel)? && within(b, a, fuel)?)
}

/// Matches the elements of two lists one to one, in any order.
fn match_one_to_one<T>(
    a: &[T],
    b: &[T],
    same: impl Fn(&T, &T, &mut Fuel) -> Result<bool, Stop>,
    fuel: &mut Fuel,
) -> Result<bool, Stop> {
    let mut left: Vec<&T> = b.iter().collect();
    for a in a {
        let mut found = None;
        for (at, b) in left.iter().enumerate() {
            if same(a, b, fuel)? {
                found = Some(at);
                break;
            }
        }
        let Some(at) = found else {
            return Ok(false);
        };
        left.swap_remove(at);
    }
    Ok(left.is_empty())
}

/// Returns true if one relation is a multiple of the other; for inequalities, a positive multiple.
fn is_same_relation(
    (a, sign): &(Ratio, Sign),
    (b, other): &(Ratio, Sign),
    fuel: &mut Fuel,
) -> Result<bool, Stop> {
    if sign != other {
        return Ok(false);
    }
    let (Some(x), Some(y)) = (leading(&a.top), leading(&b.top)) else {
        return Ok(a.is_zero() && b.is_zero());
    };
    let factor = x.times(&y.inverse()?, fuel)?;
    let directed = matches!(sign, Sign::Positive | Sign::NotNegative);
    Ok(!(directed && factor.is_negative()) && a.equals(&b.scaled(&factor, fuel)?, fuel)?)
}

fn leading(poly: &Poly) -> Option<Rational> {
    poly.terms()
        .next()
        .map(|(_, coefficient)| coefficient.clone())
}

fn equal_numbers(a: &Quantity, b: &Quantity, fuel: &mut Fuel) -> Result<bool, Stop> {
    if let (Some(a), Some(b)) = (&a.unit, &b.unit)
        && units_conflict(a, b)
    {
        return Ok(false);
    }
    if a.ratio.equals(&b.ratio, fuel)? {
        return Ok(true);
    }
    if a.percent != b.percent {
        // One half may be written as 50 %, and 50 % as 50.
        let hundred = Rational::from(100);
        let (share, plain) = if a.percent { (a, b) } else { (b, a) };
        return share
            .ratio
            .equals(&plain.ratio.scaled(&hundred, fuel)?, fuel);
    }
    is_rounded(a, b, fuel)
}

/// Returns true if the number with fewer places is the other one rounded, and has enough places for
/// that to be intended.
fn is_rounded(a: &Quantity, b: &Quantity, fuel: &mut Fuel) -> Result<bool, Stop> {
    let places = |number: &Quantity| number.places.filter(|&places| places >= ROUNDED);
    let Some(places) = [places(a), places(b)].into_iter().flatten().min() else {
        return Ok(false);
    };
    if !a.ratio.is_constant() || !b.ratio.is_constant() {
        return Ok(false);
    }
    let (Some(x), Some(y)) = (value_of(&a.ratio, fuel)?, value_of(&b.ratio, fuel)?) else {
        return Ok(false);
    };
    let scale = Float::from(10).to_integer_power(i64::from(places));
    let Some(scale) = scale else {
        return Ok(false);
    };
    // Both need enough significant digits, so that 0.000001 does not equal 0.0000012.
    let Some(digits) = Float::from(10).to_integer_power(i64::from(ROUNDED) - 1) else {
        return Ok(false);
    };
    let (x, y) = (x.times(&scale), y.times(&scale));
    let half = Float::from(1).magnified(-1);
    Ok(x.minus(&y).abs() <= half && x.abs() >= digits && y.abs() >= digits)
}
