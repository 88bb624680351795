use super::{
    approx::value,
    float::Float,
    fuel::{Fuel, Stop},
    poly::{Atom, Monomial},
    ratio::Ratio,
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
    place: Place,
    closed: bool,
}

#[derive(Debug, Clone)]
enum Place {
    Below,
    /// Exact value, and a float to compare it by.
    At(Ratio, Float),
    Above,
}

impl Place {
    fn new(ratio: &Ratio, fuel: &mut Fuel) -> Result<Self, Stop> {
        if let Some((Monomial(powers), coefficient)) = ratio.poly().and_then(|poly| poly.single())
            && matches!(powers.as_slice(), [(Atom::Infinity, _)])
        {
            return Ok(if coefficient.is_negative() {
                Self::Below
            } else {
                Self::Above
            });
        }
        let place = value(ratio, fuel)?.ok_or(Stop::NotMath)?;
        Ok(Self::At(ratio.clone(), place))
    }

    fn is_below(&self, other: &Self, fuel: &mut Fuel) -> Result<bool, Stop> {
        Ok(match (self, other) {
            (Self::Above, _) | (_, Self::Below) => false,
            (Self::Below, _) | (_, Self::Above) => true,
            (Self::At(a, x), Self::At(b, y)) => !a.equals(b, fuel)? && x < y,
        })
    }

    fn equals(&self, other: &Self, fuel: &mut Fuel) -> Result<bool, Stop> {
        match (self, other) {
            (Self::Below, Self::Below) | (Self::Above, Self::Above) => Ok(true),
            (Self::At(a, _), Self::At(b, _)) => a.equals(b, fuel),
            _ => Ok(false),
        }
    }
}

impl Region {
    pub(crate) fn everything() -> Self {
        let end = |place| End {
            place,
            closed: false,
        };
        Self(vec![Range {
            low: end(Place::Below),
            high: end(Place::Above),
        }])
    }

    pub(crate) fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Interval between two ends; the flag of each tells if it is closed.
    pub(crate) fn between(
        low: (&Ratio, bool),
        high: (&Ratio, bool),
        fuel: &mut Fuel,
    ) -> Result<Self, Stop> {
        let end = |(ratio, closed): (&Ratio, bool), fuel: &mut Fuel| {
            let place = Place::new(ratio, fuel)?;
            let closed = closed && matches!(place, Place::At(..));
            Ok(End { place, closed })
        };
        let (low, high) = (end(low, fuel)?, end(high, fuel)?);
        Self(vec![Range { low, high }]).normal(fuel)
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
        self.normal(fuel)
    }

    pub(crate) fn intersection(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        let mut common = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                let low = inner(&a.low, &b.low, false, fuel)?;
                let high = inner(&a.high, &b.high, true, fuel)?;
                common.push(Range { low, high });
            }
        }
        Self(common).normal(fuel)
    }

    pub(crate) fn without(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Stop> {
        self.intersection(&other.complement(fuel)?, fuel)
    }

    fn complement(&self, fuel: &mut Fuel) -> Result<Self, Stop> {
        let mut rest = Self::everything();
        for range in &self.0 {
            let open = |end: &End| End {
                place: end.place.clone(),
                closed: !end.closed && matches!(end.place, Place::At(..)),
            };
            let outside = Self(vec![
                Range {
                    low: End {
                        place: Place::Below,
                        closed: false,
                    },
                    high: open(&range.low),
                },
                Range {
                    low: open(&range.high),
                    high: End {
                        place: Place::Above,
                        closed: false,
                    },
                },
            ]);
            rest = rest.intersection(&outside.normal(fuel)?, fuel)?;
        }
        Ok(rest)
    }

    pub(crate) fn equals(&self, other: &Self, fuel: &mut Fuel) -> Result<bool, Stop> {
        if self.0.len() != other.0.len() {
            return Ok(false);
        }
        for (a, b) in self.0.iter().zip(&other.0) {
            for (a, b) in [(&a.low, &b.low), (&a.high, &b.high)] {
                if a.closed != b.closed || !a.place.equals(&b.place, fuel)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Normalises the intervals: sorted, without empty ones, with those joined that overlap or
    /// touch.
    fn normal(mut self, fuel: &mut Fuel) -> Result<Self, Stop> {
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
            let touches = last.high.place.equals(&range.low.place, fuel)?
                && (last.high.closed || range.low.closed);
            if !touches && !range.low.place.is_below(&last.high.place, fuel)? {
                joined.push(range);
                continue;
            }
            if last.high.place.is_below(&range.high.place, fuel)? {
                last.high = range.high;
            } else if last.high.place.equals(&range.high.place, fuel)? {
                last.high.closed |= range.high.closed;
            }
        }
        Ok(Self(joined))
    }
}

fn is_empty(range: &Range, fuel: &mut Fuel) -> Result<bool, Stop> {
    let (low, high) = (&range.low, &range.high);
    if low.place.equals(&high.place, fuel)? {
        return Ok(!(low.closed && high.closed));
    }
    high.place.is_below(&low.place, fuel)
}

fn begins_before(a: &Range, b: &Range, fuel: &mut Fuel) -> Result<bool, Stop> {
    if a.low.place.equals(&b.low.place, fuel)? {
        return Ok(a.low.closed && !b.low.closed);
    }
    a.low.place.is_below(&b.low.place, fuel)
}

/// Returns the inner one of two ends: the higher of two low ends, the lower of two high ends.
fn inner(a: &End, b: &End, high: bool, fuel: &mut Fuel) -> Result<End, Stop> {
    if a.place.equals(&b.place, fuel)? {
        return Ok(End {
            place: a.place.clone(),
            closed: a.closed && b.closed,
        });
    }
    let a_is_lower = a.place.is_below(&b.place, fuel)?;
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
        let mut others = monomial.clone();
        others.0.retain(|(atom, _)| *atom != variable);
        let powers = monomial.0.len() - others.0.len();
        let linear = monomial
            .0
            .iter()
            .all(|(atom, power)| *atom != variable || *power == Rational::one());
        let term = Ratio::term(others, coefficient.clone());
        if !linear || !term.is_constant() {
            return Ok(None);
        }
        let part = if powers == 1 { &mut slope } else { &mut rest };
        *part = part.plus(&term, fuel)?;
    }
    let Some(rises) = value(&slope, fuel)?.filter(|slope| !slope.is_zero()) else {
        return Ok(None);
    };
    let at = rest.negated().over(&slope, fuel)?;
    Ok(Some((name.clone(), at, !rises.is_negative())))
}
