use super::{
    approx::value_of,
    float::Float,
    form::{Atom, Monomial, Ratio},
    fuel::{Fuel, Stop},
    rational::Rational,
};

/// Maximum number of intervals in a union.
const RANGES: usize = 64;

/// Set of real numbers, as ordered intervals that do not touch.
#[derive(Debug, Clone)]
pub(crate) struct Region(Vec<Range>);

/// Interval; a point has equal ends that are both closed.
#[derive(Debug, Clone)]
struct Range {
    low: End,
    high: End,
}

#[derive(Debug, Clone)]
struct End {
    value: Extended,
    closed: bool,
}

/// Real number or an infinity.
#[derive(Debug, Clone)]
enum Extended {
    MinusInfinity,
    /// Exact value, and a float to compare it by.
    Real(Ratio, Float),
    Infinity,
}

impl Extended {
    fn new(ratio: &Ratio, fuel: &mut Fuel) -> Result<Self, Stop> {
        if let Some((Monomial(powers), coefficient)) = ratio.poly().and_then(|poly| poly.single())
            && matches!(powers.as_slice(), [(Atom::Infinity, _)])
        {
            return Ok(if coefficient.is_negative() {
                Self::MinusInfinity
            } else {
                Self::Infinity
            });
        }
        let value = value_of(ratio, fuel)?.ok_or(Stop::NotMath)?;
        Ok(Self::Real(ratio.clone(), value))
    }

    fn is_below(&self, other: &Self, fuel: &mut Fuel) -> Result<bool, Stop> {
        Ok(match (self, other) {
            (Self::Infinity, _) | (_, Self::MinusInfinity) => false,
            (Self::MinusInfinity, _) | (_, Self::Infinity) => true,
            (Self::Real(a, x), Self::Real(b, y)) => !a.equals(b, fuel)? && x < y,
        })
    }

    fn equals(&self, other: &Self, fuel: &mut Fuel) -> Result<bool, Stop> {
        match (self, other) {
            (Self::MinusInfinity, Self::MinusInfinity) | (Self::Infinity, Self::Infinity) => {
                Ok(true)
            }
            (Self::Real(a, _), Self::Real(b, _)) => a.equals(b, fuel),
            _ => Ok(false),
        }
    }
}

impl Region {
    pub(crate) fn everything() -> Self {
        let end = |value| End {
            value,
            closed: false,
        };
        Self(vec![Range {
            low: end(Extended::MinusInfinity),
            high: end(Extended::Infinity),
        }])
    }

    pub(crate) fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Interval between two ends, each with true if it is closed.
    pub(crate) fn between(
        low: (&Ratio, bool),
        high: (&Ratio, bool),
        fuel: &mut Fuel,
    ) -> Result<Self, Stop> {
        let end = |(ratio, closed): (&Ratio, bool), fuel: &mut Fuel| {
            let value = Extended::new(ratio, fuel)?;
            let closed = closed && matches!(value, Extended::Real(..));
            Ok(End { value, closed })
        };
        let (low, high) = (end(low, fuel)?, end(high, fuel)?);
        Self(vec![Range { low, high }]).normalized(fuel)
    }

    pub(crate) fn point(at: &Ratio, fuel: &mut Fuel) -> Result<Self, Stop> {
        Self::between((at, true), (at, true), fuel)
    }

    /// Set of the numbers x with x `sign` `bound`, where `sign` is `<`, `≤`, `>`, `≥`, `=` or `≠`.
    pub(crate) fn beside(bound: &Ratio, sign: char, fuel: &mut Fuel) -> Result<Self, Stop> {
        let above = Ratio::atom(Atom::Infinity);
        let below = above.negated();
        match sign {
            '<' | '≤' => Self::between((&below, false), (bound, sign == '≤'), fuel),
            '>' | '≥' => Self::between((bound, sign == '≥'), (&above, false), fuel),
            '=' => Self::point(bound, fuel),
            '≠' => Self::point(bound, fuel)?.complement(fuel),
            _ => Err(Stop::NotMath),
        }
    }

    pub(crate) fn union(mut self, other: Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        self.0.extend(other.0);
        self.normalized(fuel)
    }

    pub(crate) fn intersection(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        let mut common = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                let low = inner_end(&a.low, &b.low, false, fuel)?;
                let high = inner_end(&a.high, &b.high, true, fuel)?;
                common.push(Range { low, high });
            }
        }
        Self(common).normalized(fuel)
    }

    pub(crate) fn without(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        self.intersection(&other.complement(fuel)?, fuel)
    }

    fn complement(&self, fuel: &mut Fuel) -> Result<Self, Stop> {
        let mut rest = Self::everything();
        for range in &self.0 {
            let open = |end: &End| End {
                value: end.value.clone(),
                closed: !end.closed && matches!(end.value, Extended::Real(..)),
            };
            let outside = Self(vec![
                Range {
                    low: End {
                        value: Extended::MinusInfinity,
                        closed: false,
                    },
                    high: open(&range.low),
                },
                Range {
                    low: open(&range.high),
                    high: End {
                        value: Extended::Infinity,
                        closed: false,
                    },
                },
            ]);
            rest = rest.intersection(&outside.normalized(fuel)?, fuel)?;
        }
        Ok(rest)
    }

    pub(crate) fn equals(&self, other: &Self, fuel: &mut Fuel) -> Result<bool, Stop> {
        if self.0.len() != other.0.len() {
            return Ok(false);
        }
        for (a, b) in self.0.iter().zip(&other.0) {
            for (a, b) in [(&a.low, &b.low), (&a.high, &b.high)] {
                if a.closed != b.closed || !a.value.equals(&b.value, fuel)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Returns the intervals in normal form: sorted, without empty ones, with those joined that overlap or
    /// touch.
    fn normalized(mut self, fuel: &mut Fuel) -> Result<Self, Stop> {
        if self.0.len() > RANGES {
            return Err(Stop::TooLarge);
        }
        let mut sorted: Vec<Range> = Vec::new();
        for range in self.0.drain(..) {
            if is_empty(&range, fuel)? {
                continue;
            }
            let mut at = sorted.len();
            while at > 0 && begins_before(&range, &sorted[at - 1], fuel)? {
                at -= 1;
            }
            sorted.insert(at, range);
        }
        let mut joined: Vec<Range> = Vec::new();
        for range in sorted {
            let Some(last) = joined.last_mut() else {
                joined.push(range);
                continue;
            };
            let touches = last.high.value.equals(&range.low.value, fuel)?
                && (last.high.closed || range.low.closed);
            if !touches && !range.low.value.is_below(&last.high.value, fuel)? {
                joined.push(range);
                continue;
            }
            if last.high.value.is_below(&range.high.value, fuel)? {
                last.high = range.high;
            } else if last.high.value.equals(&range.high.value, fuel)? {
                last.high.closed |= range.high.closed;
            }
        }
        Ok(Self(joined))
    }
}

fn is_empty(range: &Range, fuel: &mut Fuel) -> Result<bool, Stop> {
    let (low, high) = (&range.low, &range.high);
    if low.value.equals(&high.value, fuel)? {
        return Ok(!(low.closed && high.closed));
    }
    high.value.is_below(&low.value, fuel)
}

fn begins_before(a: &Range, b: &Range, fuel: &mut Fuel) -> Result<bool, Stop> {
    if a.low.value.equals(&b.low.value, fuel)? {
        return Ok(a.low.closed && !b.low.closed);
    }
    a.low.value.is_below(&b.low.value, fuel)
}

/// Returns the inner one of two ends: the higher of two low ends, the lower of two high ends.
fn inner_end(a: &End, b: &End, high: bool, fuel: &mut Fuel) -> Result<End, Stop> {
    if a.value.equals(&b.value, fuel)? {
        return Ok(End {
            value: a.value.clone(),
            closed: a.closed && b.closed,
        });
    }
    let a_is_lower = a.value.is_below(&b.value, fuel)?;
    Ok(if a_is_lower == high { a } else { b }.clone())
}

/// Root of a linear expression in one symbol: the symbol, the root, and true if the expression
/// rises there.
pub(crate) fn root(of: &Ratio, fuel: &mut Fuel) -> Result<Option<(String, Ratio, bool)>, Stop> {
    let mut symbols = Vec::new();
    of.symbols(&mut symbols);
    let (Some(poly), [name]) = (of.poly(), symbols.as_slice()) else {
        return Ok(None);
    };
    let variable = Atom::Symbol(name.clone());
    let (mut slope, mut rest) = (Ratio::from(0), Ratio::from(0));
    for (monomial, coefficient) in poly.terms() {
        let mut cofactor = monomial.clone();
        cofactor.0.retain(|(atom, _)| *atom != variable);
        let powers = monomial.0.len() - cofactor.0.len();
        let linear = monomial
            .0
            .iter()
            .all(|(atom, power)| *atom != variable || *power == Rational::one());
        let term = Ratio::term(cofactor, coefficient.clone());
        if !linear || !term.is_constant() {
            return Ok(None);
        }
        let part = if powers == 1 { &mut slope } else { &mut rest };
        *part = part.plus(&term, fuel)?;
    }
    let Some(rises) = value_of(&slope, fuel)?.filter(|slope| !slope.is_zero()) else {
        return Ok(None);
    };
    let at = rest.negated().over(&slope, fuel)?;
    Ok(Some((name.clone(), at, !rises.is_negative())))
}
