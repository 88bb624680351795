use super::{
    canon::{Canon, Reading},
    form::{Atom, Ratio},
    fuel::{Fuel, Stop},
    region::{Region, root},
    tree::Tree,
};

/// Value of an answer, in the form that is compared.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Number(Quantity),
    /// Name, and the value that it is given.
    Named(String, Box<Value>),
    /// Tuple or interval: opening bracket, items, closing bracket.
    List(char, Vec<Value>, char),
    /// Unordered items; true if braces are written around them.
    Set(Vec<Value>, bool),
    /// Set of real numbers, with the name of the variable, if there is one.
    Region(Option<String>, Region),
    /// Equations and inequalities, each as an expression and its comparison with 0.
    Relations(Vec<(Ratio, Sign)>),
    Matrix(Vec<Vec<Value>>),
}

/// Number or expression, and the way it is written.
#[derive(Debug, Clone)]
pub(crate) struct Quantity {
    pub(crate) ratio: Ratio,
    pub(crate) percent: bool,
    pub(crate) unit: Option<String>,
    /// Number of digits after the point of a plain number.
    pub(crate) places: Option<u32>,
}

/// Comparison of an expression with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Zero,
    NotZero,
    Positive,
    NotNegative,
}

impl Value {
    pub(crate) fn new(tree: &Tree, reading: Reading, fuel: &mut Fuel) -> Result<Self, Stop> {
        fuel.burn(1)?;
        let each = |trees: &[Tree], fuel: &mut Fuel| -> Result<Vec<Self>, Stop> {
            trees
                .iter()
                .map(|tree| Self::new(tree, reading, fuel))
                .collect()
        };
        match tree {
            Tree::Set(items, braced) => Ok(Self::Set(flat(each(items, fuel)?), *braced)),
            Tree::List(open, items, close) => Ok(Self::List(*open, each(items, fuel)?, *close)),
            Tree::Matrix(rows) => {
                let rows: Result<_, _> = rows.iter().map(|row| each(row, fuel)).collect();
                Ok(Self::Matrix(rows?))
            }
            tree if reading.minus.is_none() && tree.has_either() => {
                let both = [false, true].map(|minus| {
                    let minus = Some(minus);
                    Self::single(tree, Reading { minus, ..reading }, fuel)
                });
                let [plus, minus] = both;
                Ok(Self::Set(vec![plus?, minus?], false))
            }
            tree => Self::single(tree, reading, fuel),
        }
    }

    /// Evaluates a tree under one reading of its ±.
    fn single(tree: &Tree, reading: Reading, fuel: &mut Fuel) -> Result<Self, Stop> {
        match tree {
            Tree::Combined(left, sign, right) => {
                let left = Self::new(left, reading, fuel)?;
                let right = Self::new(right, reading, fuel)?;
                combined(&left, *sign, &right, fuel)
            }
            Tree::Relation(first, rest) => relation(first, rest, reading, fuel),
            Tree::Symbol(name) if name == "set R" => Ok(Self::Region(None, Region::everything())),
            Tree::Set(..) | Tree::List(..) | Tree::Matrix(_) => Self::new(tree, reading, fuel),
            Tree::Unit(inner, unit) => match Self::single(inner, reading, fuel)? {
                Self::Number(number) => Ok(Self::Number(Quantity {
                    unit: Some(unit.clone()),
                    ..number
                })),
                other => Ok(other),
            },
            Tree::Degree(inner) => {
                let number = number(inner, reading, fuel)?;
                Ok(Self::Number(Quantity {
                    unit: Some("degree".to_owned()),
                    ..number
                }))
            }
            Tree::Percent(inner) => {
                let number = number(inner, reading, fuel)?;
                Ok(Self::Number(Quantity {
                    percent: true,
                    ..number
                }))
            }
            tree => Ok(Self::Number(number(tree, reading, fuel)?)),
        }
    }

    /// Converts to intervals; fails if the value is not a set of real numbers.
    pub(crate) fn region(&self, fuel: &mut Fuel) -> Result<(Option<String>, Region), Stop> {
        match self {
            Self::Region(name, region) => Ok((name.clone(), region.clone())),
            Self::Named(name, value) => {
                let (_, region) = value.region(fuel)?;
                Ok((Some(name.clone()), region))
            }
            Self::List(open, items, close) => match items.as_slice() {
                [Self::Number(low), Self::Number(high)] => {
                    let low = (&low.ratio, *open == '[');
                    let region = Region::between(low, (&high.ratio, *close == ']'), fuel)?;
                    Ok((None, region))
                }
                _ => Err(Stop::NotMath),
            },
            Self::Set(items, _) => {
                let mut all = (None, Region::nothing());
                for item in items {
                    let (name, region) = item.region(fuel)?;
                    all = (all.0.or(name), all.1.union(region, fuel)?);
                }
                Ok(all)
            }
            Self::Number(number) => Ok((None, Region::point(&number.ratio, fuel)?)),
            Self::Relations(_) | Self::Matrix(_) => Err(Stop::NotMath),
        }
    }

    /// Converts to relations; fails for other values.
    pub(crate) fn relations(&self, fuel: &mut Fuel) -> Result<Vec<(Ratio, Sign)>, Stop> {
        match self {
            Self::Relations(all) => Ok(all.clone()),
            Self::Named(name, value) => {
                let Self::Number(number) = &**value else {
                    return Err(Stop::NotMath);
                };
                let symbol = Ratio::atom(Atom::Symbol(name.clone()));
                Ok(vec![(symbol.minus(&number.ratio, fuel)?, Sign::Zero)])
            }
            _ => Err(Stop::NotMath),
        }
    }
}

fn number(tree: &Tree, reading: Reading, fuel: &mut Fuel) -> Result<Quantity, Stop> {
    // Signs outside of a unit or degree (−5 cm, -90°) apply to the whole.
    if let Tree::Negative(inner) | Tree::Either(_, inner) = tree
        && let Tree::Unit(part, unit) = &**inner
    {
        let sign = |part: Tree| match tree {
            Tree::Either(opposite, _) => Tree::Either(*opposite, Box::new(part)),
            _ => Tree::Negative(Box::new(part)),
        };
        let number = number(&sign((**part).clone()), reading, fuel)?;
        return Ok(Quantity {
            unit: Some(unit.clone()),
            ..number
        });
    }
    let percent = match tree {
        Tree::Negative(inner) => match &**inner {
            Tree::Percent(share) => Some(Tree::Negative(share.clone())),
            _ => None,
        },
        _ => None,
    };
    if let Some(share) = percent {
        let number = number(&share, reading, fuel)?;
        return Ok(Quantity {
            percent: true,
            ..number
        });
    }
    Ok(Quantity {
        ratio: Canon::new(reading, fuel).ratio(tree)?,
        percent: false,
        unit: None,
        places: tree.places(),
    })
}

/// Splices the sets that a ± made into the set that contains them.
fn flat(items: Vec<Value>) -> Vec<Value> {
    let mut all = Vec::new();
    for item in items {
        match item {
            Value::Set(inner, false) => all.extend(inner),
            item => all.push(item),
        }
    }
    all
}

fn combined(left: &Value, sign: char, right: &Value, fuel: &mut Fuel) -> Result<Value, Stop> {
    if let (Value::Set(a, _), '∪', Value::Set(b, _)) = (left, sign, right) {
        let all = a.iter().chain(b).cloned().collect();
        return Ok(Value::Set(all, true));
    }
    let ((a, left), (b, right)) = (left.region(fuel)?, right.region(fuel)?);
    if a.is_some() && b.is_some() && a != b {
        return Err(Stop::NotMath);
    }
    let region = match sign {
        '∪' => left.union(right, fuel)?,
        '∩' => left.intersection(&right, fuel)?,
        _ => left.without(&right, fuel)?,
    };
    Ok(Value::Region(a.or(b), region))
}

fn relation(
    first: &Tree,
    rest: &[(char, Tree)],
    reading: Reading,
    fuel: &mut Fuel,
) -> Result<Value, Stop> {
    // An approximation (≈) of the preceding value adds nothing.
    let named = first.name().filter(|_| rest.len() == 1);
    let near = rest.iter().position(|(sign, _)| *sign == '≈');
    let rest = match near {
        Some(0) if named.is_some() => rest,
        Some(0) => return Value::new(first, reading, fuel),
        Some(at) => &rest[..at],
        None => rest,
    };
    let equation = rest.iter().all(|(sign, _)| "=≈".contains(*sign));
    let Some((_, last)) = rest.last() else {
        return Err(Stop::NotMath);
    };
    if equation && let Some(name) = first.name() {
        let value = Value::new(last, reading, fuel)?;
        return Ok(Value::Named(name, Box::new(value)));
    }
    if equation && let Some(name) = last.name() {
        let value = Value::new(first, reading, fuel)?;
        return Ok(Value::Named(name, Box::new(value)));
    }
    let mut canon = Canon::new(reading, fuel);
    let mut left = canon.ratio(first)?;
    let mut pairs = Vec::new();
    for (sign, tree) in rest {
        let right = canon.ratio(tree)?;
        pairs.push((left.minus(&right, canon.fuel)?, *sign));
        left = right;
    }
    // The answer of 3 + 4 = 7 is 7.
    if equation && pairs.iter().all(|(difference, _)| difference.is_constant()) {
        return Value::new(last, reading, fuel);
    }
    if !equation && let Some(region) = linear(&pairs, fuel)? {
        return Ok(region);
    }
    let pairs = pairs.into_iter().map(|(difference, sign)| match sign {
        '<' => Ok((difference.negated(), Sign::Positive)),
        '>' => Ok((difference, Sign::Positive)),
        '≤' => Ok((difference.negated(), Sign::NotNegative)),
        '≥' => Ok((difference, Sign::NotNegative)),
        '=' => Ok((difference, Sign::Zero)),
        '≠' => Ok((difference, Sign::NotZero)),
        _ => Err(Stop::NotMath),
    });
    let pairs: Result<Vec<_>, _> = pairs.collect();
    Ok(Value::Relations(pairs?))
}

/// Interval that linear inequalities in one symbol leave.
fn linear(pairs: &[(Ratio, char)], fuel: &mut Fuel) -> Result<Option<Value>, Stop> {
    let mut all: Option<(String, Region)> = None;
    for (difference, sign) in pairs {
        let Some((name, at, rises)) = root(difference, fuel)? else {
            return Ok(None);
        };
        let sign = match sign {
            '<' if !rises => '>',
            '>' if !rises => '<',
            '≤' if !rises => '≥',
            '≥' if !rises => '≤',
            sign => *sign,
        };
        let region = Region::beside(&at, sign, fuel)?;
        all = match all {
            None => Some((name, region)),
            Some((known, common)) if known == name => {
                Some((name, common.intersection(&region, fuel)?))
            }
            Some(_) => return Ok(None),
        };
    }
    Ok(all.map(|(name, region)| Value::Region(Some(name), region)))
}
